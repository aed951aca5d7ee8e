"""Reads drawings of colored forms (data/sets/shapes.py) back, without a network.

A sampled image is segmented by color; each patch is compared with every form of its area. So the
ground truth of a caption can be checked exactly: which colors, which forms, which relation.
"""

import dataclasses
import functools
import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy import ndimage

from unclip_jax.data.sets.shapes import COLORS, FORMS, coverage, relation

INK = 55  # of 255, below white in the darkest channel: half covered by gray, the palest color
LEAST_AREA = 0.004  # of the image; a bar of the smallest radius covers 0.02
LEAST_SHARE = 0.2  # of a patch's inner pixels that a second color needs to be an object
MIXED = 40.0  # of 255, within which a pixel is a mixture of a color with white
LEAST_OVERLAP = 0.6  # with its form, below which a patch has no form
HOPELESS = 0.35  # overlap of a crisp form, below which no soft one is tried
SOFTNESS = ((0.0, 1.0), *itertools.product((0.7, 1.0), (1.0, 1.1, 1.2)))
"""Blurs in pixels, and sizes, of a form, of which the best fits: a decoder's edges are soft."""
_NAMES = tuple(COLORS)
_VALUES = np.asarray([COLORS[name] for name in _NAMES], np.float64)
MARGIN = 3  # pixels around a patch in which a form may reach beyond it
_FINE = 96  # side of the pictures from which a form's area is measured


@dataclasses.dataclass(frozen=True)
class Seen:
    """An object that was read in an image.

    Attributes:
        form: None if the patch is like none of the forms.
        center: x and y, as a share of the side.
        overlap: intersection over union with the form, 0 to 1.
    """

    color: str
    form: str | None
    center: tuple[float, float]
    overlap: float


def read_scene(image: UInt8[np.ndarray, "s s 3"]) -> list[Seen]:
    """Returns the objects of an image, largest first; one of only white has none."""
    pixels = image.astype(np.float64)
    ink = 255.0 - pixels.min(axis=-1)
    patches, count = ndimage.label(ink > INK, np.ones((3, 3)))
    found = []
    for number in range(1, count + 1):
        for color, mask in _split_colors(pixels, patches == number):
            if mask.mean() >= LEAST_AREA:
                full = 255.0 - _VALUES[color].min()
                cover = np.clip(ink / full, 0.0, 1.0) * mask
                found.append((cover.sum(), _read_form(_NAMES[color], cover, INK / full)))
    return [seen for _, seen in sorted(found, key=lambda pair: -pair[0])]


def _split_colors(
    pixels: Float[np.ndarray, "s s 3"], patch: Bool[np.ndarray, "s s"]
) -> list[tuple[int, Bool[np.ndarray, "s s"]]]:
    """Returns the colors of a patch with their pixels.

    A color is there if the patch's inner pixels have enough of it that is not another one of the
    patch mixed with the white ground, as at a soft edge.
    """
    inner = ndimage.binary_erosion(patch)
    core = pixels[inner if inner.any() else patch]
    nearest, off = _nearest(core), _off_line(core)
    kept: list[int] = []
    open_pixels = np.ones(len(core), bool)
    while not kept or open_pixels.sum() >= LEAST_SHARE * len(core):
        shares = np.bincount(nearest[open_pixels], minlength=len(_NAMES))
        shares[kept] = 0
        if not shares.any():
            break
        kept.append(int(shares.argmax()))
        open_pixels &= off[:, kept[-1]] > MIXED
    owner = np.full(patch.shape, -1)
    owner[patch] = np.asarray(kept)[_off_line(pixels[patch])[:, kept].argmin(axis=1)]
    return [(color, owner == color) for color in kept]


def _nearest(pixels: Float[np.ndarray, "n 3"]) -> Int[np.ndarray, " n"]:
    """Returns the index of the color nearest to each pixel."""
    return np.square(pixels[:, None] - _VALUES).sum(axis=-1).argmin(axis=1)


