"""Reads config.json as other libraries write it, and checks the kind of every setting it uses."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from unclip_jax.core.errors import UserError
from unclip_jax.core.files import read_mapping

Config = Mapping[str, Any]

LARGEST = 1 << 20  # of a size: widths, heads, vocabularies

SIZES = (
    *("hidden_size", "intermediate_size", "projection_dim", "num_hidden_layers"),
    *("num_attention_heads", "max_position_embeddings", "vocab_size", "image_size", "patch_size"),
    *("num_layers", "embedding_dim", "num_embeddings", "sample_size", "cross_attention_dim"),
    *("clip_embeddings_dim", "clip_extra_context_tokens", "layers_per_block", "in_channels"),
    *("out_channels", "norm_num_groups", "attention_head_dim", "heads", "head_width"),
)
TEXTS = (
    *("model_type", "hidden_act", "prediction_type", "variance_type", "beta_schedule"),
    "resnet_time_scale_shift",
)
NUMBERS = ("layer_norm_eps", "clip_sample_range", "dropout")
TRIPLES = ("image_mean", "image_std", "mean", "std")
BLOCKS = ("down_block_types", "up_block_types")
PARTS = (
    *("text_config", "vision_config", "text_config_dict", "vision_config_dict"),
    *("model_cfg", "text_cfg", "vision_cfg", "preprocess_cfg"),
)


def _is_size(value: Any) -> bool:
    return type(value) is int and 1 <= value <= LARGEST


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e9


def _is_list(item: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and 0 < len(value) <= 64 and all(map(item, value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(SIZES, (_is_size, f"a number from 1 to {LARGEST}")),
    "num_train_timesteps": (lambda n: type(n) is int and 2 <= n <= 1 << 17, "a number of steps"),
    **dict.fromkeys(TEXTS, (_is_text, "a text")),
    **dict.fromkeys(NUMBERS, (_is_number, "a number")),
    **dict.fromkeys(TRIPLES, (_is_list(_is_number), "a list of numbers")),
    **dict.fromkeys(BLOCKS, (_is_list(_is_text), "a list of block types")),
    "block_out_channels": (_is_list(_is_size), "a list of channel counts"),
    **dict.fromkeys(PARTS, (lambda value: isinstance(value, dict), "an object")),
}


def read_config(folder: Path, name: str = "config.json") -> Config:
    """Reads a component's configuration."""
    if not (folder / name).is_file():
        raise UserError(f"{folder} has no {name}")
    config = read_mapping(folder / name, remedy="fetch it again")
    check_kinds(folder / name, config)
    return config


def demand(what: str, config: Config, wanted: Config) -> None:
    """Fails where a given setting is not the only one that our network supports."""
    for key, value in wanted.items():
        found = config.get(key, value)
        if found != value:
            raise UserError(f"{what}: {key}={found!r} is not supported, only {value!r}")


def need(what: str, config: Config, key: str) -> Any:
    """Returns a setting that has no default."""
    if config.get(key) is None:
        raise UserError(f"{what}: its configuration lacks {key}")
    return config[key]


def stated(config: Config) -> dict[str, Any]:
    """Returns the settings that are not null: null stands for the default."""
    return {key: value for key, value in config.items() if value is not None}


def check_kinds(path: Path, config: Mapping[str, Any]) -> None:
    """Fails by name where a setting, nested ones too, has a value of another kind; null is none."""
    for where, name, value in _settings("", config):
        if name in KINDS and value is not None and not KINDS[name][0](value):
            raise UserError(f"{path}: {where} is not {KINDS[name][1]}; fetch it again")


def _settings(prefix: str, config: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    for name, value in config.items():
        yield f"{prefix}{name}", name, value
        if name in PARTS and isinstance(value, dict):
            yield from _settings(f"{prefix}{name}.", value)
