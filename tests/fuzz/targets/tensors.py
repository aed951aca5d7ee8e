"""Files of arrays: safetensors of parameters and of named arrays, PCA, prior samples, .npy."""

import functools
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.fuzz.framework import Target, kept_folder
from tests.fuzz.hostile import damaged, hostile_json

RNG = np.random.default_rng(0)
TREE = {
    "a/kernel": RNG.standard_normal((3, 4)).astype(np.float32),
    "a/bias": RNG.standard_normal(4).astype(np.float32),
    "scale": np.float32(2.0).reshape(()),
}
SHAPES = {key: array.shape for key, array in TREE.items()}


@functools.cache
def samples() -> dict[str, bytes]:
    from unclip_jax.checkpoint.pca_file import save_pca
    from unclip_jax.checkpoint.prior_samples import PriorSamples, save_prior_samples
    from unclip_jax.checkpoint.tensors import write_streamed
    from unclip_jax.models.pca import Pca

    folder = kept_folder("tensors")
    write_streamed(folder / "tree", TREE, "float16")
    eye = np.eye(4, dtype=np.float32)
    save_pca(folder / "pca", Pca(eye[0], eye, np.ones(4, np.float32), "0" * 64))
    tokens = np.arange(6, dtype=np.int32).reshape(2, 3)
    embeddings = np.ones((2, 2, 4), np.float32)
    save_prior_samples(folder / "prior", PriorSamples("0" * 64, tokens, embeddings))
    buffer = io.BytesIO()
    np.save(buffer, np.linspace(0.01, 0.9, 20))
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return {**files, "npy": buffer.getvalue()}


def damaged_tensors(name: str) -> st.SearchStrategy[bytes]:
    """Damages the file anywhere, or puts a hostile header before its arrays."""
    whole = samples()[name]
    size = int.from_bytes(whole[:8], "little")
    header, body = json.loads(whole[8 : 8 + size]), whole[8 + size :]

    def joined(text: bytes) -> bytes:
        return len(text).to_bytes(8, "little") + text + body

    return st.one_of(damaged(whole), hostile_json(header).map(joined))


def feed_to(read: Any) -> Any:
    def feed(case: bytes, folder: Path) -> None:
        path = folder / "x.safetensors"
        path.write_bytes(case)
        read(path)

    return feed


def read_tree(path: Path) -> None:
    from unclip_jax.checkpoint import tensors

    tensors.read_shapes(path)
    tensors.read_tree(path, SHAPES, "float32")


def read_arrays(path: Path) -> None:
    from unclip_jax.checkpoint import tensors

    tensors.read_arrays(path)


def open_foreign(path: Path) -> None:
    from unclip_jax.convert.torch_files import open_tensors

    found = open_tensors(path)
    for key in found.shapes:
        found[key]


def load_pca(path: Path) -> None:
    from unclip_jax.checkpoint import pca_file

    pca_file.load_pca(path)


def load_prior(path: Path) -> None:
    from unclip_jax.checkpoint import prior_samples

    prior_samples.load_prior_samples(path, "0" * 64)


def read_table(path: Path) -> None:
    from unclip_jax.checkpoint.tensors import read_table

    read_table(path)


def target(name: str, file: str, read: Any) -> Target:
    return Target(name, st.deferred(lambda: damaged_tensors(file)), feed_to(read))


TARGETS = [
    target("safetensors: parameters", "tree", read_tree),
    target("safetensors: arrays", "tree", read_arrays),
    target("safetensors: import", "tree", open_foreign),
    target("pca.safetensors", "pca", load_pca),
    target("prior_samples.safetensors", "prior", load_prior),
    Target(
        "variance_table.npy", st.deferred(lambda: damaged(samples()["npy"])), feed_to(read_table)
    ),
]
