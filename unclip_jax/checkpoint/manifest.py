"""bundle.json: read and checked before anything is built of it.

A bundle may come from anybody. Its file names are plain names inside its folder, every number is
bounded by LIMITS, and a network has no more layers and blocks than its file has arrays: so that a
hostile one is refused in milliseconds, without much memory.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from unclip_jax.checkpoint.tensors import DTYPES
from unclip_jax.core.config import build
from unclip_jax.core.errors import UserError
from unclip_jax.core.files import read_json
from unclip_jax.core.renamed import without_old_keys
from unclip_jax.models.stages import STAGES

FORMAT_VERSION = 1

LIMITS = {
    "num_steps": 1 << 17,
    "steps": 1 << 17,
    "draws": 1024,
    "image_size": 1 << 14,
    "low_res_size": 1 << 14,
    "context": 1 << 16,
    "text_context": 1 << 16,
    "layers": 1024,
    "res_blocks": 64,
}
"""The largest number that a spec may give a field of this name."""

BLOCK_ARRAYS = 4  # that a block of a U-Net has at least: two norms or projections
LARGEST = 1 << 20  # of every other number: widths, heads, vocabularies
MOST_GUIDANCE = 1000.0  # papers use 1 to 15
RESIZES = ("bicubic", "bilinear", "cubic", "linear")
LONGEST = 1 << 12  # items of a list, such as a list of timesteps


@dataclasses.dataclass(frozen=True)
class CascadeNet:
    """A network of an upsampling step and how many of its steps it runs.

    None = the rest; -1 = all that are left but one.
    """

    stage: str
    steps: int | None = None


@dataclasses.dataclass(frozen=True)
class CascadeStep:
    """One upsampling step; its networks share one noise schedule, in order from noise to image."""

    input_size: int
    output_size: int
    nets: tuple[CascadeNet, ...]
    resize: str = "bicubic"


@dataclasses.dataclass(frozen=True)
class SamplingDefaults:
    """What `sample` does unless told otherwise; each stage's own settings lie in its spec."""

    prior: str = "diffusion"
    size: int | None = None  # None = the last step of the cascade
    round_low_res: bool = True  # 8-bit rounding between stages; Karlo does not round


def read_manifest(folder: Path) -> dict[str, Any]:
    """Reads bundle.json, checking its format version and that it is whole."""
    path = folder / "bundle.json"
    manifest = read_json(path)
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if type(version) is not int or version != FORMAT_VERSION:
        raise UserError(
            f"{path}: format version {version!r}, this unclip_jax reads {FORMAT_VERSION}"
        )
    allowed = {"format_version", "name", "license", "stages", "sampling", "cascade"}
    allowed |= {"provenance", "metrics", "files"}
    manifest = without_old_keys(manifest)
    for key in sorted(set(manifest) ^ allowed):
        raise UserError(f"{path}: {'missing' if key in allowed else 'unknown'} key {key!r}")
    _check_types(path, manifest)
    _check_files(path, manifest["files"])
    for name, entry in manifest["stages"].items():
        if name not in STAGES:
            raise UserError(f"{path}: unknown stage {name!r}")
        _check_limits(path, f"stages.{name}.spec", entry["spec"])
    _check_limits(path, "sampling", manifest["sampling"])
    _check_limits(path, "cascade", manifest["cascade"])
    _check_cascade(path, manifest)
    _check_sampling(path, manifest)
    return manifest


def _check_types(path: Path, manifest: Mapping[str, Any]) -> None:
    """Fails by name where a value of bundle.json is not of the kind that loading relies on."""
    kinds = {"name": str, "license": str, "cascade": list}
    kinds |= dict.fromkeys(("stages", "files", "sampling", "provenance", "metrics"), dict)
    for key, kind in kinds.items():
        if not isinstance(manifest[key], kind):
            raise UserError(f"{path}: {key} must be a {kind.__name__}")
    entries = {
        "stages": {"spec": dict, "dtype": str, "params": int},
        "files": {"sha256": str, "bytes": int},
    }
    for section, fields in entries.items():
        for name, entry in manifest[section].items():
            for key, kind in fields.items():
                if not isinstance(entry, dict) or not isinstance(entry.get(key), kind):
                    raise UserError(f"{path}: {section}.{name}.{key} must be a {kind.__name__}")
    for name, entry in manifest["stages"].items():
        if entry["dtype"] not in DTYPES:
            raise UserError(f"{path}: stages.{name}.dtype must be one of {', '.join(DTYPES)}")


