"""Data: images of every format, what ingest reads, prepared sets, stores of embeddings."""

import functools
import gzip
import io
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from tests.fuzz.framework import Target, kept_folder, link_all
from tests.fuzz.hostile import damaged, hostile_json, hostile_names
from unclip_jax.core.errors import UserError
from unclip_jax.data import builder, embeddings, images, ingest, readers
from unclip_jax.data.sources import load_source
from unclip_jax.data.store_pipeline import StoredExamples

SHARD = "captioned_images-train.array_record-00000-of-00001"
META = embeddings.StoreMeta("c" * 64, {"name": "n"}, 3, 5, 4, 2)


@functools.cache
def encoded(form: str, mode: str = "RGB") -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (16, 12, 4), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {} if form in ("GIF", "BMP") else {"exif": exif}
    buffer = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


KINDS = (
    *(("PNG", mode) for mode in ("RGB", "RGBA", "P", "LA", "1")),
    *(("JPEG", mode) for mode in ("RGB", "L", "CMYK")),
    *(("WEBP", "RGBA"), ("GIF", "P"), ("BMP", "RGB"), ("BMP", "P"), ("AVIF", "RGB")),
)


def image_files() -> st.SearchStrategy[bytes]:
    """Damaged images of every format."""
    return damaged(st.sampled_from([encoded(*kind) for kind in KINDS]))


def feed_image(data: bytes, folder: Path) -> None:
    for decode in (images.decode, images.decode_mask):
        try:
            image = decode(data)
        except UserError:
            continue
        if decode is images.decode:
            images.to_square(image, 16)
    images.decode(data)


@functools.cache
def tar(packed: bool) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for i, caption in enumerate((b"one", b'{"caption": ["two", null]}', b"x" * 300)):
            end = "json" if caption.startswith(b"{") else "txt"
            names = (f"{'deep/' * 30 * i}{i}.{e}" for e in ("png", end))
            for name, data in zip(names, (encoded("PNG"), caption), strict=True):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return gzip.compress(buffer.getvalue()) if packed else buffer.getvalue()


def check(source: Path) -> None:
    """Runs all of ingest but the writing."""
    left = ingest.Skipped()
    ingest._check(readers.open_reader(str(source)), left, None)
    str(left)


def feed_file(name: str, data: bytes, folder: Path) -> None:
    (folder / "a.png").write_bytes(encoded("PNG"))
    (folder / name).write_bytes(data)
    check(folder / name)


NAMES = hostile_names().map(lambda name: name.encode("utf-8", "surrogatepass"))
FILES = st.one_of(NAMES, st.binary(max_size=40))


def feed_folder(case: tuple[bytes, bytes, bytes], folder: Path) -> None:
    name, image, text = case
    name = name.replace(b"/", b"_").replace(b"\0", b"_")[:200]
    root = os.fsencode(folder)
    for end, data in ((b".png", image), (b".txt", text)):
        with open(root + b"/" + name + end, "wb") as file:
            file.write(data)
    check(folder)


JSON_ROW = {"image": "a.png", "captions": ["x", {"text": "y"}], "other": 3}
CSV = b'id,image,caption\n1,a.png,"x, y"\n2,b.png,z\n'


@functools.cache
def parquet_file() -> bytes:
    import pyarrow
    from pyarrow import parquet

    buffer = io.BytesIO()
    rows = {"image": ["a.png", "b.png"], "caption": ["x", "y"]}
    parquet.write_table(pyarrow.table(rows), buffer)
    return buffer.getvalue()


@functools.cache
def prepared() -> Path:
    def records() -> Any:
        texts = {"concept": "c", "style": "", "category": ""}
        for i in range(2):
            yield {"image": encoded("PNG"), "captions": ["a"], "key": str(i), **texts}

    folder = kept_folder("set") / "set"
    builder.write(folder, {"train": records}, about="x", licenses=[])
    return folder


def feed_set(name: str, data: bytes, folder: Path) -> None:
    link_all(prepared(), folder, name)
    (folder / name).write_bytes(data)
    source = load_source(str(folder), "train")
    for index in range(len(source)):
        source[index]


@functools.cache
def store() -> Path:
    folder = kept_folder("store") / "s"
    z = np.ones(META.width, np.float32)
    tokens = np.arange(META.context, dtype=np.int32)
    for shard in embeddings.begin_store(folder, META):
        rows = [embeddings.Record(f"{i}#0", z, z, tokens) for i in META.members(shard)]
        embeddings.write_shard(folder, shard, META, rows)
    return folder


def feed_store(name: str, data: bytes, folder: Path) -> None:
    link_all(store(), folder, name)
    (folder / name).write_bytes(data)
    meta = embeddings.read_meta(folder)
    examples = StoredExamples(folder, meta)
    examples.fingerprint()
    list(embeddings.read_shard(folder, 0, meta))


STORE_SHARD = embeddings.shard_path(Path(), 0, META.shards).name


def json_of(make: Any, name: str) -> st.SearchStrategy[bytes]:
    """Hostile variants of a JSON file of a sample folder."""
    import json

    return st.deferred(lambda: hostile_json(json.loads((make() / name).read_text())))


def bytes_of(make: Any, name: str) -> st.SearchStrategy[bytes]:
    """Damaged variants of a file of a sample folder."""
    return st.deferred(lambda: damaged((make() / name).read_bytes()))


def file_target(name: str, inputs: st.SearchStrategy[bytes], file: str) -> Target:
    """A list or tar as ingest's source."""
    return Target(f"ingest: {name}", inputs, functools.partial(feed_file, file), 3.0)


TARGETS = [
    Target("images", st.deferred(image_files), feed_image, 1.0),
    file_target("tar", st.deferred(lambda: damaged(tar(False))), "x.tar"),
    file_target("tar.gz", st.deferred(lambda: damaged(tar(True))), "x.tar.gz"),
    file_target("CSV", damaged(CSV), "x.csv"),
    file_target("JSON lines", hostile_json(JSON_ROW), "x.jsonl"),
    file_target("Parquet", st.deferred(lambda: damaged(parquet_file())), "x.parquet"),
    Target(
        "ingest: folder",
        st.deferred(lambda: st.tuples(FILES, image_files(), st.binary(max_size=60))),
        feed_folder,
        3.0,
    ),
    *(
        Target(f"set: {name}", make, functools.partial(feed_set, file), 15.0)
        for name, file, make in (
            ("dataset_info.json", builder.INFO, json_of(prepared, builder.INFO)),
            ("features.json", "features.json", json_of(prepared, "features.json")),
            ("shard", SHARD, bytes_of(prepared, SHARD)),
        )
    ),
    Target(
        "store: meta.json",
        json_of(store, "meta.json"),
        functools.partial(feed_store, "meta.json"),
        5.0,
    ),
    Target(
        "store: shard",
        bytes_of(store, STORE_SHARD),
        functools.partial(feed_store, STORE_SHARD),
        5.0,
    ),
]
