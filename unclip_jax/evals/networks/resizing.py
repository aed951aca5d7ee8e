"""The two ways in which images come to Inception's size: they give different numbers."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num, UInt8
from PIL import Image


def tf1_bilinear(images: Num[Array, "n h w c"], size: int) -> Float[Array, "n s s c"]:
    """Resizes as TensorFlow 1's resize_bilinear does without align_corners.

    Output pixel i lies at i * source / size, so images shift by up to half a pixel; nothing is
    averaged when downsampling, so they alias. float32 throughout, as in TensorFlow's kernel
    (core/kernels/image/resize_bilinear_op.cc).
    """
    images = images.astype(jnp.float32)
    for axis in (2, 1):  # TensorFlow's order: along a row first
        images = _interpolate(images, axis, size)
    return images


def _interpolate(x: Float[Array, "n h w c"], axis: int, size: int) -> Float[Array, "n h2 w2 c"]:
    source = x.shape[axis]
    place = np.arange(size, dtype=np.float32) * (np.float32(source) / np.float32(size))
    low = np.floor(place).astype(np.int32)
    high = np.minimum(low + 1, source - 1)
    part = (place - low).reshape((1,) * axis + (size,) + (1,) * (3 - axis))
    first, second = jnp.take(x, low, axis=axis), jnp.take(x, high, axis=axis)
    return first + (second - first) * part


def pillow_bicubic(images: UInt8[np.ndarray, "n h w 3"], size: int) -> Float[np.ndarray, "n s s 3"]:
    """Resizes each channel by Pillow's bicubic filter in float32 (Parmar et al. 2022, clean-fid).

    The filter widens when downsampling, so nothing aliases. Values are cut to 0 … 255 and not
    rounded, as in clean-fid 0.1.35.
    """
    if images.shape[1:3] == (size, size):
        return images.astype(np.float32)
    found = np.empty((len(images), size, size, 3), np.float32)
    for image, out in zip(images, found, strict=True):
        for channel in range(3):
            plane = Image.fromarray(image[..., channel].astype(np.float32))
            out[..., channel] = plane.resize((size, size), Image.Resampling.BICUBIC)
    return found.clip(0.0, 255.0)
