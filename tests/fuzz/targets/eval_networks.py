"""Weights of the networks that judge images: TensorFlow graphs, and DINOv2's config.json."""

import functools
from pathlib import Path

from hypothesis import strategies as st

from tests.fuzz.framework import Target
from tests.fuzz.hostile import damaged, hostile_json
from tests.tf_graphs import constant, content

CONFIG = {
    "model_type": "dinov2",
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
    "mlp_ratio": 4,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "use_swiglu_ffn": False,
}


@functools.cache
def graph() -> bytes:
    import numpy as np

    return constant("conv/conv2d_params", (1, 1, 3, 2), content(np.arange(6.0)))


def read_graph(case: bytes, folder: Path) -> None:
    from unclip_jax.convert.tf_graph import open_graph

    path = folder / "graph.pb"
    path.write_bytes(case)
    found = open_graph(path)
    for key in found.shapes:
        _ = found[key]


def read_config(case: bytes, folder: Path) -> None:
    from unclip_jax.evals.networks.dinov2 import read_dinov2_config

    (folder / "config.json").write_bytes(case)
    read_dinov2_config(folder)


TARGETS = [
    Target("TensorFlow graphs", st.deferred(lambda: damaged(graph())), read_graph, 1),
    Target("config.json of DINOv2", st.deferred(lambda: hostile_json(CONFIG)), read_config, 9),
]
