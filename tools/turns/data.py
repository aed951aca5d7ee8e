"""A prepared data set at a smaller size, as WebP: the same splits, captions, licenses."""

import functools
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from unclip_jax.core.errors import UserError
from unclip_jax.core.files import new_folder, read_json, read_mapping
from unclip_jax.data import builder, images
from unclip_jax.data.sources import RecordSource, fingerprint, locate

QUALITY = 92
MADE = "made.json"


def write_small(name: str, out: Path, size: int) -> Path:
    """Writes a small copy of a data set into OUT/NAME, unless it is there already.

    Args:
        name: of a prepared data set, or its folder.
        size: longest side of an image in pixels; smaller images keep their size.
    """
    made = {"data": fingerprint(name), "size": size, "quality": QUALITY}
    target = out / Path(name).name
    if (out / MADE).exists() and read_mapping(out / MADE) == made and target.is_dir():
        return target
    folder = locate(name)
    info = read_mapping(folder / builder.INFO)
    sources = {split: RecordSource(folder, split) for split in builder.split_sizes(folder)}
    splits = {s: functools.partial(_records, source, size) for s, source in sources.items()}
    about = f"{info.get('description', '')} Reduced to {size} pixels, WebP."
    licenses = read_json(folder / "LICENSES.json")
    with new_folder(out, MADE, overwrite=True) as fresh:
        small = fresh / target.name
        builder.write(small, splits, about=about.strip(), licenses=licenses, encoding=None)
        (fresh / MADE).write_text(json.dumps(made) + "\n", encoding="utf-8")
    return target


def _records(source: RecordSource, size: int) -> Iterator[builder.Record]:
    for index in range(len(source)):
        example = source[index]
        try:
            image = encode(shrink(example["image"], size))
        except (OSError, ValueError) as error:
            raise UserError(f"{source.folder}: {example['key']}: {error}") from error
        yield {**example, "captions": list(example["captions"]), "image": image}


def shrink(image: UInt8[np.ndarray, "h w 3"], size: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Returns an image whose longest side has at most `size` pixels, by area averages."""
    height, width = image.shape[:2]
    if max(height, width) <= size:
        return image
    scale = size / max(height, width)
    shape = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(image).resize(shape, images.FILTERS["area"]))


def encode(image: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """Encodes an image as lossy WebP, in which exactly white pixels stay exactly white.

    They are stored as transparent, which WebP does without loss, and `images.decode` puts what is
    transparent on white.
    """
    white = (image == 255).all(-1)
    alpha = np.where(white, 0, 255).astype(np.uint8)
    picture = Image.fromarray(np.dstack([image, alpha]))
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", quality=QUALITY, method=4, alpha_quality=100)
    return buffer.getvalue()
