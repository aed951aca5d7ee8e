"""Architectures and schedulers as diffusers writes them in config.json, from and to our configs.

A setting that our networks do not support is refused by its name; one that a file leaves out has
the library's default.
"""

from typing import Any, Literal

from unclip_jax.convert.config_files import Config, demand, need
from unclip_jax.core.config import build
from unclip_jax.core.errors import UserError
from unclip_jax.diffusion.config import DiffusionConfig, SamplingConfig
from unclip_jax.models.decoder import DecoderConfig
from unclip_jax.models.prior_diffusion import PriorDiffusionConfig
from unclip_jax.models.unet import UNetConfig
from unclip_jax.models.upsampler import UpsamplerConfig
from unclip_jax.nn.transformer import TransformerConfig

CROSS_DOWN, PLAIN_DOWN = "SimpleCrossAttnDownBlock2D", "ResnetDownsampleBlock2D"
CROSS_UP, PLAIN_UP = "SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"
CROSS_MID = "UNetMidBlock2DSimpleCrossAttn"
PREDICTIONS = {"epsilon": "eps", "sample": "x0"}
VARIANCES = {"fixed_small_log": "fixed_small", "learned_range": "learned_range"}

UNET_COMMON = {
    "center_input_sample": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "act_fn": "silu",
    "norm_eps": 1e-5,
    "downsample_padding": 1,
}
"""Settings that both U-Net classes must have: those of ADM."""


def prior_from_config(config: Config) -> PriorDiffusionConfig:
    """Builds the prior's config from PriorTransformer's."""
    what = "prior"
    fixed = {
        "additional_embeddings": 4,
        "time_embed_act_fn": "silu",
        "norm_in_type": None,
        "embedding_proj_norm_type": None,
        "encoder_hid_proj_type": "linear",
        "added_emb_type": "prd",
        "time_embed_dim": None,
        "embedding_proj_dim": None,
        "clip_embed_dim": None,
    }
    demand(what, config, fixed)
    heads = need(what, config, "num_attention_heads")
    dim = need(what, config, "embedding_dim")
    values = {
        "transformer": {
            "width": heads * need(what, config, "attention_head_dim"),
            "layers": need(what, config, "num_layers"),
            "heads": heads,
        },
        "image_dim": dim,
        "text_dim": dim,
        "context": config.get("num_embeddings", 77),
        "mask_text": True,
    }
    return build(PriorDiffusionConfig, values, what)


def prior_config(cfg: PriorDiffusionConfig) -> dict[str, Any]:
    """Returns PriorTransformer's config."""
    stack: TransformerConfig = cfg.transformer
    return {
        "num_attention_heads": stack.heads,
        "attention_head_dim": stack.width // stack.heads,
        "num_layers": stack.layers,
        "embedding_dim": cfg.image_dim,
        "num_embeddings": cfg.context,
        "additional_embeddings": 4,
        "dropout": 0.0,
    }


