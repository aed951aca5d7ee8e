"""Process, posterior and conversions against Bayes and the definitions."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.oracles import bayes_posterior
from unclip_jax.diffusion.process import beta_t_given_s, convert, posterior, q_sample, target_of
from unclip_jax.diffusion.schedules import CLEAN, make_schedule

KINDS = ("eps", "x0", "v")
SCHEDULE = make_schedule("cosine", 1000)


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    x0, eps = (jnp.asarray(rng.normal(size=(4, 3, 2))) for _ in range(2))
    t = jnp.array([0, 17, 500, 990])
    return x0, eps, t, q_sample(x0, t, eps, SCHEDULE)


@pytest.mark.parametrize(("source", "target"), list(itertools.product(KINDS, KINDS)))
def test_conversions_agree_with_definitions(pair, source, target):
    x0, eps, t, x_t = pair
    level = SCHEDULE.level(t, x0.dtype)
    a = SCHEDULE.alpha_bar[np.asarray(t)].reshape(4, 1, 1)
    truth = {"x0": x0, "eps": eps, "v": np.sqrt(a) * eps - np.sqrt(1 - a) * x0}
    np.testing.assert_allclose(x_t, np.sqrt(a) * x0 + np.sqrt(1 - a) * eps, rtol=1e-13)
    converted = convert(truth[source], x_t, level, source=source, target=target)
    np.testing.assert_allclose(converted, truth[target], rtol=1e-9, atol=1e-10)
    back = convert(converted, x_t, level, source=target, target=source)
    np.testing.assert_allclose(back, truth[source], rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(target_of(target, x0, eps, level), truth[target], rtol=1e-13)


@pytest.mark.parametrize(
    ("t", "s"), [(999, 998), (999, 0), (500, 400), (1, 0), (0, CLEAN), (7, -1)]
)
def test_posterior_is_bayes(t, s):
    bar = np.append(SCHEDULE.alpha_bar, 1.0)
    got = posterior(*(SCHEDULE.level(i, jnp.float64) for i in (t, s)))
    expected = bayes_posterior(bar[t], bar[s])
    values = [float(got.x0_weight), float(got.xt_weight), float(got.variance)]
    np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-15)


def test_skip_beta_is_accurate_in_float32():
    t = np.arange(1000)

    def level(i):
        return SCHEDULE.level(i, jnp.float32)

    np.testing.assert_allclose(beta_t_given_s(level(t), level(t - 1)), SCHEDULE.beta, rtol=1e-4)
    naive = np.asarray(1.0 - (level(t).alpha / level(t - 1).alpha) ** 2)
    assert np.max(np.abs(naive / SCHEDULE.beta - 1.0)) > 1e-3


def test_q_sample_moments():
    """Against x_t ~ N(alpha mu, alpha^2 s^2 + sigma^2), within five standard errors."""
    n = 200_000
    keys = jax.random.split(jax.random.key(0), 2)
    x0 = 2.0 + 0.5 * jax.random.normal(keys[0], (n, 1))
    t = jnp.full((n,), 400)
    x_t = np.asarray(q_sample(x0, t, jax.random.normal(keys[1], (n, 1)), SCHEDULE))
    a = SCHEDULE.alpha_bar[400]
    variance = a * 0.25 + 1.0 - a
    assert abs(x_t.mean() - 2.0 * np.sqrt(a)) < 5.0 * np.sqrt(variance / n)
    assert abs(x_t.var() / variance - 1.0) < 5.0 * np.sqrt(2.0 / n)


def test_half_precision_is_computed_in_float32():
    x0 = jnp.ones((2, 3), jnp.bfloat16)
    x_t = q_sample(x0, jnp.array([3, 5]), jnp.zeros_like(x0), SCHEDULE)
    assert x_t.dtype == jnp.float32
    np.testing.assert_allclose(x_t[:, 0], np.sqrt(SCHEDULE.alpha_bar[[3, 5]]), rtol=1e-6)
