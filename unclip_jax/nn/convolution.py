"""The 3 x 3 convolution, written for the platform that it is lowered for.

XLA's convolution on a CPU runs images of few pixels and many channels at a third of the rate of its
matrix product (benchmarks/README.md). There such a convolution is lowered as patches times a
matrix. Accelerators, gradients and every other size keep `jax.lax`'s own.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

SMALL_IMAGE = 64
"""Pixels, height x width, up to which patches are as fast or faster."""

WIDE_KERNEL = 320 * 320
"""Inputs x outputs from which they are: below, the convolution is too short to matter."""

LAYOUT = ("NHWC", "HWIO", "NHWC")


def by_windows(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c f"]
) -> Float[Array, "b h w f"]:
    """Convolves by `jax.lax`; zeros around the image keep height and width."""
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=LAYOUT)


def by_patches(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c f"]
) -> Float[Array, "b h w f"]:
    """Convolves by one matrix product: every pixel's 3 x 3 neighbors as a row [9 c]."""
    _, h, w, c = x.shape
    around = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [around[:, i : i + h, j : j + w] for i in range(3) for j in range(3)]
    return jnp.concatenate(shifted, axis=-1) @ kernel.reshape(9 * c, -1)


@jax.custom_jvp
def _by_platform(x: Array, kernel: Array) -> Array:
    return jax.lax.platform_dependent(x, kernel, cpu=by_patches, default=by_windows)


@functools.partial(_by_platform.defjvp, symbolic_zeros=True)
def _differentiated(primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    """Differentiates `jax.lax`'s convolution: the program of a training has no branches."""
    (x, kernel), (dx, dkernel) = primals, tangents
    parts = [(dx, kernel), (x, dkernel)]
    known = [by_windows(*pair) for pair in parts if SymbolicZero not in map(type, pair)]
    y = by_windows(x, kernel)
    return y, sum(known[1:], known[0]) if known else jnp.zeros_like(y)


def is_small_and_wide(x: Array, kernel: Array) -> bool:
    """Whether a convolution is one that patches make faster on a CPU."""
    _, h, w, c = x.shape
    is_wide = c * kernel.shape[-1] >= WIDE_KERNEL
    return kernel.shape[:2] == (3, 3) and h * w <= SMALL_IMAGE and is_wide


def convolve(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "k k c f"],
    strides: Any,
    padding: Any,
    **options: Any,
) -> Float[Array, "b h2 w2 f"]:
    """Convolves as `jax.lax.conv_general_dilated` does, for the layer `nn.layers.conv` alone.

    That keeps height and width, and has no strides, dilation or groups.
    """
    if is_small_and_wide(x, kernel):
        return _by_platform(x, kernel)
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)
