"""Imports Karlo: diffusers' folder of components, or Karlo's own checkpoint files.

A diffusers folder states everything but the number of steps and the guidance, which are defaults of
its pipeline. Karlo's files have no configuration: heads have 64 channels, images 64 and 256 pixels,
and sampling is as in Karlo's code (its prior bounds |x0| by 10, diffusers' by 5).
"""

import dataclasses
from pathlib import Path
from typing import Any

from unclip_jax.convert import karlo_names
from unclip_jax.convert.config_files import read_config
from unclip_jax.convert.diffusers_configs import (
    decoder_from_configs,
    prior_from_config,
    scheduler_from_config,
    super_res_from_config,
)
from unclip_jax.convert.import_clip import import_hf_clip, import_openai_clip
from unclip_jax.convert.karlo_specs import karlo_specs
from unclip_jax.convert.name_tables import ImportedStage, import_stage
from unclip_jax.convert.torch_files import TensorFile, find_weights, joined, open_tensors
from unclip_jax.core.config import build, to_dict
from unclip_jax.core.errors import UserError
from unclip_jax.diffusion.config import DiffusionConfig, SamplingConfig
from unclip_jax.models.decoder import DecoderConfig
from unclip_jax.models.embedding_norm import EmbeddingNorm
from unclip_jax.models.prior_diffusion import EXTRA, PriorDiffusionConfig
from unclip_jax.models.stages import ModelConfig, StageSpec
from unclip_jax.models.upsampler import UpsamplerConfig

STEM = "diffusion_pytorch_model"
DIFFUSERS_STEPS = {"prior": 25, "decoder": 25, "super_res": 7}
SUPER_RES = ("super_res_first", "super_res_last")
CLIP_FILE, STATISTICS_FILE = "ViT-L-14.pt", "ViT-L-14_stats.th"
CHECKPOINTS = {"prior": "prior-ckpt*", "decoder": "decoder-ckpt*", "sr": "improved-sr-ckpt*"}


@dataclasses.dataclass(frozen=True)
class OriginalSizes:
    """Sizes that Karlo's files do not determine; the defaults are the published ones."""

    decoder_size: int = 64
    super_res_size: int = 256
    head_channels: int = 64


PUBLISHED = OriginalSizes()


def is_diffusers_karlo(src: Path) -> bool:
    """Whether SRC is a folder with the components of an unCLIP pipeline."""
    return (src / "decoder" / "config.json").is_file()


def is_original_karlo(src: Path) -> bool:
    """Whether SRC is a folder with Karlo's checkpoint files."""
    return src.is_dir() and any(next(src.glob(p), None) for p in CHECKPOINTS.values())


def import_diffusers_karlo(src: Path, clamp: float | None = None) -> dict[str, ImportedStage]:
    """Imports the components of UnCLIPPipeline or UnCLIPImageVariationPipeline, by stage.

    Args:
        clamp: bound of the prior's |x0| instead of its scheduler's.
    """
    stages = {"clip": import_hf_clip(src)}
    if (src / "prior").is_dir():
        stages["prior_diffusion"] = import_diffusers_prior(src, clamp)
    context = stages["clip"].stage.spec.model.text.context
    stages["decoder"] = import_diffusers_decoder(src, context)
    size = stages["decoder"].stage.spec.model.unet.image_size
    for name in SUPER_RES:
        cfg = super_res_from_config(name, read_config(src / name), size)
        sampling = SamplingConfig(steps=DIFFUSERS_STEPS["super_res"])
        spec = _make_spec(name, cfg, *_scheduled(src, "super_res", sampling))
        table = karlo_names.diffusers_super_res_table(cfg.unet)
        stages[name] = import_stage(spec, table, _component(src, name))
    return stages


def import_diffusers_prior(src: Path, clamp: float | None = None) -> ImportedStage:
    """Imports a PriorTransformer and its scheduler's settings."""
    cfg = prior_from_config(read_config(src / "prior"))
    sampling = karlo_specs()["prior_diffusion"].sampling
    sampling = dataclasses.replace(sampling, steps=DIFFUSERS_STEPS["prior"])
    diffusion, sampling = _scheduled(src, "prior", sampling)
    if clamp is not None:
        sampling = dataclasses.replace(sampling, x0_bound=clamp)
    spec = _prior_spec(cfg, diffusion, sampling)
    return import_stage(spec, karlo_names.diffusers_prior_table(cfg), _component(src, "prior"))


