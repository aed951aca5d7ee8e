"""bundle.json: read and checked before any network is built from it.

A bundle may come from anybody. Its file names must be plain names inside its folder, every number
is bounded by LIMITS, and a network may have no more layers and blocks than its file has arrays, so
that a hostile bundle is refused in milliseconds and without much memory.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from unclip_jax.checkpoint import tensors
from unclip_jax.core.checks import COUNT, check_ranges
from unclip_jax.core.config import build
from unclip_jax.core.errors import UserError
from unclip_jax.core.files import read_json
from unclip_jax.core.renamed import warn, without_old_keys
from unclip_jax.models.stages import STAGES

FORMAT_VERSION = 1

LIMITS = {
    "num_steps": 1 << 17,
    "steps": 1 << 17,
    "draws": 1024,  # the former name of num_candidates
    "num_candidates": 1024,
    "image_size": 1 << 14,
    "low_res_size": 1 << 14,
    "context": 1 << 16,
    "text_context": 1 << 16,
    "layers": 1024,
    "res_blocks": 64,
    "params": 1 << 40,
}
"""Upper bound of a spec's field, by its name."""

BLOCK_ARRAYS = 4  # a U-Net block has at least as many: two norms or projections
LARGEST = 1 << 20  # of all other numbers: widths, heads, vocabularies
MOST_GUIDANCE = 1000.0  # papers use 1 to 15
LONGEST = 1 << 12  # items of a list, such as a list of timesteps


@dataclasses.dataclass(frozen=True)
class CascadeNet:
    """A network of an upsampling step and how many of its sampling steps it runs.

    None = those that the other networks leave.
    """

    stage: str
    steps: int | None = None

    def __post_init__(self):
        """Refuses a number of steps below one."""
        check_ranges(self, steps=COUNT)


@dataclasses.dataclass(frozen=True)
class CascadeStep:
    """One upsampling step; its networks share one noise schedule, in order from noise to image."""

    input_size: int
    output_size: int
    nets: tuple[CascadeNet, ...]

    def __post_init__(self):
        """Refuses a step that does not enlarge, or whose networks cannot share its steps."""
        if not 0 < self.input_size < self.output_size:
            sizes = f"input_size={self.input_size}, output_size={self.output_size}"
            raise ValueError(f"{sizes}: an upsampling step must enlarge the image")
        if not self.nets or [net.steps for net in self.nets].count(None) > 1:
            raise ValueError("nets must name at least one network, at most one without steps")

    def shares(self, total: int) -> tuple[int, ...]:
        """Returns how many of `total` sampling steps each network runs.

        The network without a number takes the rest, where all have one the last.
        """
        numbers = [net.steps for net in self.nets]
        rest = numbers.index(None) if None in numbers else len(numbers) - 1
        counts, left = [0] * len(numbers), total
        for i, number in enumerate(numbers):
            if i != rest:
                counts[i] = min(number, left)
                left -= counts[i]
        counts[rest] = left
        return tuple(counts)


@dataclasses.dataclass(frozen=True)
class SamplingDefaults:
    """Defaults of `sample`; each stage's own settings are in its spec."""

    prior: str = "diffusion"
    size: int | None = None  # None = the last step of the cascade
    round_low_res: bool = True  # 8-bit rounding between stages; Karlo does not round


@dataclasses.dataclass(frozen=True)
class StageEntry:
    """A stage as bundle.json states it.

    Attributes:
        spec: a StageSpec as JSON; built only after its file's header has been checked.
        dtype: of the stored parameters.
        params: number of parameters.
    """

    spec: Mapping[str, Any]
    dtype: Literal[*tensors.DTYPES]
    params: int


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What bundle.json holds."""

    format_version: int
    name: str
    license: str
    provenance: Mapping[str, Any]
    metrics: Mapping[str, Any]
    sampling: SamplingDefaults
    cascade: tuple[CascadeStep, ...]
    stages: Mapping[str, StageEntry]
    files: Mapping[str, tensors.FileRecord]


def read_manifest(folder: Path) -> Manifest:
    """Reads and checks bundle.json, also that of an older version.

    Raises:
        UserError: with the path of the key that is wrong.
    """
    path = folder / "bundle.json"
    found = read_json(path)
    version = found.get("format_version") if isinstance(found, dict) else None
    if type(version) is not int or version != FORMAT_VERSION:
        raise UserError(
            f"{path}: format version {version!r}; this unclip_jax reads {FORMAT_VERSION}"
        )
    found = _with_new_names(without_old_keys(found))
    for key in ("stages", "sampling", "cascade"):
        _check_limits(path, key, found.get(key))
    try:
        manifest = build(Manifest, found)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    for name in manifest.files:
        is_plain = Path(name).name == name and name not in ("", ".", "..") and len(name) <= 255
        if not is_plain or not name.isprintable():
            raise UserError(f"{path}: files lists {name!r}, which is not a file of the bundle")
    for name in manifest.stages:
        if name not in STAGES:
            raise UserError(f"{path}: unknown stage {name!r}")
    _check_cascade(path, manifest)
    _check_sampling(path, manifest)
    stages = manifest.provenance.get("stages", {})
    if not isinstance(stages, dict) or not all(isinstance(v, dict) for v in stages.values()):
        raise UserError(f"{path}: provenance.stages must hold an object for each stage")
    return manifest


def _with_new_names(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Returns bundle.json's object with the upsampling steps as they are written today.

    They had a `resize`, which nothing read; -1 steps before the last network left it one.
    """
    steps = manifest.get("cascade")
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        return dict(manifest)  # `build` refuses it
    steps = [{key: value for key, value in step.items() if key != "resize"} for step in steps]
    for i, step in enumerate(steps):
        nets = step.get("nets")
        if isinstance(nets, list) and len(nets) > 1 and all(isinstance(net, dict) for net in nets):
            *first, before, last = nets
            if before.get("steps") == -1 and last.get("steps") is None:
                step["nets"] = [*first, {**before, "steps": None}, {**last, "steps": 1}]
                warn(f"cascade[{i}].nets: steps -1 and null", "null and 1")
    return {**manifest, "cascade": steps}


