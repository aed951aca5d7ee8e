"""BSR degradation (Zhang et al. 2021): low-resolution images with realistic artifacts.

The paper's 256 -> 1024 upsampler learns from it, citing latent diffusion (unCLIP, appendix C),
whose published super-resolution model trains with the light variant. "bsr_light" and "bsr" are
latent-diffusion's bsrgan_light.py and bsrgan.py, operation by operation:

    [half the time of 1 in 4: halved by OpenCV's filters, else by MATLAB's bicubic]
    in random order: blurs, a resize on the way, the resize to a quarter (never before the one on
    the way), Gaussian noise, JPEG (9 in 10)
    JPEG

Drawing and applying are separate: `draw_steps` sees no image, `apply` draws nothing but the noise
itself. Everything runs on the host with a generator of the example's own, so that the result
depends on nothing else.
"""

import dataclasses
import io
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from unclip_jax.data.resampling import OPENCV, Method, resize

Degradation = Literal["none", "bsr", "bsr_light"]
FACTOR = 4
HALVE_FIRST = 0.25  # probability
HALVE_BY_OPENCV = 0.5  # probability
ANISOTROPIC = 0.5  # probability
JPEG_PROBABILITY = 0.9
CORRELATED, GRAY = 0.2, 0.4  # probabilities of the kinds of noise; the rest is each channel's own
STRIDE_KERNEL = 25  # side of the kernel before taking every f-th pixel

Pixels = Float[np.ndarray, "h w 3"]
Kernel = Float[np.ndarray, "k k"]


@dataclasses.dataclass(frozen=True)
class Strength:
    """The settings that differ between the variants.

    Attributes:
        blurs: number of blurs in the chain.
        width: scales the blurs' variances (anisotropic) and deviations (isotropic).
        anisotropic: kernel sides from which an anisotropic blur draws one.
        isotropic: kernel sides from which an isotropic blur draws one.
        plain: probability that the resize on the way is a plain one.
        noise: lowest and highest standard deviation, in levels of 255.
        quality: lowest and highest JPEG quality.
    """

    blurs: int
    width: float
    anisotropic: tuple[int, ...]
    isotropic: tuple[int, ...]
    plain: float
    noise: tuple[int, int]
    quality: tuple[int, int]


_ODD = tuple(range(7, 26, 2))
STRENGTHS = {
    "bsr": Strength(2, 1.0, _ODD, _ODD, 0.75, (2, 25), (30, 95)),
    "bsr_light": Strength(1, 0.25, tuple(range(5, 15)), (5, 6, 7), 0.8, (1, 2), (80, 95)),
}


@dataclasses.dataclass(frozen=True)
class Resize:
    """A resize to (height, width)."""

    size: tuple[int, int]
    method: Method


@dataclasses.dataclass(frozen=True, eq=False)
class Blur:
    """A convolution, of which every stride-th pixel is kept."""

    kernel: Kernel
    stride: int = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Noise:
    """Gaussian noise with this covariance of the channels, for values in [0, 1]."""

    covariance: Float[np.ndarray, "3 3"]


@dataclasses.dataclass(frozen=True)
class Jpeg:
    """JPEG compression."""

    quality: int


Step = Resize | Blur | Noise | Jpeg


def degrade(
    image: UInt8[np.ndarray, "h w 3"], kind: Degradation, rng: np.random.Generator
) -> UInt8[np.ndarray, "h4 w4 3"]:
    """Returns a quarter-size image, degraded at random.

    Args:
        image: sides must be multiples of 8.
        rng: the example's own generator, from which everything is drawn.
    """
    height, width = image.shape[:2]
    if height % (2 * FACTOR) or width % (2 * FACTOR):
        raise ValueError(f"sides of {image.shape=} must be multiples of {2 * FACTOR}")
    x = image.astype(np.float32) / 255.0
    for step in draw_steps(kind, (height, width), rng):
        x = apply(step, x, rng)
    return _to_uint8(x)


