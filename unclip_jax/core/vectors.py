"""Vectors of unit length, and their mean on the sphere."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

LEAST = 1e-6
"""Length that shorter vectors are divided by, so that a zero vector stays zero."""

# Of the spherical mean; vectors are float32 embeddings, so that their last digits are noise.
_CANCELED = 1e-4  # length of an arithmetic mean, or radians from the antipode: no direction left
_SETTLED = 1e-12  # radians of the last step
_MOST_STEPS = 10_000
_TINY = 1e-300


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


def linear_mean(
    x: Float[Array | np.ndarray, "k d"], weights: Float[np.ndarray, " k"]
) -> Float[np.ndarray, " d"]:
    """Returns the direction of the weighted arithmetic mean of directions, in float64.

    Raises:
        ValueError: the directions cancel out.
    """
    mean = weights / weights.sum() @ unit64(x)
    if np.linalg.norm(mean) < _CANCELED:
        raise ValueError("the directions cancel out")
    return unit64(mean)


def spherical_mean(
    x: Float[Array | np.ndarray, "k d"], weights: Float[np.ndarray, " k"]
) -> Float[np.ndarray, " d"]:
    """Returns the weighted mean of directions on the sphere (Karcher mean), in float64.

    The unit vector m that minimizes sum_i w_i angle(m, x_i)^2. Of two vectors it is their slerp at
    w_2 / (w_1 + w_2). From the normalized arithmetic mean on, each step moves m along the mean of
    the x_i as seen from it (Buss & Fillmore 2001, algorithm A1):

        v = sum_i w_i log_m(x_i),   m <- cos|v| m + sin|v| v / |v|

    By Toponogov's theorem angle(exp_m(v), x_i) <= |log_m(x_i) - v|, so that a step lowers the sum
    by |v|^2 or more and v goes to 0. The mean is unique where some hemisphere's interior holds all
    x_i (theorem 1 there), which linearly independent vectors always have.

    Args:
        x: vectors of any length but zero.
        weights: from 0, not all 0, as `normalized_weights` gives them; those of 0 are left out.

    Raises:
        ValueError: the directions cancel out, or one is opposite to the mean: there is no mean.
    """
    mean = linear_mean(x, weights)
    used = weights > 0
    points, w = unit64(x)[used], weights[used] / weights.sum()
    for _ in range(_MOST_STEPS):
        aside = points - (points @ mean)[:, None] * mean
        sine = np.linalg.norm(aside, axis=1)
        angle = np.arctan2(sine, points @ mean)
        if angle.max() > np.pi - _CANCELED:
            raise ValueError("a direction is opposite to the mean of all")
        step = (w * angle / np.maximum(sine, _TINY)) @ aside
        length = np.linalg.norm(step)
        mean = unit64(np.cos(length) * mean + np.sin(length) * step / max(length, _TINY))
        if length < _SETTLED:
            return mean
    raise ValueError("the directions nearly cancel out")


def normalized_weights(weights: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """Divides weights by their sum, without overflow.

    Raises:
        ValueError: a weight is negative or not finite, or all are 0.
    """
    weights = np.asarray(weights, np.float64)
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError("weights must be finite and not negative")
    if not (weights > 0).any():
        raise ValueError("weights must not all be 0")
    scaled = weights / weights.max()
    return scaled / scaled.sum()