def _check_limits(path: Path, key: str, value: Any) -> None:
    for where, name, found in _leaves(key, key, value):
        if isinstance(found, list):
            if len(found) > LONGEST:
                raise UserError(f"{path}: {where} has {len(found)} items, more than {LONGEST}")
        elif abs(found) > LIMITS.get(name, LARGEST):
            raise UserError(f"{path}: {where} is larger than {LIMITS.get(name, LARGEST)}")


def _leaves(where: str, name: str, value: Any) -> Iterator[tuple[str, str, Any]]:
    """Yields path, field name and value of every list and integer; items have their list's name."""
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
    """Fails if a spec has more layers or blocks than its file can hold, before it is traced.

    A layer has arrays of its own, or is a row of stacked ones.

    Args:
        path: file of the spec, for messages.
        where: prefix of the spec's keys in messages, with a trailing dot.
        shapes: of the arrays in the stage's file.
    """
    most = max([len(shapes), *(shape[0] for shape in shapes.values() if shape)])
    for name, field, value in _leaves(f"{where}model", "", spec.get("model")):
        if field == "layers" and type(value) is int and value > most:
            raise UserError(f"{path}: {name}={value}, but its file has {len(shapes)} arrays")
    unet = _unet(spec)
    blocks = len(unet.get("channel_mult", ())) * (2 * unet.get("res_blocks", 1) + 1)  # down and up
    if blocks * BLOCK_ARRAYS > len(shapes):
        raise UserError(
            f"{path}: {where}model.unet has {blocks} blocks, but its file has {len(shapes)} arrays"
        )


def _unet(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the well-typed sizes of a spec's U-Net; others are refused when it is built."""
    model = spec.get("model")
    unet = model.get("unet") if isinstance(model, dict) else None
    kinds = {"channel_mult": list, "res_blocks": int}
    if not isinstance(unet, dict):
        return {}
    return {key: unet[key] for key, kind in kinds.items() if isinstance(unet.get(key), kind)}


def _check_cascade(path: Path, manifest: Manifest) -> None:
    """Fails where a network of an upsampling step is missing or makes images of another size."""
    last = 0
    for i, step in enumerate(manifest.cascade):
        where = f"{path}: cascade[{i}]"
        if step.output_size <= last:
            raise UserError(f"{where}.output_size={step.output_size} must be more than {last}")
        last = step.output_size
        for net in step.nets:
            if net.stage not in manifest.stages:
                raise UserError(f"{where} names the network {net.stage!r}, which is not a stage")
            _check_net(where, step, net, manifest.stages[net.stage].spec)


def _check_net(where: str, step: CascadeStep, net: CascadeNet, spec: Mapping[str, Any]) -> None:
    levels = _part(spec, "diffusion").get("num_steps")
    most = levels if type(levels) is int else LIMITS["num_steps"]
    if net.steps is not None and net.steps > most:
        raise UserError(f"{where}: {net.stage} has {net.steps} steps; at most {most} are possible")
    model = _part(spec, "model")
    sizes = (model.get("low_res_size"), _part(model, "unet").get("image_size"))
    for stated, size in zip((step.input_size, step.output_size), sizes, strict=True):
        if type(size) is int and size != stated:
            raise UserError(f"{where} states {stated} pixels, {net.stage} has {size}")


def _part(spec: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Returns a section of a spec; one that is not a mapping is refused when it is built."""
    found = spec.get(key)
    return found if isinstance(found, Mapping) else {}


def _check_sampling(path: Path, manifest: Manifest) -> None:
    """Fails where sampling settings cannot make an image with any sampler."""
    size = manifest.sampling.size
    sizes = [step.output_size for step in manifest.cascade]
    for name, entry in manifest.stages.items():
        if STAGES[name].kind == "decoder":
            sizes.insert(0, _part(_part(entry.spec, "model"), "unet").get("image_size"))
    if sizes and size is not None and size not in sizes:
        raise UserError(f"{path}: sampling.size is {size}, but the stages make {sizes}")
    for name, stage in manifest.stages.items():
        scale = _part(stage.spec, "sampling").get("guidance", 1.0)
        if isinstance(scale, int | float) and abs(scale) > MOST_GUIDANCE:
            raise UserError(
                f"{path}: stages.{name}.spec.sampling.guidance is larger than {MOST_GUIDANCE:g}"
            )