def draw_steps(kind: Degradation, size: tuple[int, int], rng: np.random.Generator) -> list[Step]:
    """Draws the steps of the degradation of an image of (height, width), in order."""
    strength, factor = STRENGTHS[kind], FACTOR
    (height, width), first, jpeg = size, [], []
    if rng.random() < HALVE_FIRST:
        factor, height, width = factor // 2, height // 2, width // 2
        by_opencv = rng.random() < HALVE_BY_OPENCV
        first = [Resize((height, width), _method(rng) if by_opencv else "bicubic")]
    on_the_way = _resize_on_the_way((height, width), factor, strength.plain, rng)
    last = Resize((height // factor, width // factor), _method(rng))
    blurs = [_blur(strength, factor, rng) for _ in range(strength.blurs)]
    if rng.random() < JPEG_PROBABILITY:
        jpeg = [_jpeg(strength, rng)]
    steps = [on_the_way, last, *blurs, Noise(_noise_covariance(strength.noise, rng)), *jpeg]
    order = step_order(len(steps), rng)
    return [*first, *(steps[i] for i in order), _jpeg(strength, rng)]


def step_order(count: int, rng: np.random.Generator) -> list[int]:
    """Shuffles 0..count-1 so that 1 never precedes 0."""
    order = rng.permutation(count).tolist()
    first, second = order.index(0), order.index(1)
    if second < first:
        order[first], order[second] = 1, 0
    return order


def apply(step: Step, x: Pixels, rng: np.random.Generator) -> Float[np.ndarray, "h2 w2 3"]:
    """Applies one step to an image in [0, 1]; draws from rng for noise only."""
    match step:
        case Resize(size, method):
            # OpenCV copies an image that already has the size.
            return x if x.shape[:2] == size else np.clip(resize(x, size, method), 0.0, 1.0)
        case Blur(kernel, stride):
            return np.ascontiguousarray(convolve(x, kernel)[::stride, ::stride])
        case Noise(covariance):
            values, vectors = np.linalg.eigh(covariance)
            root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
            noise = rng.standard_normal(x.shape) @ root
            return np.clip(x + noise, 0.0, 1.0).astype(np.float32)
        case Jpeg(quality):
            return _through_jpeg(x, quality)


def _method(rng: np.random.Generator) -> Method:
    return OPENCV[int(rng.integers(len(OPENCV)))]


def _jpeg(strength: Strength, rng: np.random.Generator) -> Jpeg:
    return Jpeg(int(rng.integers(strength.quality[0], strength.quality[1] + 1)))


def _blur(strength: Strength, factor: int, rng: np.random.Generator) -> Blur:
    """Half of them anisotropic: variances U(0, w (4 + f)); else deviation U(0, w (2 + f / 5))."""
    if rng.random() < ANISOTROPIC:
        size, angle = rng.choice(strength.anisotropic), rng.uniform(0, np.pi)
        variances = rng.uniform(0, strength.width * (4 + factor), size=2)
        axes = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        return Blur(gaussian_kernel_2d((axes * variances) @ axes.T, int(size)))
    size, deviation = rng.choice(strength.isotropic), rng.uniform(0, 2 + 0.2 * factor)
    return Blur(gaussian_kernel_2d(np.eye(2) * (strength.width * deviation) ** 2, int(size)))


def _resize_on_the_way(
    size: tuple[int, int], factor: int, plain: float, rng: np.random.Generator
) -> Resize | Blur:
    """Shrinks by U(1, 2 f), or blurs by a shifted Gaussian and takes every f-th pixel."""
    if rng.random() < plain:
        scale = rng.uniform(1, 2 * factor)
        return Resize((max(1, int(size[0] / scale)), max(1, int(size[1] / scale))), _method(rng))
    return Blur(shifted_kernel(rng.uniform(0.1, 0.6 * factor), factor), factor)


def _noise_covariance(
    levels: tuple[int, int], rng: np.random.Generator
) -> Float[np.ndarray, "3 3"]:
    """Each channel's own (0.4), gray (0.4), or |L^2 U^T D U| of the highest level L (0.2).

    D holds three U(0, 1); U is an orthonormal basis of the columns of a matrix of U(0, 1).
    """
    deviation, kind = rng.integers(levels[0], levels[1] + 1) / 255.0, rng.random()
    if kind < CORRELATED:
        basis = np.linalg.svd(rng.random((3, 3)))[0]
        return np.abs((levels[1] / 255.0) ** 2 * (basis.T * rng.random(3)) @ basis)
    return deviation**2 * (np.ones((3, 3)) if kind < CORRELATED + GRAY else np.eye(3))


def gaussian_kernel_2d(covariance: Float[np.ndarray, "2 2"], size: int) -> Kernel:
    """Returns exp(-d^T C^-1 d / 2), normalized; d = position - (size - 1) / 2 = (x, y).

    However narrow it is, it sums to one: latent-diffusion's isotropic kernels of even sides are all
    zero for deviations under 0.018 pixels, which makes the image black (ours do not).
    """
    values, vectors = np.linalg.eigh(np.asarray(covariance, np.float64))
    inverse = (vectors / np.maximum(values, 1e-12)) @ vectors.T
    offsets = np.arange(size) - (size - 1) / 2
    y, x = np.meshgrid(offsets, offsets, indexing="ij")
    d = np.stack([x, y], axis=-1)
    exponent = -0.5 * np.einsum("hwi,ij,hwj->hw", d, inverse, d)
    kernel = np.exp(exponent - exponent.max())
    return kernel / kernel.sum()


def shifted_kernel(deviation: float, factor: int, size: int = STRIDE_KERNEL) -> Kernel:
    """Returns a Gaussian moved by -(f - 1) / 2, to the middle of an f x f cell.

    It is moved by linear interpolation, as latent-diffusion does, not by moving its mean.
    """
    place = np.minimum(np.arange(size) + 0.5 * (factor - 1), size - 1)
    left = np.minimum(place.astype(np.int64), size - 2)
    move = np.zeros((size, size))
    rows = np.arange(size)
    move[rows, left], move[rows, left + 1] = 1 - (place - left), place - left
    kernel = move @ gaussian_kernel_2d(np.eye(2) * deviation**2, size) @ move.T
    return kernel / kernel.sum()


def convolve(x: Pixels, kernel: Kernel) -> Pixels:
    """Convolves each channel by FFT; pixel size // 2 of the kernel is its center.

    At the border the image is mirrored about its edge pixel, which is not repeated.
    """
    size = kernel.shape[0]
    height, width = x.shape[:2]
    around = (size - 1 - size // 2, size // 2)
    padded = np.pad(x.astype(np.float64), (around, around, (0, 0)), mode="reflect")
    shape = padded.shape[:2]
    spectrum = np.fft.rfft2(padded, axes=(0, 1)) * np.fft.rfft2(kernel, s=shape)[..., None]
    full = np.fft.irfft2(spectrum, s=shape, axes=(0, 1))
    return full[size - 1 : size - 1 + height, size - 1 : size - 1 + width].astype(x.dtype)


def _through_jpeg(x: Pixels, quality: int) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(_to_uint8(x)).save(buffer, format="JPEG", quality=quality)
    with Image.open(io.BytesIO(buffer.getvalue())) as image:
        return np.asarray(image.convert("RGB"), np.float32) / 255.0


def _to_uint8(x: Pixels) -> UInt8[np.ndarray, "h w 3"]:
    return np.round(np.clip(x, 0.0, 1.0) * 255.0).astype(np.uint8)
