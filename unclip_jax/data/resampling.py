"""Image resizing as OpenCV and MATLAB do it, as products with small matrices.

OpenCV's linear and cubic filters keep their width when downsampling, so they alias; Pillow's and
JAX's widen. Reproducing published degradations needs OpenCV's. "area" averages cells, and is a kind
of linear interpolation when upsampling. "bicubic" is MATLAB's imresize, which widens.

Each method is a matrix per axis, out = V x H^T. Sources: OpenCV, imgproc/src/resize.cpp; MATLAB's
imresize; Keys 1981, "Cubic convolution interpolation", a = -0.75 (OpenCV) and -0.5 (MATLAB).
"""

from typing import Literal

import numpy as np
from jaxtyping import Float

Method = Literal["linear", "cubic", "area", "bicubic"]
OPENCV: tuple[Method, ...] = ("linear", "cubic", "area")
_AREA_EPS = 1e-3  # OpenCV drops cells that are covered by less


def resize(
    x: Float[np.ndarray, "h w c"], size: tuple[int, int], method: Method
) -> Float[np.ndarray, "h2 w2 c"]:
    """Resizes to (height, width), float32; values may leave the input's range (cubic filters)."""
    kinds = (method, method)
    if method == "area" and (size[0] > x.shape[0] or size[1] > x.shape[1]):
        kinds = ("enlarge", "enlarge")  # OpenCV averages only where neither side grows
    rows, cols = (
        _MATRICES[kind](source, target)
        for kind, source, target in zip(kinds, x.shape[:2], size, strict=True)
    )
    tall = np.tensordot(rows.astype(np.float32), x.astype(np.float32), axes=(1, 0))
    return np.matmul(cols.astype(np.float32), tall)


def keys_cubic(distance: Float[np.ndarray, "*s"], a: float) -> Float[np.ndarray, "*s"]:
    """Returns Keys' cubic kernel, zero from 2 on; a is its slope at 1."""
    d = np.abs(distance)
    near = ((a + 2) * d - (a + 3)) * d**2 + 1
    far = ((d - 5) * d + 8) * d * a - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def _gather(
    source: int, index: Float[np.ndarray, "n k"], weight: Float[np.ndarray, "n k"]
) -> Float[np.ndarray, "n m"]:
    """Builds the matrix of taps; taps outside of the image repeat the edge pixel."""
    matrix = np.zeros((len(index), source))
    columns = np.clip(index, 0, source - 1).astype(np.int64)
    np.add.at(matrix, (np.arange(len(index))[:, None], columns), weight)
    return matrix


def _centers(source: int, target: int) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Returns the pixel left of every center, and the remainder; float32, as OpenCV's."""
    place = ((np.arange(target) + 0.5) * (source / target) - 0.5).astype(np.float32)
    left = np.floor(place)
    return left, place - left


def _linear(source: int, target: int) -> Float[np.ndarray, "n m"]:
    left, part = _centers(source, target)
    return _gather(source, np.stack([left, left + 1], 1), np.stack([1 - part, part], 1))


def _cubic(source: int, target: int) -> Float[np.ndarray, "n m"]:
    left, part = _centers(source, target)
    taps = np.arange(-1, 3)
    return _gather(source, left[:, None] + taps, keys_cubic(part[:, None] - taps, -0.75))


def _area(source: int, target: int) -> Float[np.ndarray, "n m"]:
    """Averages over [i, i + 1) source / target; edge cells are weighted by their coverage."""
    scale = source / target
    first = np.arange(target)[:, None] * scale
    last = np.minimum(first + scale, source)
    cell = np.arange(source)[None]
    cover = np.clip(np.minimum(cell + 1, last) - np.maximum(cell, first), 0.0, None)
    return np.where(cover > _AREA_EPS, cover, 0.0) / (last - first)


def _enlarge(source: int, target: int) -> Float[np.ndarray, "n m"]:
    """OpenCV's "area" for upsampling: averages over cells that are narrower than a pixel."""
    place, inverse = np.arange(target), target / source
    left = np.floor(place * (source / target))
    part = (place + 1) - (left + 1) * inverse
    part = np.where(part <= 0, 0.0, part - np.floor(part))
    return _gather(source, np.stack([left, left + 1], 1), np.stack([1 - part, part], 1))


def _bicubic(source: int, target: int) -> Float[np.ndarray, "n m"]:
    """MATLAB's cubic, widened by the scale when downsampling; edges are mirrored."""
    scale = target / source
    shrink = min(scale, 1.0)
    center = (np.arange(target) + 0.5) / scale - 0.5
    reach = int(np.ceil(2 / shrink)) + 1
    index = np.floor(center)[:, None] + np.arange(-reach, reach + 1)
    weight = keys_cubic((center[:, None] - index) * shrink, -0.5)
    mirrored = np.mod(index, 2 * source)
    mirrored = np.minimum(mirrored, 2 * source - 1 - mirrored)
    return _gather(source, mirrored, weight / weight.sum(1, keepdims=True))


_MATRICES = {
    "linear": _linear,
    "cubic": _cubic,
    "area": _area,
    "enlarge": _enlarge,
    "bicubic": _bicubic,
}
