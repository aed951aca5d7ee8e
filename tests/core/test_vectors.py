"""Unit vectors: by definition, in the precision promised, and at zero."""

import jax
import jax.numpy as jnp
import numpy as np

from unclip_jax.core.vectors import unit, unit64

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
