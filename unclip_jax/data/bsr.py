"""BSR degradation (Zhang et al. 2021): small pictures with the faults that real ones have.

The paper's 256 -> 1024 upsampler learns from it (unCLIP, appendix C), without saying which variant;
"bsr" is the whole chain, "bsr_light" that of latent diffusion's super-resolution. Blurs, a resize
on the way, noise and JPEG come in random order, the resize to a quarter after the one on the way,
and one more JPEG at the end. It runs on the host, with real codecs and filters, from a generator of
the example's own: what a picture becomes depends on nothing else.
"""

import dataclasses
import io
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

Degradation = Literal["none", "bsr", "bsr_light"]
FACTOR = 4
FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.BOX)
HALVE_FIRST = 0.25  # probability
JPEG_QUALITY = (30, 95)
JPEG_PROBABILITY = 0.9

Picture = Float[np.ndarray, "h w 3"]


@dataclasses.dataclass(frozen=True)
class Strength:
    """What differs between the variants.

    Attributes:
        blurs: how many blurs the chain has.
        noise: standard deviation in grey levels, lowest and highest.
        resize: probability that the resize on the way is a plain one.
    """

    blurs: int
    noise: tuple[int, int]
    resize: float


STRENGTHS = {"bsr": Strength(2, (2, 25), 0.75), "bsr_light": Strength(1, (1, 2), 0.8)}


