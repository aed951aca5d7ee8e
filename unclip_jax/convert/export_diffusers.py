"""Exports a bundle as folders that diffusers and transformers load with `from_pretrained`.

A bundle with Karlo's architecture becomes the components of UnCLIPPipeline, a CLIP alone becomes a
CLIPModel folder. Settings that the other library's classes do not support are refused by name.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from unclip_jax.checkpoint import bundle
from unclip_jax.checkpoint.bundle import Stage
from unclip_jax.checkpoint.tensors import write_streamed
from unclip_jax.convert import clip_configs, clip_names, karlo_names
from unclip_jax.convert import diffusers_configs as configs
from unclip_jax.convert.name_tables import LazyArray, Table, export_tensors
from unclip_jax.core.errors import UserError
from unclip_jax.core.files import new_folder
from unclip_jax.models.clip import ClipConfig
from unclip_jax.models.stages import StageSpec
from unclip_jax.nn.transformer import unstack_layers
from unclip_jax.text.tokenizer import EOT, SOT, Tokenizer

DIFFUSERS_VERSION = "0.33.1"  # the last that supported unCLIP
KARLO_STAGES = ("clip", "prior_diffusion", "decoder", "super_res_first", "super_res_last")
DIFFUSERS, TRANSFORMERS = "diffusers", "transformers"
# diffusers itself writes a name that it cannot load; with its module the class is found.
UNCLIP = "diffusers.pipelines.deprecated.unclip.text_proj"
CLASSES = {
    "prior": (DIFFUSERS, "PriorTransformer"),
    "decoder": (DIFFUSERS, "UNet2DConditionModel"),
    "text_proj": (UNCLIP, "UnCLIPTextProjModel"),
    "text_encoder": (TRANSFORMERS, "CLIPTextModelWithProjection"),
    "tokenizer": (TRANSFORMERS, "CLIPTokenizer"),
    "super_res_first": (DIFFUSERS, "UNet2DModel"),
    "super_res_last": (DIFFUSERS, "UNet2DModel"),
    "prior_scheduler": (DIFFUSERS, "UnCLIPScheduler"),
    "decoder_scheduler": (DIFFUSERS, "UnCLIPScheduler"),
    "super_res_scheduler": (DIFFUSERS, "UnCLIPScheduler"),
    "image_encoder": (TRANSFORMERS, "CLIPVisionModelWithProjection"),
    "feature_extractor": (TRANSFORMERS, "CLIPImageProcessor"),
}
TEXT_TO_IMAGE = tuple(CLASSES)[:10]
VARIATION = tuple(name for name in CLASSES if not name.startswith("prior"))
FORMAT = {"format": "pt"}  # required by transformers


def export_diffusers(
    source: str | Path,
    out: Path,
    *,
    dtype: str | None = None,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> list[str]:
    """Writes the folders of a bundle atomically and returns their names.

    One stage is in memory at a time.

    Args:
        dtype: float16, bfloat16 or float32; None = each stage's own.
    """
    origin = bundle.resolve(source)
    stages = list(bundle.read_manifest(origin).stages)
    if stages != ["clip"]:
        lacking = [name for name in KARLO_STAGES if name not in stages]
        if [name for name in lacking if name != "prior_diffusion"]:
            raise UserError(
                f"{origin} has neither Karlo's architecture nor a CLIP alone: "
                f"it lacks {', '.join(lacking)}"
            )
    marker = "config.json" if stages == ["clip"] else "model_index.json"
    with new_folder(out, marker, overwrite=overwrite) as folder:
        for name in [name for name in KARLO_STAGES if name in stages]:
            say(f"writing {name}")
            model = bundle.load(origin, stages=[name], params_dtype=None)
            stage = _unstacked(model.stages[name])
            stored = dtype or stage.dtype
            if name == "clip" and stages == ["clip"]:
                _write_clip_model(folder, stage, stored)
                _write_tokenizer(folder, model.tokenizer)
                _write_preprocessor(folder, stage.spec.model)
            else:
                _WRITERS[name](folder, stage, stored)
                if name == "clip":
                    _write_tokenizer(folder / "tokenizer", model.tokenizer)
        if stages != ["clip"]:
            _write_index(folder)
        return sorted(path.name for path in folder.iterdir())


def _unstacked(stage: Stage) -> Stage:
    """Returns the stage with the layers of its scanned transformers unstacked."""
    params, model = dict(stage.params), stage.spec.model
    if isinstance(model, ClipConfig) and model.scan_layers:
        for tower in ("text", "vision"):
            if tower in params:
                stack = unstack_layers(params[tower]["transformer"])
                params[tower] = {**params[tower], "transformer": stack}
    elif getattr(getattr(model, "transformer", None), "scan_layers", False):
        params["transformer"] = unstack_layers(params["transformer"])
    else:
        return stage
    changes: dict[str, Any] = {"scan_layers": False}
    if not isinstance(model, ClipConfig):
        changes = {"transformer": dataclasses.replace(model.transformer, scan_layers=False)}
    spec = dataclasses.replace(stage.spec, model=dataclasses.replace(model, **changes))
    return Stage(spec, params, stage.dtype)


def _require(spec: StageSpec, facts: Mapping[str, bool]) -> None:
    """Fails if the other library's class does not support a stage."""
    broken = [fact for fact, holds in facts.items() if not holds]
    if broken:
        raise UserError(f"diffusers' {spec.stage} needs {'; '.join(broken)}")


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")


