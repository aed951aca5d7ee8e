"""Pictures for people: PNG files that say how they were made, and labelled grids."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

MARGIN = 8
INK, PAPER = (32, 32, 32), (255, 255, 255)
SMALLEST_TILE = 96  # pixels; smaller images are enlarged in figures, never in their own files


def slug(text: str, limit: int = 40) -> str:
    """Returns a prompt as a part of a file name: ASCII letters, digits and hyphens."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:limit].rstrip("-") or "image"


def save_png(path: Path, image: UInt8[np.ndarray, "h w 3"], text: Mapping[str, str]) -> None:
    """Writes a PNG whose text chunks hold `text` (Latin-1 as tEXt, anything else as iTXt)."""
    info = PngInfo()
    for key, value in text.items():
        info.add_text(key, value)
    Image.fromarray(image).save(path, pnginfo=info)


def labelled_grid(
    rows: Sequence[Sequence[UInt8[np.ndarray, "h w 3"]]], labels: Sequence[str], columns: int = 8
) -> Image.Image:
    """Draws the images of each label below it, at most `columns` abreast; all are of one size."""
    side = rows[0][0].shape[0]
    tile = side * max(1, -(-SMALLEST_TILE // side))
    columns = min(columns, max(len(row) for row in rows))
    width = max(columns * (tile + MARGIN) + MARGIN, 2 * SMALLEST_TILE)
    font = ImageFont.load_default(size=max(15, min(22, tile // 10)))
    line = sum(font.getmetrics()) + 2
    captions = [wrap(label, font, width - 2 * MARGIN) for label in labels]
    heights = [
        len(caption) * line + -(-len(row) // columns) * (tile + MARGIN) + MARGIN
        for caption, row in zip(captions, rows, strict=True)
    ]
    grid = Image.new("RGB", (width, sum(heights) + MARGIN), PAPER)
    draw = ImageDraw.Draw(grid)
    top = MARGIN
    for row, caption, height in zip(rows, captions, heights, strict=True):
        for index, text in enumerate(caption):
            draw.text((MARGIN, top + index * line), text, INK, font)
        first = top + len(caption) * line + MARGIN // 2
        for index, image in enumerate(row):
            picture = Image.fromarray(image).resize((tile, tile), Image.Resampling.NEAREST)
            across, down = index % columns, index // columns
            place = (MARGIN + across * (tile + MARGIN), first + down * (tile + MARGIN))
            grid.paste(picture, place)
        top += height
    return grid


def wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Breaks a text into at most three lines that fit `width` pixels; the rest is an ellipsis."""
    lines = [""]
    for word in (" ".join(text.split()) or "(empty prompt)").split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if not lines[-1] or font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > 3:
        lines = [*lines[:2], f"{lines[2]}…"]
    return [_cut(line, font, width) for line in lines]


def _cut(line: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(f"{line}…") > width:
        line = line[:-1]
    return f"{line}…"
