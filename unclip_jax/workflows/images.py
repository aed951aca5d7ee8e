"""Images of the commands: reading inputs; PNG files with their settings, and manifests."""

import dataclasses
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from unclip_jax import __version__
from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.errors import UserError
from unclip_jax.core.rendering import save_gif, save_png
from unclip_jax.data.images import decode, decode_mask, read_bytes, without_size_warning

T = TypeVar("T")

MIN_SIDE = 8  # pixels; smaller images show nothing
GRID, MANIFEST, GIF = "grid.png", "manifest.json", "frames.gif"
SOFTWARE = {"Software": "unclip_jax"}  # in every PNG


def read_image(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """Reads an image file as RGB, upright, with transparency over white."""
    pixels = _read(path, decode)
    if min(pixels.shape[:2]) < MIN_SIDE:
        raise UserError(
            f"{path}: {pixels.shape[1]} x {pixels.shape[0]} pixels are too few; at least "
            f"{MIN_SIDE} a side are needed"
        )
    return pixels


def read_mask(path: Path) -> Bool[np.ndarray, "h w"]:
    """Reads a mask file; True where it is white or transparent."""
    return _read(path, decode_mask)


def _read(path: Path, read: Callable[[bytes], T]) -> T:
    data = read_bytes(path)
    try:
        with without_size_warning():
            return read(data)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


@dataclasses.dataclass(frozen=True)
class OutputImage:
    """An image to write.

    Attributes:
        name: of its file.
        facts: written with prompt, seed and index into its PNG text and into the manifest.
    """

    name: str
    pixels: UInt8[np.ndarray, "h w 3"]
    prompt: str = ""
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class ImageOutputs:
    """The results of a command.

    Attributes:
        figure: the labeled strip or grid.
        settings: all but command, model and seed.
        inputs: the input images as they were used, by file name.
        frames: of the GIF, if there is one.
        notes: lines for the user.
    """

    images: Sequence[OutputImage]
    figure: Image.Image
    settings: Mapping[str, Any]
    inputs: Mapping[str, UInt8[np.ndarray, "h w 3"]]
    frames: Sequence[UInt8[np.ndarray, "h w 3"]] | None = None
    notes: Sequence[str] = ()


def fresh_folder(parent: Path, name: str) -> Path:
    """Returns the first of parent/name-1, parent/name-2, … that does not exist."""
    numbers = itertools.count(1)
    return next(p for i in numbers if not (p := parent / f"{name}-{i}").exists())


def save_image(
    path: Path,
    pixels: UInt8[np.ndarray, "h w 3"],
    entry: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> None:
    """Writes a PNG whose text chunks are the values of `entry` and the settings as JSON."""
    text = {key: str(value) for key, value in entry.items()}
    save_png(path, pixels, {**text, "settings": to_json(settings), **SOFTWARE})


def save_figure(path: Path, figure: Image.Image, settings: Mapping[str, Any]) -> None:
    """Writes a grid or a strip as PNG, with the settings in its text chunks."""
    save_png(path, np.asarray(figure), {"settings": to_json(settings), **SOFTWARE})


def write_outputs(
    folder: Path,
    outputs: ImageOutputs,
    settings: Mapping[str, Any],
    seconds: Mapping[str, float],
    origin: Mapping[str, Any],
) -> dict[str, Any]:
    """Writes images, grid, GIF, inputs and manifest; returns the JSON result, with file names.

    Args:
        settings: with command, model and seed.
        seconds: wall time of each stage.
        origin: for the manifest, which bundle made the images.
    """
    entries = []
    for index, image in enumerate(outputs.images):
        entry = {"prompt": image.prompt, "seed": settings["seed"], "index": index, **image.facts}
        save_image(folder / image.name, image.pixels, entry, settings)
        entries.append({"path": image.name, **entry})
    for name, pixels in outputs.inputs.items():
        save_png(folder / name, pixels, SOFTWARE)
    save_figure(folder / GRID, outputs.figure, settings)
    result = {"images": entries, "grid": GRID, "settings": dict(settings)}
    result["seconds"] = rounded(seconds)
    if outputs.frames is not None:
        save_gif(folder / GIF, outputs.frames)
        result["gif"] = GIF
    write_json(folder / MANIFEST, {**result, **origin})
    return result


def located(result: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Returns a JSON result with paths in `folder` for file names."""
    images = [{**entry, "path": str(folder / entry["path"])} for entry in result["images"]]
    paths = {key: str(folder / result[key]) for key in ("grid", "gif") if key in result}
    return {**result, "images": images, **paths}


def origin_of(model: Bundle) -> dict[str, Any]:
    """Returns what makes an image: the bundle and the version of this package."""
    commit = model.provenance.get("git_commit")
    return {"bundle": {"name": model.name, "git_commit": commit}, "version": __version__}


def rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    """Returns wall times to the millisecond."""
    return {name: round(value, 3) for name, value in seconds.items()}


def to_json(value: Mapping[str, Any], indent: int | None = None) -> str:
    """Returns a JSON object with Unicode as it is."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON object, indented."""
    path.write_text(to_json(value, indent=1) + "\n", encoding="utf-8")