def _write_diffusers(
    folder: Path, tensors: Mapping[str, LazyArray], config: Mapping[str, Any], dtype: str
) -> None:
    """Writes one diffusers model, whose class is determined by the folder's name."""
    head = {"_class_name": CLASSES[folder.name][1], "_diffusers_version": DIFFUSERS_VERSION}
    _write_json(folder / "config.json", head | dict(config))
    path = folder / "diffusion_pytorch_model.safetensors"
    write_streamed(path, tensors, dtype, FORMAT)


def _write_scheduler(folder: Path, spec: StageSpec) -> None:
    facts = {
        "the cosine schedule": spec.diffusion.schedule == "cosine",
        "prediction eps or x0": spec.diffusion.prediction in configs.PREDICTIONS.values(),
        "variance fixed_small or learned_range": spec.diffusion.variance
        in configs.VARIANCES.values(),
    }
    _require(spec, facts)
    head = {"_class_name": "UnCLIPScheduler", "_diffusers_version": DIFFUSERS_VERSION}
    values = configs.scheduler_config(spec.diffusion, spec.sampling)
    _write_json(folder / "scheduler_config.json", head | values)


def _write_prior(folder: Path, stage: Stage, dtype: str) -> None:
    spec, cfg = stage.spec, stage.spec.model
    facts = {
        'embedding_norm "standardize" of scale 1': (spec.norm.kind, spec.norm.scale)
        == ("standardize", 1.0),
        "states of a CLIP text tower as wide as z": cfg.text == "clip_states"
        and cfg.text_dim == cfg.image_dim,
        "z_t raw": cfg.text_emb_input == "raw",
        "mask_text": cfg.mask_text,
        "gelu and an MLP of ratio 4": (cfg.transformer.activation, cfg.transformer.mlp_ratio)
        == ("gelu", 4.0),
    }
    _require(spec, facts)
    _write_scheduler(folder / "prior_scheduler", spec)
    tensors = export_tensors(spec, stage.params, karlo_names.diffusers_prior_table(cfg))
    _write_diffusers(folder / "prior", tensors, configs.prior_config(cfg), dtype)


def _write_decoder(folder: Path, stage: Stage, dtype: str) -> None:
    spec, cfg = stage.spec, stage.spec.model
    facts = {
        'embedding_norm "none" of scale 1': (spec.norm.kind, spec.norm.scale) == ("none", 1.0),
        "states of a CLIP text tower as wide as z": cfg.text == "clip_states"
        and cfg.text_dim == cfg.image_dim,
        "z_t raw": cfg.text_emb_input == "raw",
        "a learned null embedding": cfg.null_image == "learned",
        "mask_text": cfg.mask_text,
        "image tokens": cfg.image_tokens > 0,
        "attention in the middle": cfg.unet.mid_attention,
        **_unet_facts(spec),
    }
    _require(spec, facts)
    _write_scheduler(folder / "decoder_scheduler", spec)
    tensors = export_tensors(spec, stage.params, karlo_names.diffusers_decoder_table(cfg.unet))
    parts = {
        name: {k[len(name) + 1 :]: v for k, v in tensors.items() if k.startswith(f"{name}/")}
        for name in ("decoder", "text_proj")
    }
    config = configs.unet_config(cfg.unet, "decoder") | {"cross_attention_dim": cfg.context_dim}
    _write_diffusers(folder / "decoder", parts["decoder"], config, dtype)
    config = {
        "clip_extra_context_tokens": cfg.image_tokens,
        "clip_embeddings_dim": cfg.image_dim,
        "time_embed_dim": cfg.unet.emb_width,
        "cross_attention_dim": cfg.context_dim,
    }
    _write_diffusers(folder / "text_proj", parts["text_proj"], config, dtype)


def _write_super_res(folder: Path, stage: Stage, dtype: str) -> None:
    spec, unet = stage.spec, stage.spec.model.unet
    facts = {
        "bicubic resizing": spec.model.resize == "cubic",
        "no attention outside the middle": not unet.attention_resolutions,
        **_unet_facts(spec),
    }
    _require(spec, facts)
    if spec.stage == "super_res_first":
        _write_scheduler(folder / "super_res_scheduler", spec)
    tensors = export_tensors(spec, stage.params, karlo_names.diffusers_super_res_table(unet))
    _write_diffusers(folder / spec.stage, tensors, configs.unet_config(unet, "super_res"), dtype)


