"""The forward process, its posterior, and the conversions between x_0, eps and v.

Notation: x_t = alpha_t x_0 + sigma_t eps; v = alpha_t eps - sigma_t x_0 (Salimans & Ho 2022).
`t` is the noisier level and `s` the next, less noisy one. Levels are scalars or one per example,
and broadcast over the data's other axes.
"""

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from unclip_jax.diffusion.config import Prediction
from unclip_jax.diffusion.schedules import Level, Schedule


def at_least_float32(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Casts half precision to float32 and leaves float32 and float64 as they are."""
    return x if x.dtype.itemsize >= 4 else x.astype(jnp.float32)


def q_sample(
    x0: Float[Array, " b *d"],
    t: Int[Array, " b"],
    noise: Float[Array, " b *d"],
    schedule: Schedule,
) -> Float[Array, " b *d"]:
    """Draws from q(x_t | x_0) = N(alpha_t x_0, sigma_t^2 I), given standard normal noise."""
    x0 = at_least_float32(x0)
    level = schedule.level(t, x0.dtype).expand(x0.ndim)
    return level.alpha * x0 + level.sigma * noise.astype(x0.dtype)


def beta_t_given_s(t: Level, s: Level) -> Float[Array, "*b"]:
    """Variance of q(x_t | x_s): beta_{t|s} = 1 - alpha_bar_t / alpha_bar_s, never negative.

    Computed as (r_t^2 - r_s^2) alpha_t^2 with r = sigma / alpha, which loses no digits.
    """
    r_t, r_s = t.ratio, s.ratio
    return jnp.maximum((r_t - r_s) * (r_t + r_s) * t.alpha**2, 0.0)


@struct.dataclass
class Posterior:
    """q(x_s | x_t, x_0) = N(x0_weight x_0 + xt_weight x_t, variance I)."""

    x0_weight: Float[Array, "*b"]
    xt_weight: Float[Array, "*b"]
    variance: Float[Array, "*b"]


def posterior(t: Level, s: Level) -> Posterior:
    """Gives q(x_s | x_t, x_0) for any two levels (Ho et al. 2020, eq. 7, with beta_{t|s}).

        x0_weight = alpha_s beta_{t|s} / sigma_t^2
        xt_weight = (alpha_t / alpha_s) (sigma_s / sigma_t)^2
        variance  = beta_{t|s} (sigma_s / sigma_t)^2

    For s clean it is the point x_0; for s = t the point x_t.
    """
    beta = beta_t_given_s(t, s)
    shrink = (s.sigma / t.sigma) ** 2
    return Posterior(
        x0_weight=s.alpha * beta / t.sigma**2,
        xt_weight=t.alpha / s.alpha * shrink,
        variance=beta * shrink,
    )


def x0_from_eps(
    eps: Float[Array, " b *d"], x_t: Float[Array, " b *d"], t: Level
) -> Float[Array, " b *d"]:
    """x_0 = (x_t - sigma_t eps) / alpha_t."""
    t = t.expand(x_t.ndim)
    return (x_t - t.sigma * eps) / t.alpha


def eps_from_x0(
    x0: Float[Array, " b *d"], x_t: Float[Array, " b *d"], t: Level
) -> Float[Array, " b *d"]:
    """eps = (x_t - alpha_t x_0) / sigma_t; undefined at the clean level."""
    t = t.expand(x_t.ndim)
    return (x_t - t.alpha * x0) / t.sigma


def x0_from_v(
    v: Float[Array, " b *d"], x_t: Float[Array, " b *d"], t: Level
) -> Float[Array, " b *d"]:
    """x_0 = alpha_t x_t - sigma_t v."""
    t = t.expand(x_t.ndim)
    return t.alpha * x_t - t.sigma * v


def eps_from_v(
    v: Float[Array, " b *d"], x_t: Float[Array, " b *d"], t: Level
) -> Float[Array, " b *d"]:
    """eps = sigma_t x_t + alpha_t v."""
    t = t.expand(x_t.ndim)
    return t.sigma * x_t + t.alpha * v


def v_from_x0(
    x0: Float[Array, " b *d"], x_t: Float[Array, " b *d"], t: Level
) -> Float[Array, " b *d"]:
    """v = (alpha_t x_t - x_0) / sigma_t; undefined at the clean level."""
    t = t.expand(x_t.ndim)
    return (t.alpha * x_t - x0) / t.sigma


def v_from_eps(
    eps: Float[Array, " b *d"], x_t: Float[Array, " b *d"], t: Level
) -> Float[Array, " b *d"]:
    """v = (eps - sigma_t x_t) / alpha_t."""
    t = t.expand(x_t.ndim)
    return (eps - t.sigma * x_t) / t.alpha


_CONVERSIONS = {
    ("eps", "x0"): x0_from_eps,
    ("eps", "v"): v_from_eps,
    ("x0", "eps"): eps_from_x0,
    ("x0", "v"): v_from_x0,
    ("v", "x0"): x0_from_v,
    ("v", "eps"): eps_from_v,
}


def convert(
    value: Float[Array, " b *d"],
    x_t: Float[Array, " b *d"],
    t: Level,
    *,
    source: Prediction,
    target: Prediction,
) -> Float[Array, " b *d"]:
    """Rewrites a prediction of one kind about x_t as another kind."""
    if source == target:
        return value
    return _CONVERSIONS[source, target](value, x_t, t)


def target_of(
    kind: Prediction,
    x0: Float[Array, " b *d"],
    noise: Float[Array, " b *d"],
    t: Level,
) -> Float[Array, " b *d"]:
    """What a network of this kind should predict, from the x_0 and noise that made x_t."""
    if kind == "x0":
        return x0
    if kind == "eps":
        return noise
    t = t.expand(x0.ndim)
    return t.alpha * noise - t.sigma * x0
