"""PNG files with text chunks, labeled grids and strips, GIFs."""

import bisect
import dataclasses
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
LONGEST_LABEL = 1_000  # characters of a label that are read: more than any figure shows
SMALLEST_TILE = 96  # pixels; smaller images are enlarged in figures, never in their own files


def slug(text: str, limit: int = 40) -> str:
    """Returns a prompt as a part of a file name: ASCII letters, digits and hyphens."""
    plain = (
        unicodedata.normalize("NFKD", text[:LONGEST_LABEL])
        .encode("ascii", "ignore")
        .decode()
        .lower()
    )
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:limit].rstrip("-") or "image"


def save_png(path: Path, image: UInt8[np.ndarray, "h w 3"], text: Mapping[str, str]) -> None:
    """Writes a PNG whose text chunks hold `text` (Latin-1 as tEXt, anything else as iTXt)."""
    info = PngInfo()
    for key, value in text.items():
        info.add_text(key, value)
    Image.fromarray(image).save(path, pnginfo=info)


def labeled_grid(
    rows: Sequence[Sequence[UInt8[np.ndarray, "h w 3"]]], labels: Sequence[str], columns: int = 8
) -> Image.Image:
    """Draws each label with its images below it, at most `columns` per line, all of one size.

    If every label has one image, several labels share a line: a sheet, not a tower.
    """
    side = rows[0][0].shape[0]
    tile = side * max(1, -(-SMALLEST_TILE // side))
    single = len(rows) > 1 and all(len(row) == 1 for row in rows)
    across = 1 if single else min(columns, max(len(row) for row in rows))
    width = max(across * (tile + MARGIN) + MARGIN, 2 * SMALLEST_TILE)
    blocks = [_block(row, label, tile, width) for row, label in zip(rows, labels, strict=True)]
    abreast = min(columns, len(blocks)) if single else 1
    lines = [blocks[i : i + abreast] for i in range(0, len(blocks), abreast)]
    heights = [max(block.height for block in line) for line in lines]
    grid = Image.new("RGB", (abreast * width, sum(heights) + 2 * MARGIN), PAPER)
    top = MARGIN
    for line, height in zip(lines, heights, strict=True):
        for index, block in enumerate(line):
            grid.paste(block, (index * width, top + height - block.height))
        top += height
    return grid


def _block(
    row: Sequence[UInt8[np.ndarray, "h w 3"]], label: str, tile: int, width: int
) -> Image.Image:
    """Draws one label and its images, as many per line as fit `width`."""
    font = ImageFont.load_default(size=max(15, min(22, tile // 10)))
    line = sum(font.getmetrics()) + 2
    caption = wrap(label, font, width - 2 * MARGIN)
    columns = max(1, (width - MARGIN) // (tile + MARGIN))
    first = len(caption) * line + MARGIN // 2
    height = first + -(-len(row) // columns) * (tile + MARGIN) + MARGIN // 2
    block = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(block)
    for index, text in enumerate(caption):
        draw.text((MARGIN, index * line), text, INK, font)
    for index, image in enumerate(row):
        enlarged = Image.fromarray(image).resize((tile, tile), Image.Resampling.NEAREST)
        across, down = index % columns, index // columns
        block.paste(enlarged, (MARGIN + across * (tile + MARGIN), first + down * (tile + MARGIN)))
    return block


@dataclasses.dataclass(frozen=True)
class Strip:
    """A row of images of one size under a title, each with its label below it.

    Attributes:
        centered: whether the row stands in the middle of the figure; it must fit one line.
    """

    title: str
    images: Sequence[UInt8[np.ndarray, "h w 3"]]
    labels: Sequence[str]
    centered: bool = False


def labeled_strips(strips: Sequence[Strip], columns: int = 10) -> Image.Image:
    """Draws strips below each other, at most `columns` images per line, all of one size."""
    side = strips[0].images[0].shape[0]
    tile = side * max(1, -(-SMALLEST_TILE // side))
    across = min(columns, max(len(strip.images) for strip in strips))
    width = max(across * (tile + MARGIN) + MARGIN, 2 * SMALLEST_TILE)
    blocks = [_strip(strip, tile, width) for strip in strips]
    figure = Image.new("RGB", (width, sum(b.height for b in blocks) + 2 * MARGIN), PAPER)
    top = MARGIN
    for block in blocks:
        figure.paste(block, (0, top))
        top += block.height
    return figure


def _strip(strip: Strip, tile: int, width: int) -> Image.Image:
    """Draws one strip, in as many lines as `width` requires."""
    title_font, font = (
        ImageFont.load_default(size=max(least, min(most, tile // 10)))
        for least, most in ((15, 22), (13, 18))
    )
    title = wrap(strip.title, title_font, width - 2 * MARGIN) if strip.title else []
    line, title_line = (sum(f.getmetrics()) + 2 for f in (font, title_font))
    labels = [wrap(label, font, tile) if label else [] for label in strip.labels]
    columns = max(1, (width - MARGIN) // (tile + MARGIN))
    step = tile + max(map(len, labels)) * line + MARGIN
    first = len(title) * title_line + MARGIN // 2
    height = first + -(-len(strip.images) // columns) * step + MARGIN // 2
    block = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(block)
    for index, text in enumerate(title):
        draw.text((MARGIN, index * title_line), text, INK, title_font)
    used = min(columns, len(strip.images)) * (tile + MARGIN) - MARGIN
    margin = (width - used) // 2 if strip.centered else MARGIN
    for index, (image, label) in enumerate(zip(strip.images, labels, strict=True)):
        left = margin + index % columns * (tile + MARGIN)
        top = first + index // columns * step
        enlarged = Image.fromarray(image).resize((tile, tile), Image.Resampling.NEAREST)
        block.paste(enlarged, (left, top))
        for number, text in enumerate(label):
            middle = left + tile // 2
            draw.text((middle, top + tile + 2 + number * line), text, INK, font, anchor="ma")
    return block


def save_gif(
    path: Path, frames: Sequence[UInt8[np.ndarray, "h w 3"]], milliseconds: int = 150
) -> None:
    """Writes a GIF that loops through the frames and back, pausing at both ends."""
    factor = max(1, -(-2 * SMALLEST_TILE // frames[0].shape[0]))
    size = (frames[0].shape[1] * factor, frames[0].shape[0] * factor)
    shown = [Image.fromarray(f).resize(size, Image.Resampling.NEAREST) for f in frames]
    rest = len(shown) - 1
    order = [*range(len(shown)), *range(rest - 1, 0, -1)]
    times = [milliseconds * (5 if i in (0, rest) else 1) for i in order]
    first, *others = [shown[i] for i in order]
    first.save(path, save_all=True, append_images=others, duration=times, loop=0)


def wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Breaks a text into at most three lines of `width` pixels; an ellipsis replaces the rest."""
    lines = [""]
    for word in (" ".join(text[:LONGEST_LABEL].split()) or "(empty prompt)").split(" "):
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
    fits = lambda count: font.getlength(f"{line[:count]}…") <= width  # noqa: E731
    shown = bisect.bisect_left(range(1, len(line) + 1), True, key=lambda count: not fits(count))
    return f"{line[:shown]}…"
