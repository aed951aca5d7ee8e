"""Vectors of unit length."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

LEAST = 1e-6
"""Length that shorter vectors are divided by, so that a zero vector stays zero."""


def unit(x: Float[Array | np.ndarray, "*n d"]) -> Float[Array | np.ndarray, "*n d"]:
    """Scales vectors to unit length; a zero vector stays zero, with a finite gradient.

    NumPy arrays keep their precision; JAX arrays become float32.
    """
    if isinstance(x, np.ndarray):
        return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), LEAST)
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), LEAST**2))


def unit64(x: Float[Array | np.ndarray, "*n d"]) -> Float[np.ndarray, "*n d"]:
    """Scales vectors to unit length on the host, in float64."""
    return unit(np.asarray(x, np.float64))
