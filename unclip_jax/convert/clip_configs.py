"""CLIP's architecture as transformers writes it in config.json, from and to ClipConfig."""

from typing import Any

from unclip_jax.convert.config_files import Config, demand, stated
from unclip_jax.convert.name_tables import mlp_ratio
from unclip_jax.core.config import build
from unclip_jax.core.errors import UserError
from unclip_jax.models.clip import ClipConfig, TextConfig, VisionConfig

TEXT_DEFAULTS = {
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "projection_dim": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
VISION_DEFAULTS = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "projection_dim": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 32,
    "num_channels": 3,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
"""transformers writes only values that differ from these."""


def clip_from_configs(
    text: Config, vision: Config | None, preprocess: Config, embed_dim: int | None = None
) -> ClipConfig:
    """Builds CLIP's config from transformers' text and vision configs.

    Args:
        preprocess: settings of the image processor; a center crop by default.
        embed_dim: of a CLIPModel, which ignores projection_dim of the towers.
    """
    text = TEXT_DEFAULTS | stated(text)
    dims = {embed_dim or text["projection_dim"]}
    acts, eps = {text["hidden_act"]}, {text["layer_norm_eps"]}
    tower = None
    if vision is not None:
        vision = VISION_DEFAULTS | stated(vision)
        dims.add(embed_dim or vision["projection_dim"])
        acts.add(vision["hidden_act"])
        eps.add(vision["layer_norm_eps"])
        demand("the vision tower", vision, {"num_channels": 3})
        width = vision["hidden_size"]
        tower = {
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
            "width": width,
            "layers": vision["num_hidden_layers"],
            "heads": vision["num_attention_heads"],
            "mlp_ratio": mlp_ratio(width, vision["intermediate_size"]),
        }
    for name, values in (("projection_dim", dims), ("hidden_act", acts)):
        if len(values) > 1:
            raise UserError(f"CLIP's towers differ in {name}: {sorted(map(str, values))}")
    if eps != {1e-5}:
        raise UserError(f"CLIP: layer_norm_eps must be 1e-5, not {sorted(eps)}")
    width = text["hidden_size"]
    values = {
        "embed_dim": dims.pop(),
        "vision": tower,
        "text": {
            "vocab_size": text["vocab_size"],
            "width": width,
            "layers": text["num_hidden_layers"],
            "heads": text["num_attention_heads"],
            "context": text["max_position_embeddings"],
            "mlp_ratio": mlp_ratio(width, text["intermediate_size"]),
        },
        "activation": acts.pop(),
        "resize": "center_crop" if preprocess.get("do_center_crop", True) else "squash",
    }
    for key in ("image_mean", "image_std"):
        if preprocess.get(key) is not None:
            values[key] = preprocess[key]
    return build(ClipConfig, values, "clip")


def text_config(cfg: ClipConfig) -> dict[str, Any]:
    """Returns transformers' text config; the end-of-text token is the vocabulary's last."""
    tower: TextConfig = cfg.text
    return {
        "vocab_size": tower.vocab_size,
        "max_position_embeddings": tower.context,
        "bos_token_id": tower.vocab_size - 2,
        "eos_token_id": tower.vocab_size - 1,
        "pad_token_id": 0,
        **_tower_config(cfg, tower),
    }


def vision_config(cfg: ClipConfig) -> dict[str, Any]:
    """Returns transformers' vision config."""
    tower: VisionConfig = cfg.vision
    sizes = {"image_size": tower.image_size, "patch_size": tower.patch_size, "num_channels": 3}
    return sizes | _tower_config(cfg, tower)


def _tower_config(cfg: ClipConfig, tower: TextConfig | VisionConfig) -> dict[str, Any]:
    return {
        "hidden_size": tower.width,
        "intermediate_size": int(tower.width * tower.mlp_ratio),
        "num_hidden_layers": tower.layers,
        "num_attention_heads": tower.heads,
        "projection_dim": cfg.embed_dim,
        "hidden_act": cfg.activation,
        "layer_norm_eps": 1e-5,
        "attention_dropout": 0.0,
    }
