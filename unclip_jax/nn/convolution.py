"""The 3 x 3 convolution, written for the platform that it is lowered for.

On a CPU XLA's convolution of many channels is slower than its matrix product can be
(docs/performance.md). There such a convolution is lowered as products: of patches where the image
has few pixels, of tiles in Winograd's form where it has more. Accelerators, gradients, other sizes
and other types keep `jax.lax`'s own.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

WIDE_KERNEL = 320 * 320
"""Inputs x outputs from which products pay; what is narrower is too short to matter."""

FEW_PIXELS = 8 * 8
"""Height x width up to which patches are faster than tiles, whose kernel is larger."""

MANY_PIXELS = 128 * 128
"""Height x width up to which tiles are taken: they need the memory of eight such images."""

LAYOUT = ("NHWC", "HWIO", "NHWC")

Image = Float[Array, "b h w c"]
Kernel = Float[Array, "3 3 c f"]
Form = Callable[[Array, Array], Array]


def by_windows(x: Image, kernel: Kernel) -> Float[Array, "b h w f"]:
    """Convolves by `jax.lax`; zeros around the image keep height and width."""
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=LAYOUT)


def by_patches(x: Image, kernel: Kernel) -> Float[Array, "b h w f"]:
    """Convolves by one matrix product: every pixel's 3 x 3 neighbors as a row [9 c]."""
    _, h, w, c = x.shape
    around = _pad(x)
    shifted = [around[:, i : i + h, j : j + w] for i in range(3) for j in range(3)]
    return jnp.concatenate(shifted, axis=-1) @ kernel.reshape(9 * c, -1)


def by_tiles(x: Image, kernel: Kernel) -> Float[Array, "b h w f"]:
    """Convolves tiles of 2 x 2 pixels by 16 products of each input in place of 36.

    Winograd's F(2x2, 3x3) (Lavin & Gray 2016, section 4.1): Y = A' [(G g G') * (B' d B)] A for a
    tile d of 4 x 4 pixels and a kernel g. Rows are transformed first, then a loop over the four
    rows of the result does the rest, so that it is compiled once. Height and width are even.
    """
    b, h, w, _ = x.shape
    half, features = (b, h // 2, w // 2), kernel.shape[-1]
    rows = jnp.stack(_of_inputs(_pad(x), axis=1))
    kernel_rows = jnp.stack(_of_kernel(kernel))

    def columns(_: None, row: tuple[Array, Array]) -> tuple[None, Array]:
        # The barrier keeps the transforms out of the products' own code.
        tiles = jax.lax.optimization_barrier(_of_inputs(row[0], axis=2))
        kernels = jax.lax.optimization_barrier(_of_kernel(row[1]))
        products = [
            (tile.reshape(-1, tile.shape[-1]) @ one).reshape(*half, features)
            for tile, one in zip(tiles, kernels, strict=True)
        ]
        return None, jnp.stack(_of_outputs(products), axis=3)

    _, pairs = jax.lax.scan(columns, None, (rows, kernel_rows))
    return jnp.stack(_of_outputs(list(pairs)), axis=2).reshape(b, h, w, features)


def _pad(x: Array) -> Array:
    return jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))


def _of_inputs(x: Array, axis: int) -> list[Array]:
    """B' d along an axis of n + 2 pixels, for its n / 2 overlapping tiles of four."""
    last = x.shape[axis] - 3
    d = [jax.lax.slice_in_dim(x, i, i + last, stride=2, axis=axis) for i in range(4)]
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _of_kernel(g: Array) -> list[Array]:
    """G g along the first axis."""
    return [g[0], (g[0] + g[1] + g[2]) / 2, (g[0] - g[1] + g[2]) / 2, g[2]]


def _of_outputs(m: list[Array]) -> list[Array]:
    """A' m: two pixels."""
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _by_platform(form: Form, x: Array, kernel: Array) -> Array:
    return jax.lax.platform_dependent(x, kernel, cpu=form, default=by_windows)


@functools.partial(_by_platform.defjvp, symbolic_zeros=True)
def _differentiated(form: Form, primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> Any:
    """Differentiates `jax.lax`'s convolution: the program of a training has no branches."""
    (x, kernel), (dx, dkernel) = primals, tangents
    parts = [(dx, kernel), (x, dkernel)]
    known = [by_windows(*pair) for pair in parts if SymbolicZero not in map(type, pair)]
    y = by_windows(x, kernel)
    return y, sum(known[1:], known[0]) if known else jnp.zeros_like(y)


def cpu_form(x: Array, kernel: Array) -> Form:
    """Returns the form in which a CPU computes a convolution of these shapes."""
    _, h, w, c = x.shape
    if kernel.shape[:2] != (3, 3) or c * kernel.shape[-1] < WIDE_KERNEL or x.dtype != jnp.float32:
        return by_windows
    if h * w <= FEW_PIXELS:
        return by_patches
    is_even = h % 2 == w % 2 == 0
    return by_tiles if is_even and h * w <= MANY_PIXELS else by_windows


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
    form = cpu_form(x, kernel)
    if form is by_windows:
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)
    return _by_platform(form, x, kernel)