def import_diffusers_decoder(src: Path, context: int) -> ImportedStage:
    """Imports the decoder's U-Net, its text projection and its scheduler's settings.

    Args:
        context: text positions of the CLIP that conditions it.
    """
    configs = [read_config(src / name) for name in ("decoder", "text_proj")]
    cfg = decoder_from_configs(*configs, context)
    sampling = karlo_specs()["decoder"].sampling
    sampling = dataclasses.replace(sampling, steps=DIFFUSERS_STEPS["decoder"])
    spec = _decoder_spec(cfg, *_scheduled(src, "decoder", sampling))
    parts = {f"{name}/": _component(src, name) for name in ("decoder", "text_proj")}
    return import_stage(spec, karlo_names.diffusers_decoder_table(cfg.unet), joined(parts))


def _component(src: Path, name: str) -> TensorFile:
    return open_tensors(find_weights(src / name, STEM))


def _scheduled(
    src: Path, name: str, sampling: SamplingConfig
) -> tuple[DiffusionConfig, SamplingConfig]:
    """Reads a scheduler; its bound of |x0| becomes a sampling setting."""
    config = read_config(src / f"{name}_scheduler", "scheduler_config.json")
    diffusion, bound = scheduler_from_config(f"{name}_scheduler", config)
    return diffusion, build(
        SamplingConfig, {**to_dict(sampling), "x0_bound": bound}, f"{name}_scheduler"
    )


def _make_spec(
    stage: str,
    cfg: ModelConfig,
    diffusion: DiffusionConfig,
    sampling: SamplingConfig,
    norm: EmbeddingNorm | None = None,
) -> StageSpec:
    """Builds a spec; parts that do not match are a UserError."""
    values = {"stage": stage, "model": cfg, "diffusion": diffusion, "sampling": sampling}
    return build(StageSpec, {**values, "embedding_norm": norm}, stage)


def _prior_spec(
    cfg: PriorDiffusionConfig, diffusion: DiffusionConfig, sampling: SamplingConfig
) -> StageSpec:
    if diffusion.prediction != "x0":
        raise UserError("prior_scheduler: prediction_type must be sample")
    return _make_spec("prior_diffusion", cfg, diffusion, sampling, EmbeddingNorm("standardize"))


def _decoder_spec(
    cfg: DecoderConfig, diffusion: DiffusionConfig, sampling: SamplingConfig
) -> StageSpec:
    return _make_spec("decoder", cfg, diffusion, sampling, EmbeddingNorm("none"))


def import_original_karlo(
    src: Path, clamp: float | None = None, sizes: OriginalSizes = PUBLISHED
) -> dict[str, ImportedStage]:
    """Imports Karlo's own checkpoints, CLIP's archive and its statistics, by stage.

    Args:
        clamp: bound of the prior's |x0| instead of Karlo's 10.
    """
    files = {name: _the_file(src, pattern) for name, pattern in CHECKPOINTS.items()}
    clip = import_openai_clip(_the_file(src, CLIP_FILE), resize="squash")
    published = karlo_specs()
    sampling = published["prior_diffusion"].sampling
    if clamp is not None:
        sampling = dataclasses.replace(sampling, x0_bound=clamp)
    statistics = open_tensors(_the_file(src, STATISTICS_FILE))
    tensors = joined({"": open_tensors(files["prior"]), "statistics.": statistics})
    cfg = _prior_from_shapes(tensors, sizes)
    spec = _prior_spec(cfg, published["prior_diffusion"].diffusion, sampling)
    stages = {"clip": clip}
    table = karlo_names.karlo_prior_table(cfg)
    stages["prior_diffusion"] = import_stage(spec, table, tensors)

    tensors = open_tensors(files["decoder"])
    cfg = _decoder_from_shapes(tensors, clip.stage.spec.model.text.context, sizes)
    spec = _decoder_spec(cfg, published["decoder"].diffusion, published["decoder"].sampling)
    table = karlo_names.karlo_decoder_table(cfg.unet)
    stages["decoder"] = import_stage(spec, table, tensors)

    both = open_tensors(files["sr"])
    prefixes = dict(zip(SUPER_RES, ("model_first_steps.", "model_last_step."), strict=True))
    stray = [key for key in both.shapes if not key.startswith(tuple(prefixes.values()))]
    if stray:
        raise UserError(f"{files['sr']}: unknown keys {', '.join(stray)}")
    for name, prefix in prefixes.items():
        tensors = both.only(lambda key, prefix=prefix: key.startswith(prefix))
        unet = _unet_from_shapes(tensors, prefix, sizes.super_res_size, sizes)
        cfg = build(UpsamplerConfig, {"unet": unet, "low_res_size": sizes.decoder_size}, name)
        spec = _make_spec(name, cfg, published[name].diffusion, published[name].sampling)
        table = karlo_names.karlo_super_res_table(cfg.unet, prefix)
        stages[name] = import_stage(spec, table, tensors)
    return stages