def decoder_from_configs(config: Config, projection: Config, context: int) -> DecoderConfig:
    """Builds the decoder's config from UNet2DConditionModel's and UnCLIPTextProjModel's.

    Args:
        context: text positions of the CLIP that conditions it.
    """
    what = "decoder"
    fixed = {
        "class_embed_type": "identity",
        "mid_block_type": CROSS_MID,
        "only_cross_attention": False,
        "mid_block_scale_factor": 1,
        "dual_cross_attention": False,
        "addition_embed_type": None,
        "encoder_hid_dim": None,
        "num_attention_heads": None,
        "time_embedding_type": "positional",
        "time_embedding_dim": None,
        "resnet_skip_time_act": False,
        "resnet_out_scale_factor": 1.0,
        "conv_in_kernel": 3,
        "conv_out_kernel": 3,
        "cross_attention_norm": None,
        "mid_block_only_cross_attention": None,
        "class_embeddings_concat": False,
        "time_embedding_act_fn": None,
        "timestep_post_act": None,
        "time_cond_proj_dim": None,
    }
    demand(what, config, fixed)
    for key in ("class_embed_type", "mid_block_type"):
        need(what, config, key)
    types = need(what, config, "down_block_types")
    cross = [_choice(what, kind, CROSS_DOWN, PLAIN_DOWN) for kind in types]
    expected = [CROSS_UP if is_cross else PLAIN_UP for is_cross in reversed(cross)]
    if list(need(what, config, "up_block_types")) != expected:
        raise UserError(f"{what}: up_block_types must mirror down_block_types: {expected}")
    size = need(what, config, "sample_size")
    unet = _unet_from_config(what, config) | {
        "attention_resolutions": [size // 2**i for i, is_cross in enumerate(cross) if is_cross],
        "head_channels": need(what, config, "attention_head_dim"),
    }
    width = need(what, config, "cross_attention_dim")
    base = unet["channels"]
    demand("text_proj", projection, {"cross_attention_dim": width, "time_embed_dim": 4 * base})
    dim = projection.get("clip_embeddings_dim", 768)
    values = {
        "unet": unet,
        "image_dim": dim,
        "context_dim": width,
        "text_dim": dim,
        "text_context": context,
        "image_tokens": projection.get("clip_extra_context_tokens", 4),
        "null_image": "learned",
        "mask_text": True,
    }
    return build(DecoderConfig, values, what)


def _choice(what: str, kind: str, first: str, second: str) -> bool:
    if kind not in (first, second):
        raise UserError(f"{what}: block type {kind!r} is not supported, only {first} and {second}")
    return kind == first


def _unet_from_config(what: str, config: Config) -> dict[str, Any]:
    """Returns the fields of UNetConfig that have the same names in both U-Net classes."""
    demand(what, config, UNET_COMMON)
    widths = need(what, config, "block_out_channels")
    base = widths[0]
    if any(width % base for width in widths):
        raise UserError(f"{what}: block_out_channels {widths} must be multiples of the first")
    return {
        "image_size": need(what, config, "sample_size"),
        "channels": base,
        "channel_mult": [width // base for width in widths],
        "res_blocks": config.get("layers_per_block", 2),
        "in_channels": need(what, config, "in_channels"),
        "out_channels": need(what, config, "out_channels"),
        "scale_shift": config.get("resnet_time_scale_shift", "default") == "scale_shift",
        "norm_groups": config.get("norm_num_groups", 32),
        "dropout": config.get("dropout", 0.0),
    }


def super_res_from_config(what: str, config: Config, low_res_size: int) -> UpsamplerConfig:
    """Builds a super-resolution net's config from UNet2DModel's."""
    fixed = {"class_embed_type": None, "time_embedding_type": "positional"}
    demand(what, config, fixed | {"mid_block_scale_factor": 1})
    for side, only in (("down", PLAIN_DOWN), ("up", PLAIN_UP)):
        for kind in need(what, config, f"{side}_block_types"):
            _choice(what, kind, only, only)
    attends = config.get("add_attention", True)
    unet = _unet_from_config(what, config) | {"mid_attention": attends}
    if attends:
        unet["head_channels"] = config.get("attention_head_dim", 8) or unet["channels"]
    return build(UpsamplerConfig, {"unet": unet, "low_res_size": low_res_size}, what)


def unet_config(cfg: UNetConfig, kind: Literal["decoder", "super_res"]) -> dict[str, Any]:
    """Returns the config of UNet2DConditionModel or UNet2DModel, without cross_attention_dim."""
    levels = range(len(cfg.channel_mult))
    cross = [cfg.attends(i) for i in levels]
    config = UNET_COMMON | {
        "sample_size": cfg.image_size,
        "in_channels": cfg.in_channels,
        "out_channels": cfg.out_channels,
        "block_out_channels": [cfg.channels * mult for mult in cfg.channel_mult],
        "layers_per_block": cfg.res_blocks,
        "down_block_types": [CROSS_DOWN if is_cross else PLAIN_DOWN for is_cross in cross],
        "up_block_types": [CROSS_UP if is_cross else PLAIN_UP for is_cross in reversed(cross)],
        "resnet_time_scale_shift": "scale_shift" if cfg.scale_shift else "default",
        "norm_num_groups": cfg.norm_groups,
        "dropout": cfg.dropout,
    }
    if kind == "decoder":
        return config | {
            "mid_block_type": CROSS_MID,
            "class_embed_type": "identity",
            "attention_head_dim": cfg.head_channels,
        }
    return config | {"add_attention": cfg.mid_attention, "attention_head_dim": cfg.head_channels}


def scheduler_from_config(what: str, config: Config) -> tuple[DiffusionConfig, float | None]:
    """Builds the diffusion settings of an UnCLIPScheduler, and the bound of |x0|."""
    demand(what, config, {"beta_schedule": "squaredcos_cap_v2"})
    kinds = {}
    for key, names, default in (
        ("prediction_type", PREDICTIONS, "epsilon"),
        ("variance_type", VARIANCES, "fixed_small_log"),
    ):
        value = config.get(key, default)
        if value not in names:
            raise UserError(f"{what}: {key}={value!r} is not supported, only {', '.join(names)}")
        kinds[key] = names[value]
    learned = kinds["variance_type"] == "learned_range"
    values = {
        "num_steps": config.get("num_train_timesteps", 1000),
        "prediction": kinds["prediction_type"],
        "variance": kinds["variance_type"],
        "loss": "hybrid" if learned else "simple",
    }
    bound = config.get("clip_sample_range", 1.0) if config.get("clip_sample", True) else None
    return build(DiffusionConfig, values, what), None if bound is None else float(bound)


def scheduler_config(diffusion: DiffusionConfig, sampling: SamplingConfig) -> dict[str, Any]:
    """Returns UnCLIPScheduler's config."""
    return {
        "num_train_timesteps": diffusion.num_steps,
        "prediction_type": {ours: theirs for theirs, ours in PREDICTIONS.items()}[
            diffusion.prediction
        ],
        "variance_type": {ours: theirs for theirs, ours in VARIANCES.items()}[diffusion.variance],
        "clip_sample": sampling.x0_bound is not None,
        "clip_sample_range": 1.0 if sampling.x0_bound is None else sampling.x0_bound,
        "beta_schedule": "squaredcos_cap_v2",
    }
