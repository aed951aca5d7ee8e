"""Unit vectors: by definition, in the precision promised, and at zero; means of directions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from unclip_jax.core.vectors import (
    linear_mean,
    normalized_weights,
    spherical_mean,
    unit,
    unit64,
)

X = np.random.default_rng(0).normal(size=(4, 3, 5))


def test_vectors_have_unit_length_and_their_direction():
    found = unit(X)
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1.0, rtol=1e-15)
    np.testing.assert_allclose(found * np.linalg.norm(X, axis=-1, keepdims=True), X, rtol=1e-15)


def test_each_kind_of_array_has_its_precision():
    assert unit(X.astype(np.float32)).dtype == np.float32
    assert unit(jnp.asarray(X, jnp.bfloat16)).dtype == jnp.float32
    wide = unit64(jnp.asarray(X, jnp.float32))
    assert isinstance(wide, np.ndarray) and wide.dtype == np.float64
    np.testing.assert_allclose(unit(jnp.asarray(X, jnp.float32)), unit(X), rtol=1e-6)


def test_zero_stays_zero_with_a_finite_gradient():
    assert (unit(np.zeros((2, 3))) == 0).all() and (unit(jnp.zeros((2, 3))) == 0).all()
    assert jnp.isfinite(jax.grad(lambda x: unit(x).sum())(jnp.zeros((1, 3)))).all()


def angles(m, x):
    return np.arccos(np.clip(x @ m / np.linalg.norm(x, axis=1), -1, 1))


@pytest.mark.parametrize("seed", range(4))
def test_the_spherical_mean_has_the_least_squared_angles(seed):
    """Against a general minimizer that knows only the sum, from the best of the points."""
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(5, 7)), rng.dirichlet(np.ones(5))

    def total(y):
        return w @ angles(y / np.linalg.norm(y), x) ** 2

    starts = [v / np.linalg.norm(v) for v in x]
    ends = [
        scipy.optimize.minimize(total, s, method="BFGS", options={"gtol": 1e-9}) for s in starts
    ]
    best = min(ends, key=lambda end: end.fun).x
    found = spherical_mean(x, w)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, best / np.linalg.norm(best), atol=2e-6)
    scaled = x * rng.uniform(0.1, 9, (5, 1))  # lengths are no weights
    np.testing.assert_allclose(spherical_mean(scaled, 3 * w), found, atol=1e-10)


def test_on_a_great_circle_it_is_the_mean_angle():
    turns, w = np.asarray([-0.9, 0.1, 1.2, 0.4]), np.asarray([0.5, 0.2, 0.3, 0.0])
    x = np.stack([np.cos(turns), np.sin(turns), 0 * turns], axis=1)
    mean = w @ turns
    expected = [np.cos(mean), np.sin(mean), 0]
    np.testing.assert_allclose(spherical_mean(x, w), expected, atol=1e-12)


@pytest.mark.parametrize("theta", [0.0, 0.2, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("angle", [1e-9, 0.5, 3.0])
def test_of_two_it_is_their_slerp(theta, angle):
    x = np.asarray([[1.0, 0.0, 0.0], [np.cos(angle), np.sin(angle), 0.0]])
    expected = [np.cos(theta * angle), np.sin(theta * angle), 0.0]
    found = spherical_mean(x, np.asarray([1 - theta, theta]))
    np.testing.assert_allclose(found, expected, atol=1e-11)


def test_directions_that_cancel_out_have_no_mean():
    third = 2 * np.pi / 3 * np.arange(3)
    around = np.stack([np.cos(third), np.sin(third)], axis=1)
    for mean in (spherical_mean, linear_mean):
        for x in (np.asarray([[2.0, 1.0], [-4.0, -2.0]]), around):
            with pytest.raises(ValueError, match="cancel out"):
                mean(x, np.ones(len(x)) / len(x))
    opposite = np.asarray([[1.0, 0.0], [-1.0, 0.0]])
    with pytest.raises(ValueError, match="opposite"):
        spherical_mean(opposite, np.asarray([0.7, 0.3]))
    np.testing.assert_allclose(linear_mean(opposite, np.asarray([0.7, 0.3])), [1.0, 0.0])


def test_the_linear_mean_is_that_of_unit_vectors():
    x = np.asarray([[3.0, 0.0], [0.0, 0.5]])
    np.testing.assert_allclose(linear_mean(x, np.asarray([0.6, 0.8])), [0.6, 0.8])


def test_weights_are_normalized_without_overflow():
    np.testing.assert_allclose(normalized_weights(np.asarray([1e308, 1e308, 0])), [0.5, 0.5, 0])
    np.testing.assert_allclose(normalized_weights(np.asarray([5e-324, 0.0])), [1.0, 0.0])
    for bad in ([-1.0, 2.0], [np.nan, 1.0], [np.inf, 1.0], [0.0, 0.0]):
        with pytest.raises(ValueError, match="weights must"):
            normalized_weights(np.asarray(bad))