def _check_files(path: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Fails where a listed file is not one of the bundle's folder, or its hash is none."""
    for name, entry in files.items():
        is_plain = Path(name).name == name and name not in ("", ".", "..") and len(name) <= 255
        if not is_plain or not name.isprintable():
            raise UserError(f"{path}: files lists {name!r}, which is not a file of the bundle")
        if not re.fullmatch("[0-9a-f]{64}", entry["sha256"]):
            raise UserError(f"{path}: files.{name}.sha256 is not a SHA-256 in hexadecimal digits")


def _check_limits(path: Path, key: str, value: Any) -> None:
    for where, name, found in _leaves(key, key, value):
        if isinstance(found, list):
            if len(found) > LONGEST:
                raise UserError(f"{path}: {where} has {len(found)} items, more than {LONGEST}")
        elif abs(found) > LIMITS.get(name, LARGEST):
            raise UserError(
                f"{path}: {where} is larger than the {LIMITS.get(name, LARGEST)} that are allowed"
            )


def _leaves(where: str, name: str, value: Any) -> Iterator[tuple[str, str, Any]]:
    """Yields path, field and value of every list and integer; an item has its list's field."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(f"{where}.{key}", key, item)
    elif isinstance(value, list):
        yield where, name, value
        for i, item in enumerate(value):
            yield from _leaves(f"{where}[{i}]", name, item)
    elif type(value) is int:
        yield where, name, value


def check_extent(
    path: Path, where: str, spec: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Fails where a spec has more layers or blocks than its file can hold, before it is traced.

    A layer has arrays of its own, or is a row of stacked ones.

    Args:
        path: of what says so, in messages.
        where: its place in there, with a dot behind.
        shapes: of the arrays in the stage's file.
    """
    most = max([len(shapes), *(shape[0] for shape in shapes.values() if shape)])
    for name, field, value in _leaves(f"{where}model", "", spec.get("model")):
        if field == "layers" and type(value) is int and value > most:
            raise UserError(f"{path}: {name} is {value}, but there are {len(shapes)} arrays")
    unet = _unet(spec)
    blocks = len(unet.get("channel_mult", ())) * (2 * unet.get("res_blocks", 1) + 1)  # down and up
    if blocks * BLOCK_ARRAYS > len(shapes):
        raise UserError(
            f"{path}: {where}model.unet has {blocks} blocks, but there are {len(shapes)} arrays"
        )


def _unet(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns a spec's U-Net if its fields are of the right kinds; the rest is refused later."""
    model = spec.get("model")
    unet = model.get("unet") if isinstance(model, dict) else None
    kinds = {"channel_mult": list, "res_blocks": int}
    if not isinstance(unet, dict):
        return {}
    return {key: unet[key] for key, kind in kinds.items() if isinstance(unet.get(key), kind)}


def _check_net(
    path: Path, where: str, step: CascadeStep, net: CascadeNet, spec: Mapping[str, Any]
) -> None:
    """Fails where a network of a step runs no number of steps, or makes images of other sizes."""
    levels = _part(spec, "diffusion").get("num_steps")
    most = levels if type(levels) is int else LIMITS["num_steps"]
    if net.steps is not None and net.steps != -1 and not 1 <= net.steps <= most:
        raise UserError(f"{path}: {where}: {net.stage} runs 1 to {most} steps, -1 or null")
    model = _part(spec, "model")
    sizes = (model.get("low_res_size"), _part(model, "unet").get("image_size"))
    for stated, size in zip((step.input_size, step.output_size), sizes, strict=True):
        if type(size) is int and size != stated:
            raise UserError(f"{path}: {where} states {stated} pixels, {net.stage} has {size}")


def _part(spec: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Returns a section of a spec; one of another kind is refused when it is built."""
    found = spec.get(key)
    return found if isinstance(found, Mapping) else {}


def _check_sampling(path: Path, manifest: Mapping[str, Any]) -> None:
    """Fails where settings that all samplers take as they are make no image."""
    size = build(SamplingDefaults, manifest["sampling"], f"{path}: sampling").size
    sizes = [entry["output_size"] for entry in manifest["cascade"]]
    if "decoder" in manifest["stages"]:
        model = _part(manifest["stages"]["decoder"]["spec"], "model")
        sizes.insert(0, _part(model, "unet").get("image_size"))
    if sizes and size is not None and size not in sizes:
        raise UserError(f"{path}: sampling.size is {size}, but the stages make {sizes}")
    for name, entry in manifest["stages"].items():
        scale = _part(entry["spec"], "sampling").get("guidance", 1.0)
        if isinstance(scale, int | float) and abs(scale) > MOST_GUIDANCE:
            raise UserError(f"{path}: stages.{name}.spec.sampling.guidance is beyond all use")


def _check_cascade(path: Path, manifest: Mapping[str, Any]) -> None:
    """Fails where an upsampling step or the provenance is not what its readers rely on."""
    last = 0
    for i, entry in enumerate(manifest["cascade"]):
        step = build(CascadeStep, entry, f"{path}: cascade[{i}]")
        names = [net.stage for net in step.nets]
        if not names or not set(names) <= set(manifest["stages"]):
            raise UserError(f"{path}: cascade[{i}] names the networks {names}, which are not there")
        if step.resize not in RESIZES:
            raise UserError(f"{path}: cascade[{i}].resize must be one of {', '.join(RESIZES)}")
        if not 0 < step.input_size < step.output_size or step.output_size <= last:
            raise UserError(f"{path}: cascade[{i}] does not enlarge: its sizes must grow by step")
        last = step.output_size
        for net in step.nets:
            _check_net(path, f"cascade[{i}]", step, net, manifest["stages"][net.stage]["spec"])
    held = manifest["provenance"].get("stages", {})
    if not isinstance(held, dict) or not all(isinstance(v, dict) for v in held.values()):
        raise UserError(f"{path}: provenance.stages must hold an object for each stage")
