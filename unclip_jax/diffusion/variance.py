"""Variance of an ancestral step: fixed small or large, learned range, analytic.

The lower bound is the posterior's variance, right for data that is one point; the upper is
beta_{t|s}, right for white-noise data. The analytic variance (Bao et al. 2022) is the optimum
between them and needs the denoiser's mean squared x_0 error at each t, tabulated here.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from unclip_jax.diffusion.config import Variance
from unclip_jax.diffusion.denoiser import Denoiser
from unclip_jax.diffusion.process import at_least_float32, beta_t_given_s, posterior, q_sample
from unclip_jax.diffusion.schedules import Level, Schedule, expand

# Stands for the zero of (sigma_s / sigma_t)^2 at the clean level, where no noise is added anyway.
TINY = 1e-20

GROUPS = 32
"""Groups of neighboring timesteps that the table's errors are pooled into."""


def learned_variance(fraction: Float[Array, " b *d"], t: Level, s: Level) -> Float[Array, " b *d"]:
    """Interpolates log beta_{t|s} and the log posterior variance (Nichol & Dhariwal 2021, eq. 15).

    var = beta^f (beta (sigma_s/sigma_t)^2)^(1-f) = beta (sigma_s/sigma_t)^(2(1-f)), beta_{t|s}
    """
    beta = expand(beta_t_given_s(t, s), fraction.ndim)
    log_shrink = jnp.log(jnp.maximum((s.sigma / t.sigma) ** 2, TINY))
    return beta * jnp.exp((1.0 - fraction) * expand(log_shrink, fraction.ndim))


def analytic_variance(x0_error: Float[Array, "*b"], t: Level, s: Level) -> Float[Array, "*b"]:
    """Optimal variance given the denoiser's error (Bao et al. 2022, eq. 9).

    var = posterior variance + (alpha_s beta_{t|s} / sigma_t^2)^2 E|x_0 - x0_hat|^2 / d
    """
    step = posterior(t, s)
    return step.variance + step.x0_weight**2 * x0_error


def bound_log_variances(
    kind: Variance,
    fraction: Float[Array, " b *d"] | None,
    t: Int[Array, " b"],
    schedule: Schedule,
    x0: Float[Array, " b *d"],
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Log of the posterior variance and of the model's, for the bound of the step t -> t - 1.

    Both are those of improved-diffusion's float64 tables, whose posterior variance of t = 0, a
    point, is that of t = 1; "fixed_large" borrows it there too, the learned range's end does not.

    Args:
        fraction: of the learned range, for "learned_range".
        x0: the data, whose rank and dtype the results have.
    """
    before = np.append(1.0, schedule.alpha_bar[:-1])
    posterior_variance = schedule.beta * (1.0 - before) / (1.0 - schedule.alpha_bar)
    posterior_variance[0] = posterior_variance[1]
    log_small, log_large = np.log(posterior_variance), np.log(schedule.beta)
    if kind == "fixed_large":
        log_large[0] = log_small[0]
    small = expand(jnp.asarray(log_small, x0.dtype)[t], x0.ndim)
    large = expand(jnp.asarray(log_large, x0.dtype)[t], x0.ndim)
    if kind == "learned_range":
        if fraction is None:
            raise ValueError("variance='learned_range' needs the network's variance channels")
        return small, fraction * large + (1.0 - fraction) * small
    return small, large if kind == "fixed_large" else small


def step_variance(
    kind: Variance,
    t: Level,
    s: Level,
    *,
    fraction: Float[Array, " b *d"] | None = None,
    x0_error: Float[Array, "*b"] | None = None,
) -> Float[Array, "..."]:
    """Variance of the ancestral step from t to s, broadcastable against the levels.

    Args:
        fraction: the denoiser's `variance_frac`, for "learned_range".
        x0_error: the variance table's entry at t, for "analytic".
    """
    if kind == "fixed_small":
        return posterior(t, s).variance
    if kind == "fixed_large":
        return beta_t_given_s(t, s)
    if kind == "learned_range":
        if fraction is None:
            raise ValueError("variance='learned_range' needs a denoiser that returns a fraction")
        return learned_variance(fraction, t, s)
    if x0_error is None:
        raise ValueError("variance='analytic' needs a variance table")
    return analytic_variance(x0_error, t, s)


def x0_error(
    denoise: Denoiser,
    x0: Float[Array, " b *d"],
    t: Int[Array, " b"],
    noise: Float[Array, " b *d"],
    schedule: Schedule,
) -> Float[Array, " b"]:
    """Returns the mean squared error of the denoiser's x_0 at t, per example, for the table."""
    x0 = at_least_float32(x0)
    estimate = denoise(q_sample(x0, t, noise, schedule), t).x0
    return jnp.mean((estimate.astype(x0.dtype) - x0) ** 2, axis=tuple(range(1, x0.ndim)))


def variance_table(
    t: np.ndarray,
    error: np.ndarray,
    *,
    num_steps: int,
    data_variance: float,
    snr: np.ndarray | None = None,
) -> np.ndarray:
    """Builds the analytic variance's table, float64 [T], from errors seen at some timesteps.

    A handful of errors at each t is far too noisy to be used as it is. Neighboring timesteps are
    pooled into at most GROUPS groups of equally many errors, between whose means it interpolates
    linearly. Of the results the nearest table that never falls with t is taken, since an optimal
    denoiser's error cannot; and it is kept in [0, data_variance], as no optimal denoiser errs more
    than the data's mean does.

    Args:
        t: int [n], in any order, repeats allowed; ends that are not seen keep the nearest value.
        error: [n], squared x_0 errors a coordinate (`x0_error`).
        data_variance: mean over coordinates of the variance of x_0 in the space diffused.
        snr: alpha^2 / sigma^2 at each t, [T]. With it what is pooled is the share of the error that
            Gaussian data of that variance would have, 1 / (1 / data_variance + snr): it changes
            little from one t to the next where the error itself changes by orders of magnitude.
    """
    seen, index = np.unique(np.asarray(t), return_inverse=True)
    if seen.size == 0 or seen[0] < 0 or seen[-1] >= num_steps:
        raise ValueError(f"timesteps of the variance table must lie in 0..{num_steps - 1}")
    error = np.asarray(error, np.float64)
    if not np.all(np.isfinite(error)):
        raise ValueError("the variance table's errors must be finite")
    shape = np.ones(num_steps)
    if snr is not None and data_variance > 0.0:
        shape = 1.0 / (1.0 / data_variance + np.asarray(snr, np.float64))
    count = np.bincount(index)
    share = np.bincount(index, weights=error) / count / shape[seen]
    group = (np.cumsum(count) - count) * GROUPS // max(count.sum(), GROUPS)
    group = np.unique(group, return_inverse=True)[1]
    weight = np.bincount(group, weights=count)
    center = np.bincount(group, weights=count * seen) / weight
    pooled = np.bincount(group, weights=count * share) / weight
    table = np.interp(np.arange(num_steps), center, pooled) * shape
    return np.clip(isotonic(table), 0.0, data_variance)


def isotonic(values: np.ndarray) -> np.ndarray:
    """Returns the least-squares fit that never falls, float64 [n]: pool adjacent violators.

    A value below the mean of the block before it joins that block (Barlow et al. 1972, sec. 1.2).
    """
    sums: list[float] = []
    sizes: list[int] = []
    for value in np.asarray(values, np.float64):
        total, size = float(value), 1
        while sums and sums[-1] * size >= total * sizes[-1]:
            total, size = total + sums.pop(), size + sizes.pop()
        sums.append(total)
        sizes.append(size)
    return np.repeat(np.array(sums) / np.array(sizes), sizes)