def degrade(
    image: UInt8[np.ndarray, "h w 3"], kind: Degradation, rng: np.random.Generator
) -> UInt8[np.ndarray, "h4 w4 3"]:
    """Returns a quarter-size picture, degraded at random.

    Args:
        image: sides must be multiples of 8.
        rng: the example's own; every draw comes from it.
    """
    height, width = image.shape[:2]
    if height % (2 * FACTOR) or width % (2 * FACTOR):
        raise ValueError(f"sides of {image.shape=} must be multiples of {2 * FACTOR}")
    strength, factor = STRENGTHS[kind], FACTOR
    size = (width // FACTOR, height // FACTOR)
    x = image.astype(np.float32) / 255.0
    if rng.random() < HALVE_FIRST:
        x, factor = _resize(x, (width // 2, height // 2), rng), FACTOR // 2
    steps = _chain(strength, factor, size)
    for i in step_order(len(steps), rng):
        x = steps[i](x, rng)
    return _to_uint8(_jpeg(x, rng))


def _chain(strength: Strength, factor: int, size: tuple[int, int]) -> list[Callable[..., Any]]:
    """Lists the steps; the first two are the resize on the way and the one to the final size."""
    steps = [
        lambda x, rng: _resize_on_the_way(x, factor, strength.resize, rng),
        lambda x, rng: _resize(x, size, rng),
    ]
    steps += [lambda x, rng: _blur(x, factor, rng)] * strength.blurs
    steps += [lambda x, rng: _noise(x, strength.noise, rng)]
    return [*steps, lambda x, rng: _jpeg(x, rng) if rng.random() < JPEG_PROBABILITY else x]


def step_order(count: int, rng: np.random.Generator) -> list[int]:
    """Shuffles 0..count-1, 1 never before 0."""
    order = rng.permutation(count).tolist()
    first, second = order.index(0), order.index(1)
    if second < first:
        order[first], order[second] = 1, 0
    return order


def _blur(x: Picture, factor: int, rng: np.random.Generator) -> Picture:
    """Gaussian: half of them isotropic of deviation U(0, 2 + 0.2 f), half of two variances."""
    radius = int(rng.integers(2, 12)) + 1  # kernels of 2 r + 1 = 7 to 25 taps
    if rng.random() < 0.5:
        angle = rng.uniform(0, np.pi)
        variances = rng.uniform(0, 4 + factor, size=2)
        axes = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        covariance = (axes * variances) @ axes.T
    else:
        covariance = np.eye(2) * rng.uniform(0, 2 + 0.2 * factor) ** 2
    return convolve(x, gaussian_kernel_2d(covariance, radius))


def gaussian_kernel_2d(
    covariance: Float[np.ndarray, "2 2"], radius: int, shift: tuple[float, float] = (0.0, 0.0)
) -> Float[np.ndarray, "k k"]:
    """Returns exp(-d^T C^-1 d / 2) on a (2 radius + 1)^2 grid, normalised; d = position - shift.

    Variances under a tenth of a pixel squared are raised to it: such a kernel is one pixel.
    """
    values, vectors = np.linalg.eigh(np.asarray(covariance, np.float64))
    inverse = (vectors / np.maximum(values, 0.1)) @ vectors.T
    offsets = np.arange(-radius, radius + 1, dtype=np.float64)
    y, x = np.meshgrid(offsets - shift[0], offsets - shift[1], indexing="ij")
    d = np.stack([x, y], axis=-1)
    kernel = np.exp(-0.5 * np.einsum("hwi,ij,hwj->hw", d, inverse, d))
    return kernel / kernel.sum()


def convolve(x: Picture, kernel: Float[np.ndarray, "k k"]) -> Picture:
    """Convolves each channel; borders mirror the picture. By Fourier transforms."""
    radius = kernel.shape[0] // 2
    height, width = x.shape[:2]
    padded = np.pad(x, ((radius, radius), (radius, radius), (0, 0)), mode="symmetric")
    shape = padded.shape[:2]
    spectrum = np.fft.rfft2(padded, axes=(0, 1)) * np.fft.rfft2(kernel, s=shape)[..., None]
    full = np.fft.irfft2(spectrum, s=shape, axes=(0, 1))
    return full[2 * radius : 2 * radius + height, 2 * radius : 2 * radius + width].astype(x.dtype)


def _resize_on_the_way(
    x: Picture, factor: int, plain: float, rng: np.random.Generator
) -> Float[np.ndarray, "h2 w2 3"]:
    """Shrinks by U(1, 2 f), or blurs by a shifted Gaussian and takes every f-th pixel."""
    height, width = x.shape[:2]
    if rng.random() < plain:
        scale = rng.uniform(1, 2 * factor)
        return _resize(x, (max(1, round(width / scale)), max(1, round(height / scale))), rng)
    return strided(x, factor, rng.uniform(0.1, 0.6 * factor))


def strided(x: Picture, factor: int, deviation: float) -> Float[np.ndarray, "h2 w2 3"]:
    """Takes every f-th pixel of a blur centred on the middle of each f x f cell."""
    shift = -0.5 * (factor - 1)
    kernel = gaussian_kernel_2d(np.eye(2) * deviation**2, 12, (shift, shift))
    return np.ascontiguousarray(convolve(x, kernel)[::factor, ::factor])


def _resize(
    x: Picture, size: tuple[int, int], rng: np.random.Generator
) -> Float[np.ndarray, "h2 w2 3"]:
    """Resizes to (width, height) by a filter drawn from linear, cubic and area."""
    method = FILTERS[int(rng.integers(len(FILTERS)))]
    planes = [Image.fromarray(np.ascontiguousarray(x[..., c])) for c in range(3)]
    planes = [np.asarray(plane.resize(size, method)) for plane in planes]
    return np.clip(np.stack(planes, axis=-1), 0.0, 1.0)


def _noise(x: Picture, levels: tuple[int, int], rng: np.random.Generator) -> Picture:
    """Adds Gaussian noise: of each channel's own (0.4), grey (0.4) or correlated (0.2)."""
    deviation = rng.integers(levels[0], levels[1] + 1) / 255.0
    kind = rng.random()
    if kind < 0.4:
        noise = rng.standard_normal(x.shape)
    elif kind < 0.8:
        noise = rng.standard_normal((*x.shape[:2], 1))
    else:
        mixing = np.linalg.qr(rng.standard_normal((3, 3)))[0] * rng.random(3)
        noise = rng.standard_normal(x.shape) @ mixing.T
    return np.clip(x + deviation * noise, 0.0, 1.0).astype(np.float32)


def _jpeg(x: Picture, rng: np.random.Generator) -> Picture:
    """Encodes and decodes at a quality of 30 to 95."""
    buffer = io.BytesIO()
    quality = int(rng.integers(JPEG_QUALITY[0], JPEG_QUALITY[1] + 1))
    Image.fromarray(_to_uint8(x)).save(buffer, format="JPEG", quality=quality)
    with Image.open(io.BytesIO(buffer.getvalue())) as image:
        return np.asarray(image.convert("RGB"), np.float32) / 255.0


def _to_uint8(x: Picture) -> UInt8[np.ndarray, "h w 3"]:
    return np.round(np.clip(x, 0.0, 1.0) * 255.0).astype(np.uint8)
