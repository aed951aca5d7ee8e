"""Imports CLIP: Hugging Face's models, and the layout shared by OpenAI and OpenCLIP.

OpenAI's layout does not state the number of heads: there is one for every 64 channels, and 16 in
image towers wider than 1024, as in OpenCLIP; an `open_clip_config.json` next to the weights takes
precedence.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unclip_jax.convert.clip_configs import clip_from_configs
from unclip_jax.convert.clip_names import OPENAI_SCALARS, hf_clip_table, openai_clip_table
from unclip_jax.convert.config_files import read_config
from unclip_jax.convert.name_tables import ImportedStage, import_stage, mlp_ratio
from unclip_jax.convert.torch_files import TensorFile, find_weights, joined, open_tensors
from unclip_jax.core.config import build
from unclip_jax.core.errors import UserError
from unclip_jax.models.clip import ClipConfig
from unclip_jax.models.stages import StageSpec

TRANSFORMERS_STEMS = ("model", "pytorch_model")
OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
HEAD_CHANNELS = 64
WIDE_VISION_HEADS = 16


def is_hf_clip(folder: Path) -> bool:
    """Whether a folder has one of transformers' CLIP models, or its two towers."""
    if (folder / "config.json").is_file():
        return str(read_config(folder).get("model_type", "")).startswith("clip")
    return (folder / "text_encoder" / "config.json").is_file()


def import_hf_clip(folder: Path) -> ImportedStage:
    """Imports a CLIPModel, a CLIPTextModelWithProjection, or a folder of the two towers.

    As in diffusers the towers are in `text_encoder` and `image_encoder`; the latter is optional.
    """
    if not (folder / "config.json").is_file():
        return _import_towers(folder)
    config = read_config(folder)
    tensors = _without_positions(open_tensors(find_weights(folder, *TRANSFORMERS_STEMS)))
    if config.get("model_type") == "clip_text_model":
        cfg = clip_from_configs(config, None, {})
    elif config.get("model_type") == "clip":
        text, vision = (nested(config, tower) for tower in ("text", "vision"))
        embed_dim = config.get("projection_dim", 512)
        cfg = clip_from_configs(text, vision, _preprocessor(folder), embed_dim)
    else:
        raise UserError(f"{folder}: an image tower alone is not a CLIP; add its text tower")
    return import_stage(StageSpec("clip", cfg), hf_clip_table(cfg), tensors)


def _import_towers(folder: Path) -> ImportedStage:
    text = folder / "text_encoder"
    parts, vision = {"text": text}, None
    if (folder / "image_encoder").is_dir():
        parts["vision"] = folder / "image_encoder"
        vision = read_config(parts["vision"])
    cfg = clip_from_configs(read_config(text), vision, _preprocessor(folder))
    files = [open_tensors(find_weights(part, *TRANSFORMERS_STEMS)) for part in parts.values()]
    tensors = files[0] if len(files) == 1 else joined_towers(*files)
    return import_stage(StageSpec("clip", cfg), hf_clip_table(cfg), _without_positions(tensors))


def joined_towers(text: TensorFile, vision: TensorFile) -> TensorFile:
    """Returns both towers' tensors as one; common keys are an error."""
    shared = sorted(set(text.shapes) & set(vision.shapes))
    if shared:
        raise UserError(f"{text.files[0]} and {vision.files[0]} both have {', '.join(shared)}")
    whole = joined({"text|": text, "vision|": vision})
    names = {name.partition("|")[2]: name for name in whole.shapes}
    return TensorFile(
        whole.files,
        {key: whole.shapes[name] for key, name in names.items()},
        {key: whole.dtypes[name] for key, name in names.items()},
        lambda key: whole[names[key]],
    )


def nested(config: Mapping[str, Any], tower: str) -> dict[str, Any]:
    """Returns a tower's config; the `_dict` form of older files takes precedence."""
    return (config.get(f"{tower}_config") or {}) | (config.get(f"{tower}_config_dict") or {})


def _preprocessor(folder: Path) -> Mapping[str, Any]:
    for place in (folder, folder / "feature_extractor"):
        if (place / "preprocessor_config.json").is_file():
            return read_config(place, "preprocessor_config.json")
    return {}


def _without_positions(tensors: TensorFile) -> TensorFile:
    return tensors.only(lambda key: not key.endswith(".position_ids"))


def openai_weights(src: Path) -> Path | None:
    """Returns the weights in OpenAI's or OpenCLIP's layout: SRC itself or the only one in it."""
    if src.is_file():
        return src
    for name in OPEN_CLIP_FILES:
        if (src / name).is_file():
            return src / name
    found = sorted(p for end in ("safetensors", "pt") for p in src.glob(f"*.{end}"))
    return found[0] if len(found) == 1 else None


def import_openai_clip(path: Path, resize: str = "center_crop") -> ImportedStage:
    """Imports OpenAI's archive, or OpenCLIP's weights in the same layout.

    Args:
        resize: see ClipConfig.
    """
    tensors = open_tensors(path)
    cfg = _openai_config(tensors, _open_clip_config(path.parent), resize)
    ignored = tuple(key for key in OPENAI_SCALARS if key in tensors.shapes)
    return import_stage(StageSpec("clip", cfg), openai_clip_table(cfg), tensors, ignored)


def _open_clip_config(folder: Path) -> Mapping[str, Any]:
    path = folder / "open_clip_config.json"
    return read_config(folder, path.name) if path.is_file() else {}


def _openai_config(tensors: TensorFile, config: Mapping[str, Any], resize: str) -> ClipConfig:
    """Infers the architecture from the shapes, and from `config` or a rule where they cannot."""
    shape, model = tensors.shape, config.get("model_cfg", {})
    given_text, given_vision = model.get("text_cfg", {}), model.get("vision_cfg", {})
    context, width = shape("positional_embedding", 2)
    v_width, _, patch, _ = shape("visual.conv1.weight", 4)
    grid = round((shape("visual.positional_embedding", 2)[0] - 1) ** 0.5)
    by_rule = max(1, v_width // HEAD_CHANNELS)
    if "head_width" in given_vision:
        v_heads = v_width // given_vision["head_width"]
    else:
        v_heads = by_rule if config or v_width <= 1024 else WIDE_VISION_HEADS
    key = "resblocks.{}.ln_1.weight"
    is_openai = any(scalar in tensors.shapes for scalar in OPENAI_SCALARS)
    values = {
        "embed_dim": shape("text_projection", 2)[1],
        "vision": {
            "image_size": grid * patch,
            "patch_size": patch,
            "width": v_width,
            "layers": tensors.count("visual.transformer." + key),
            "heads": v_heads,
            "mlp_ratio": _ratio(tensors, "visual.transformer.", v_width),
        },
        "text": {
            "vocab_size": shape("token_embedding.weight", 2)[0],
            "width": width,
            "layers": tensors.count("transformer." + key),
            "heads": given_text.get("heads", max(1, width // HEAD_CHANNELS)),
            "context": context,
            "mlp_ratio": _ratio(tensors, "transformer.", width),
        },
        "activation": "quick_gelu" if is_openai or model.get("quick_gelu") else "gelu",
        "resize": resize,
    }
    preprocess = config.get("preprocess_cfg", {})
    for name in ("mean", "std"):
        if name in preprocess:
            values[f"image_{name}"] = preprocess[name]
    return build(ClipConfig, values, "clip")


def _ratio(tensors: TensorFile, stack: str, width: int) -> float:
    return mlp_ratio(width, tensors.shape(f"{stack}resblocks.0.mlp.c_fc.weight", 2)[0])