def _the_file(src: Path, pattern: str) -> Path:
    found = sorted(src.glob(pattern))
    if len(found) != 1:
        raise UserError(f"{src} has {len(found)} files {pattern}; Karlo needs exactly one")
    return found[0]


def _prior_from_shapes(tensors: TensorFile, sizes: OriginalSizes) -> PriorDiffusionConfig:
    shape = tensors.shape
    _, positions, width = shape("model.positional_embedding", 3)
    values = {
        "transformer": {
            "width": width,
            "layers": tensors.count("model.transformer.resblocks.{}.ln_1.weight"),
            "heads": max(1, width // sizes.head_channels),
        },
        "image_dim": shape("model.clip_img_proj.weight", 2)[1],
        "text_dim": shape("model.text_enc_proj.weight", 2)[1],
        "context": positions - EXTRA,
        "mask_text": True,
    }
    return build(PriorDiffusionConfig, values, "prior")


def _decoder_from_shapes(tensors: TensorFile, context: int, sizes: OriginalSizes) -> DecoderConfig:
    shape = tensors.shape
    width, text_dim = shape("model.text_seq_proj.0.weight", 2)
    rows, image_dim = shape("model.clip_tok_proj.weight", 2)
    values = {
        "unet": _unet_from_shapes(tensors, "model.", sizes.decoder_size, sizes),
        "image_dim": image_dim,
        "context_dim": width,
        "text_dim": text_dim,
        "text_context": context,
        "image_tokens": rows // width,
        "null_image": "learned",
        "mask_text": True,
    }
    return build(DecoderConfig, values, "decoder")


def _unet_from_shapes(
    tensors: TensorFile, prefix: str, size: int, sizes: OriginalSizes
) -> dict[str, Any]:
    """Infers ADM's U-Net from its shapes; a level ends at an output block with an upsampler."""
    shape, place = tensors.shape, prefix + "output_blocks.{}"
    count = tensors.count(place + ".0.in_layers.0.weight")
    ends = [
        k
        for k in range(count)
        if any(place.format(k) + f".{i}.in_layers.0.weight" in tensors.shapes for i in (1, 2))
    ]
    stride = ends[0] + 1 if ends else count
    levels = count // stride if stride else 0
    channels = shape(f"{prefix}time_embed.0.weight", 2)[1]
    firsts = [place.format((levels - 1 - i) * stride) for i in range(levels)]
    widths = [shape(f"{first}.0.in_layers.2.weight", 4)[0] for first in firsts]
    attends = [f"{first}.1.qkv.weight" in tensors.shapes for first in firsts]
    first = f"{prefix}input_blocks.1.0."
    scale_shift = shape(f"{first}emb_layers.1.weight", 2)[0] == 2 * widths[0] if widths else False
    return {
        "image_size": size,
        "channels": channels,
        "channel_mult": [width // channels for width in widths],
        "res_blocks": stride - 1,
        "in_channels": shape(f"{prefix}input_blocks.0.0.weight", 4)[1],
        "out_channels": shape(f"{prefix}out.2.weight", 4)[0],
        "attention_resolutions": [size // 2**i for i in range(levels) if attends[i]],
        "mid_attention": f"{prefix}middle_block.1.qkv.weight" in tensors.shapes,
        "head_channels": sizes.head_channels,
        "scale_shift": scale_shift,
    }