def _off_line(pixels: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n k"]:
    """Returns how far each pixel lies from every mixture of a color with white, of 255."""
    toward, ink = 255.0 - _VALUES, 255.0 - pixels
    share = np.clip(ink @ toward.T / np.square(toward).sum(axis=1), 0.0, 1.0)
    return np.linalg.norm(ink[:, None] - share[..., None] * toward, axis=-1)


def _read_form(color: str, cover: Float[np.ndarray, "s s"], least: float) -> Seen:
    """Gives every form the area and centroid of a patch; returns the one that overlaps most.

    Args:
        least: cover below which a pixel was taken for the ground.
    """
    whole, total = len(cover), cover.sum()
    left, top, cover = _window(cover)
    size, (area, x, y) = len(cover), _moments(cover)
    best = Seen(color, None, ((left + x * size) / whole, (top + y * size) / whole), 0.0)
    for form in FORMS:
        form_area, form_x, form_y = _form_moments(form)
        radius = float(np.sqrt(area / form_area))
        center = (x - radius * form_x, y - radius * form_y)
        at = ((left + center[0] * size) / whole, (top + center[1] * size) / whole)
        for softness, scale in SOFTNESS:
            wanted = coverage(form, size, center, scale * radius)
            if softness:
                wanted = ndimage.gaussian_filter(wanted, softness, mode="constant")
            wanted = np.where(wanted > least, wanted, 0.0)
            common = np.minimum(cover, wanted).sum()
            overlap = float(common / (total + wanted.sum() - common))
            if overlap > best.overlap:
                best = Seen(color, form if overlap >= LEAST_OVERLAP else None, at, overlap)
            if overlap < HOPELESS:
                break
    return best


def _window(cover: Float[np.ndarray, "s s"]) -> tuple[int, int, Float[np.ndarray, "w w"]]:
    """Returns the left and top pixel of a square around a patch, and the cover in it."""
    rows, columns = np.flatnonzero(cover.any(axis=1)), np.flatnonzero(cover.any(axis=0))
    side = max(np.ptp(rows), np.ptp(columns)) + 1 + 2 * MARGIN
    padded = np.pad(cover, side)
    top, left = rows[0] - MARGIN, columns[0] - MARGIN
    square = padded[top + side : top + 2 * side, left + side : left + 2 * side]
    return int(left), int(top), square


def _moments(cover: Float[np.ndarray, "s s"]) -> tuple[float, float, float]:
    """Returns the area and the centroid, x and y; the side of the image is 1."""
    at = (np.arange(len(cover)) + 0.5) / len(cover)
    total = cover.sum()
    x, y = cover.sum(axis=0) @ at / total, cover.sum(axis=1) @ at / total
    return float(total / cover.size), float(x), float(y)


@functools.cache
def _form_moments(form: str) -> tuple[float, float, float]:
    """Returns the area and the centroid of a form of radius 1 at the origin."""
    radius = 0.4
    picture = coverage(form, _FINE, (0.5, 0.5), radius).astype(np.float64)
    area, x, y = _moments(picture)
    return area / radius**2, (x - 0.5) / radius, (y - 0.5) / radius


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What of a caption's scene is in an image.

    Attributes:
        count: there are as many objects as the caption names.
        bound: every named pair of color and form is there.
        swapped: of two named pairs, the forms have each other's colors (the paper's figure 15);
            None unless there are two, of different colors and forms.
        colors, forms: all named colors, and all named forms, are there, bound or not.
        related: the two objects are where the caption says; None unless both are bound.
    """

    count: bool
    bound: bool
    swapped: bool | None
    colors: bool
    forms: bool
    related: bool | None


def judge_scene(
    wanted: Sequence[tuple[str, str]], seen: Sequence[Seen], where: str | None = None
) -> Verdict:
    """Compares the objects of an image with those of a caption.

    Args:
        wanted: pairs of color and form, the subject first.
        where: relation of the first to the second, such as "above"; None if none is named.
    """
    pairs = [(one.color, one.form) for one in seen]
    bound = all(pairs.count(pair) >= wanted.count(pair) for pair in wanted)
    swapped = None
    if len(wanted) == 2 and wanted[0][0] != wanted[1][0] and wanted[0][1] != wanted[1][1]:
        (color, form), (other_color, other_form) = wanted
        swapped = not bound and {(color, other_form), (other_color, form)} <= set(pairs)
    related = None
    if where is not None and bound and len(wanted) == 2 and wanted[0] != wanted[1]:
        first, second = (seen[pairs.index(pair)].center for pair in wanted)
        related = relation(first, second) == where
    return Verdict(
        count=len(seen) == len(wanted),
        bound=bound,
        swapped=swapped,
        colors={color for color, _ in wanted} <= {one.color for one in seen},
        forms={form for _, form in wanted} <= {one.form for one in seen},
        related=related,
    )
