"""Corruption of the low-resolution image an upsampler is conditioned on (paper, section 2.1).

The first upsampler is trained on slightly blurred images, so that at sampling it is robust to the
decoder's own errors. Pure functions of arrays and keys, for use under jit.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key


def gaussian_kernel(sigma: Float[Array, ""] | float, size: int = 3) -> Float[Array, " size"]:
    """Returns the normalized 1-d kernel k_i ~ exp(-i^2 / (2 sigma^2)), i = -size//2 .. size//2."""
    offsets = jnp.arange(size, dtype=jnp.float32) - (size - 1) / 2
    kernel = jnp.exp(-0.5 * (offsets / sigma) ** 2)
    return kernel / kernel.sum()


def gaussian_blur(
    images: Float[Array, "b h w c"], sigma: Float[Array, " b"] | float = 0.6, size: int = 3
) -> Float[Array, "b h w c"]:
    """Blurs each image with its own Gaussian, separably; borders repeat the edge pixel.

    Args:
        sigma: standard deviation in pixels, one for all images or one each.
        size: width of the kernel, odd.
    """
    sigmas = jnp.broadcast_to(jnp.asarray(sigma, jnp.float32), (images.shape[0],))
    return jax.vmap(lambda image, s: _blur_one(image, gaussian_kernel(s, size)))(images, sigmas)


def random_blur(
    keys: Key[Array, " b"],
    images: Float[Array, "b h w c"],
    *,
    sigma: float = 0.6,
    size: int = 3,
    probability: float = 0.5,
) -> Float[Array, "b h w c"]:
    """Blurs each image with the given probability, by its own key.

    The kernel of 3 with sigma 0.6 is unCLIP's (appendix C), which gives no probability: 0.5 is
    ours. With probability 1 every image is blurred.
    """
    chosen = jax.vmap(lambda key: jax.random.bernoulli(key, probability))(keys)
    return jnp.where(chosen[:, None, None, None], gaussian_blur(images, sigma, size), images)


def _blur_one(image: Float[Array, "h w c"], kernel: Float[Array, " k"]) -> Float[Array, "h w c"]:
    half = kernel.shape[0] // 2
    height, width, _ = image.shape
    padded = jnp.pad(image, ((half, half), (half, half), (0, 0)), mode="edge")
    rows = sum(kernel[i] * padded[i : i + height] for i in range(2 * half + 1))
    return sum(kernel[i] * rows[:, i : i + width] for i in range(2 * half + 1))
