"""DPM-Solver++(2M), a second-order multistep solver of the probability-flow ODE (Lu et al. 2022).

It remembers one earlier estimate of x_0 and the level it was made at; nothing else.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from unclip_jax.diffusion.process import at_least_float32
from unclip_jax.diffusion.schedules import Level, expand


def no_history(x: Float[Array, " b *d"]) -> Level:
    """The level to give as `before` when there is no earlier estimate: pure noise.

    It is infinitely far away in log-SNR, so its estimate gets weight zero and the step is of first
    order.
    """
    return Level(alpha=jnp.zeros((), x.dtype), sigma=jnp.ones((), x.dtype))


def dpmpp_step(
    x_t: Float[Array, " b *d"],
    x0: Float[Array, " b *d"],
    x0_before: Float[Array, " b *d"],
    t: Level,
    s: Level,
    before: Level,
) -> Float[Array, " b *d"]:
    """Takes one 2M step from level t to level s (Lu et al. 2022, algorithm 2).

        lambda = log(alpha / sigma);  h = lambda_s - lambda_t;  h_b = lambda_t - lambda_before
        D   = x0 + h / (2 h_b) (x0 - x0_before)
        x_s = (sigma_s / sigma_t) x_t + alpha_s (1 - exp(-h)) D

    The step to the clean level, where h is infinite, is of first order: x_s = x0.

    Args:
        x0: the estimate at (x_t, t), already guided and clipped.
        x0_before: the estimate of the step before, made at level `before`.
        before: `no_history` for a first step.
    """
    x_t = at_least_float32(x_t)
    x0, x0_before = x0.astype(x_t.dtype), x0_before.astype(x_t.dtype)
    decay = s.ratio / t.ratio
    is_clean = s.sigma == 0.0
    h = -jnp.log(jnp.where(is_clean, 1.0, decay))
    h_before = jnp.log(before.ratio / t.ratio)
    weight = expand(h / (2.0 * h_before), x_t.ndim)
    estimate = x0 + weight * (x0 - x0_before)
    s, t = s.expand(x_t.ndim), t.expand(x_t.ndim)
    return s.sigma / t.sigma * x_t + s.alpha * (1.0 - expand(decay, x_t.ndim)) * estimate
