"""Step variances and the analytic variance's table against closed forms for Gaussian data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.diffusion.gaussian import MU, S2, exact_denoiser
from tests.oracles import ddpm_std, gaussian_x0_variance
from unclip_jax.diffusion.config import DiffusionConfig
from unclip_jax.diffusion.schedules import make_schedule
from unclip_jax.diffusion.timesteps import uniform_timesteps
from unclip_jax.diffusion.variance import (
    step_variance,
    variance_table,
    x0_error,
)

SCHEDULE = make_schedule("cosine", 1000)
BAR = SCHEDULE.alpha_bar


@pytest.mark.parametrize("kind", ["fixed_small", "fixed_large", "learned_range", "analytic"])
@pytest.mark.parametrize(("t", "s"), [(999, 998), (999, 500), (40, 0), (1, 0)])
def test_step_variance(kind, t, s):
    def level(i):
        return SCHEDULE.level(jnp.array([i]), jnp.float64)

    fraction = jnp.array([[0.3, -0.2, 1.1]])
    got = step_variance(kind, level(t), level(s), fraction=fraction, x0_error=jnp.array([0.04]))
    expected = ddpm_std(kind, BAR[t], BAR[s], fraction=np.array([0.3, -0.2, 1.1]), x0_variance=0.04)
    np.testing.assert_allclose(np.sqrt(np.asarray(got)).ravel(), expected, rtol=1e-9)


def test_table_from_errors_is_the_posterior_variance():
    """Errors of the exact denoiser average to Var[x_0 | x_t], within five standard errors."""
    n = 40_000
    keys = jax.random.split(jax.random.key(0), 2)
    x0 = MU + np.sqrt(S2) * jax.random.normal(keys[0], (n, 1))
    denoise = exact_denoiser(SCHEDULE, DiffusionConfig(prediction="x0"))
    listed = np.array([50, 400, 700])
    t = jnp.asarray(np.tile(listed, n // 3 + 1)[:n])
    error = jax.jit(lambda: x0_error(denoise, x0, t, jax.random.normal(keys[1], (n, 1)), SCHEDULE))
    table = variance_table(np.asarray(t), np.asarray(error()), num_steps=1000, data_variance=S2)
    relative = table[listed] / gaussian_x0_variance(BAR[listed], S2) - 1.0
    assert np.all(np.abs(relative) < 5.0 * np.sqrt(2.0 / (n / 3)))


def test_table_averages_interpolates_and_bounds():
    table = variance_table(
        np.array([6, 2, 2, 8]), np.array([3.0, 0.5, 1.5, 9.0]), num_steps=10, data_variance=4.0
    )
    np.testing.assert_allclose(table, [1, 1, 1, 1.5, 2, 2.5, 3, 4, 4, 4])
    with pytest.raises(ValueError, match="timesteps"):
        variance_table(np.array([10]), np.ones(1), num_steps=10, data_variance=1.0)
    with pytest.raises(ValueError, match="finite"):
        variance_table(np.array([1]), np.array([np.nan]), num_steps=10, data_variance=1.0)


def test_what_falls_is_pooled_to_the_nearest_table_that_does_not():
    """By hand: least squares under order, 3, 1, 2 -> 2, 2, 2; counts weigh the errors of one t."""
    t, error = np.array([0, 1, 2, 3, 3, 4]), np.array([3.0, 1.0, 2.0, 6.0, 4.0, 4.0])
    table = variance_table(t, error, num_steps=5, data_variance=9.0)
    np.testing.assert_allclose(table, [2, 2, 2, 4.5, 4.5])


def test_uniform_timesteps_are_uniform_and_by_key():
    keys = jax.random.split(jax.random.key(0), 20_000)
    t = np.asarray(uniform_timesteps(keys, 10))
    counts = np.bincount(t, minlength=10)
    assert len(counts) == 10
    assert np.all(np.abs(counts - 2000) < 5.0 * np.sqrt(1800.0))
    np.testing.assert_array_equal(uniform_timesteps(keys[7:9], 10), t[7:9])
