"""Flags of `unclip train`, and the config.json files of CLIP and of diffusers' components."""

import functools
import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.framework import Target
from tests.fuzz.hostile import hostile_json

CONFIGS = ("emoji/clip.py", "emoji/prior_ar.py", "emoji/decoder.py", "paper/upsampler_256.py")
VALUES = [
    *("0", "1", "-1", "2", "7", "1000000", "2147483648", "9" * 30, "9" * 5000, "0.5", "-0.0"),
    *("1e308", "1e999", "nan", "inf", "-inf", "None", "True", "false", "", " ", "x", "x" * 5000),
    *("[]", "()", "(1,)", "(1,2,3)", "[1,'a']", "{}", "{'a': 1}", "'", '"', "(", "((((", "\x00"),
    *(
        "\ud800",
        "\n",
        "__import__('os').getcwd()",
        "lambda: 0",
        "1/0",
        "../../etc/hostname",
        "ddim",
    ),
]


@functools.cache
def keys() -> list[tuple[str, str]]:
    """Lists every setting of every config by its path, sections too."""
    from unclip_jax.cli.config_files import read_config

    found = []
    for config in CONFIGS:
        waiting = [("--config", read_config(f"configs/{config}", []))]
        while waiting:
            path, part = waiting.pop()
            for key, value in part.items():
                found.append((config, f"{path}.{key}"))
                if isinstance(value, dict):
                    waiting.append((f"{path}.{key}", value))
    return found


def flags() -> st.SearchStrategy:
    key, value = st.sampled_from(keys()), st.sampled_from(VALUES)
    odd = st.sampled_from(["", ".x", "[0]", "[9]", ".x.y", "="])
    return st.tuples(key, value, st.lists(st.tuples(key, value), max_size=2), st.just("") | odd)


def train_flags(case: Any, folder: Path) -> None:
    from unclip_jax.cli.config_files import read_config
    from unclip_jax.train.distill import with_student
    from unclip_jax.train.resolve import make_spec, read_settings, resolve_model

    (config, path), value, more, odd = case
    given = [f"{path}{odd}={value}"]
    given += [f"{other}={text}" for (name, other), text in more if name == config]
    found = read_config(f"configs/{config}", given)
    read_settings(found, needs_clip=False)
    make_spec(resolve_model(with_student(found, needs_teacher=False), None, 540))


UNET = {
    "sample_size": 16,
    "in_channels": 3,
    "out_channels": 6,
    "block_out_channels": [32, 64],
    "layers_per_block": 1,
    "down_block_types": ["ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"],
    "up_block_types": ["SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"],
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "class_embed_type": "identity",
    "attention_head_dim": 8,
    "cross_attention_dim": 16,
    "resnet_time_scale_shift": "scale_shift",
    "norm_num_groups": 8,
}
PLAIN = {"down_block_types": ["ResnetDownsampleBlock2D"] * 2}
PLAIN |= {
    "up_block_types": ["ResnetUpsampleBlock2D"] * 2,
    "add_attention": False,
    "class_embed_type": None,
    "in_channels": 6,
    "out_channels": 3,
}
COMPONENTS = {
    "prior": {
        "num_attention_heads": 2,
        "attention_head_dim": 8,
        "num_layers": 1,
        "embedding_dim": 16,
        "num_embeddings": 12,
    },
    "decoder": UNET,
    "text_proj": {"cross_attention_dim": 16, "time_embed_dim": 128, "clip_embeddings_dim": 16},
    "super_res": UNET | PLAIN,
    "scheduler": {
        "num_train_timesteps": 1000,
        "prediction_type": "sample",
        "variance_type": "fixed_small_log",
        "clip_sample": True,
        "clip_sample_range": 5.0,
    },
    "clip": {
        "model_type": "clip",
        "projection_dim": 16,
        "text_config": {"hidden_size": 16, "intermediate_size": 64, "num_attention_heads": 2},
        "vision_config": {
            "hidden_size": 16,
            "intermediate_size": 64,
            "num_attention_heads": 2,
            "image_size": 16,
            "patch_size": 8,
        },
    },
    "preprocessor": {"do_center_crop": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
}


def components() -> st.SearchStrategy:
    return st.one_of(
        [st.tuples(st.just(name), hostile_json(value)) for name, value in COMPONENTS.items()]
    )


def component(case: tuple[str, bytes], folder: Path) -> None:
    from unclip_jax.convert import diffusers_configs as configs
    from unclip_jax.convert.clip_configs import clip_from_configs
    from unclip_jax.convert.config_files import read_config
    from unclip_jax.convert.import_clip import nested

    for name, value in COMPONENTS.items():
        text = case[1] if name == case[0] else json.dumps(value).encode()
        (folder / f"{name}.json").write_bytes(text)
    found = {name: read_config(folder, f"{name}.json") for name in COMPONENTS}
    configs.prior_from_config(found["prior"])
    configs.decoder_from_configs(found["decoder"], found["text_proj"], 12)
    configs.super_res_from_config("super_res_first", found["super_res"], 8)
    configs.scheduler_from_config("scheduler", found["scheduler"])
    text, vision = (nested(found["clip"], tower) for tower in ("text", "vision"))
    embed_dim = found["clip"].get("projection_dim")
    clip_from_configs(text, vision, found["preprocessor"], embed_dim)


TARGETS = [
    Target("config flags", st.deferred(flags), train_flags, ms=40.0),
    Target("config.json of components", st.deferred(components), component, ms=3.0),
]