def _unet_facts(spec: StageSpec) -> dict[str, bool]:
    unet = spec.model.unet
    return {
        "no space-to-depth stem": unet.patch == 1,
        "a timestep embedding of 4 channels": unet.emb_width == 4 * unet.channels,
        "a channel_mult that begins with 1": unet.channel_mult[0] == 1,
    }


def _write_towers(folder: Path, stage: Stage, dtype: str) -> None:
    """Writes the towers as separate models, as in unCLIP's pipelines, without the temperature."""
    cfg = stage.spec.model
    tensors = export_tensors(stage.spec, stage.params, clip_names.hf_clip_table(cfg))
    text = {k: v for k, v in tensors.items() if k.startswith("text_")}
    config = clip_configs.text_config(cfg)
    _write_transformers(folder / "text_encoder", "clip_text_model", text, config, dtype)
    if cfg.vision is not None:
        vision = {k: v for k, v in tensors.items() if k.startswith("vis")}
        config = clip_configs.vision_config(cfg)
        _write_transformers(folder / "image_encoder", "clip_vision_model", vision, config, dtype)
        _write_preprocessor(folder / "feature_extractor", cfg)


def _write_transformers(
    folder: Path,
    model_type: str,
    tensors: Mapping[str, LazyArray],
    config: Mapping[str, Any],
    dtype: str,
) -> None:
    head = {"architectures": [CLASSES[folder.name][1]], "model_type": model_type, "dtype": dtype}
    _write_json(folder / "config.json", head | dict(config))
    write_streamed(folder / "model.safetensors", tensors, dtype, FORMAT)


def _write_clip_model(folder: Path, stage: Stage, dtype: str) -> None:
    cfg = stage.spec.model
    _require(stage.spec, {"an image tower": cfg.vision is not None})
    table: Table = clip_names.hf_clip_table(cfg)
    config = {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "dtype": dtype,
        "projection_dim": cfg.embed_dim,
        "text_config": {"model_type": "clip_text_model", **clip_configs.text_config(cfg)},
        "vision_config": {"model_type": "clip_vision_model", **clip_configs.vision_config(cfg)},
    }
    _write_json(folder / "config.json", config)
    tensors = export_tensors(stage.spec, stage.params, table)
    write_streamed(folder / "model.safetensors", tensors, dtype, FORMAT)


def _write_preprocessor(folder: Path, cfg: ClipConfig) -> None:
    """Writes CLIPImageProcessor's settings."""
    size = cfg.vision.image_size
    if cfg.resize == "pad":
        raise UserError('CLIPImageProcessor cannot pad images: this CLIP\'s resize is "pad"')
    crops = cfg.resize == "center_crop"
    values = {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": size} if crops else {"height": size, "width": size},
        "resample": 3,
        "do_center_crop": crops,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(cfg.image_mean),
        "image_std": list(cfg.image_std),
        "do_convert_rgb": True,
    }
    _write_json(folder / "preprocessor_config.json", values)


def _write_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """Writes CLIPTokenizer's files; the padding id is 0, as in Karlo."""
    _write_json(folder / "vocab.json", tokenizer.vocab)
    lines = ["#version: 0.2", *(" ".join(merge) for merge in tokenizer.merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    pad = next(token for token, i in tokenizer.vocab.items() if i == tokenizer.pad_id)
    special = {"bos_token": SOT, "eos_token": EOT, "unk_token": EOT, "pad_token": pad}
    values = {"tokenizer_class": "CLIPTokenizer", "model_max_length": tokenizer.context}
    _write_json(folder / "tokenizer_config.json", values | special)
    _write_json(folder / "special_tokens_map.json", special)


def _write_index(folder: Path) -> None:
    """Writes model_index.json of the components' pipeline."""
    has_prior = (folder / "prior").is_dir()
    names = TEXT_TO_IMAGE if has_prior else VARIATION
    pipeline = "UnCLIPPipeline" if has_prior else "UnCLIPImageVariationPipeline"
    values = {"_class_name": pipeline, "_diffusers_version": DIFFUSERS_VERSION}
    values |= {name: list(CLASSES[name]) for name in names if (folder / name).is_dir()}
    _write_json(folder / "model_index.json", values)


_WRITERS: Mapping[str, Callable[[Path, Stage, str], None]] = {
    "clip": _write_towers,
    "prior_diffusion": _write_prior,
    "decoder": _write_decoder,
    "super_res_first": _write_super_res,
    "super_res_last": _write_super_res,
}
