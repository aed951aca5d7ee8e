"""Reads a drawn word (data/sets/words.py) back, letter cell by letter cell, without a network.

Every cell is compared with the 26 letters and an empty one, at every place that the source draws
the word at. The word is that of the place with the least error.
"""

import functools

import numpy as np
from jaxtyping import Float, UInt8

from unclip_jax.data.sets.words import LETTERS, LONGEST, SHIFTS, corner, glyph

_CHOICES = ("", *LETTERS)
_LEAST_INK = 40  # of 255, below which an image has no word


def read_word(image: UInt8[np.ndarray, "s s 3"]) -> str:
    """Returns the letters of the cells in order, a space for an empty one before a letter."""
    size = len(image)
    dark = 255.0 - image.min(axis=-1)
    full = float(np.quantile(dark, 0.98))
    if full < _LEAST_INK:
        return ""
    pad = size // 8
    ink = np.pad(np.clip(dark / full, 0.0, 1.0), pad)
    templates = _templates(size)
    best, word = np.inf, ""
    for shift in SHIFTS:
        cells = [_cell(ink, number, shift, size, pad) for number in range(LONGEST)]
        errors = np.square(np.stack(cells)[:, None] - templates).sum(axis=(2, 3))
        if errors.min(axis=1).sum() < best:
            best = float(errors.min(axis=1).sum())
            word = "".join(_CHOICES[i] or " " for i in errors.argmin(axis=1)).rstrip()
    return word


def _cell(
    ink: Float[np.ndarray, "p p"], number: int, shift: tuple[int, int], size: int, pad: int
) -> Float[np.ndarray, "h w"]:
    """Cuts out the place of a letter, with the gaps to the next one and the next line."""
    top, left = corner(number, size, shift)
    height, width = 6 * size // 16, 4 * size // 16
    return ink[top + pad : top + pad + height, left + pad : left + pad + width]


@functools.cache
def _templates(size: int) -> Float[np.ndarray, "27 h w"]:
    """Returns the ink of an empty cell and of each letter's."""
    cells = np.zeros((len(_CHOICES), 6 * size // 16, 4 * size // 16))
    for cell, letter in zip(cells[1:], LETTERS, strict=True):
        drawn = glyph(letter, size)
        cell[: drawn.shape[0], : drawn.shape[1]] = drawn
    return cells
