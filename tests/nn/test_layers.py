"""Norms against NumPy, activations against their definitions, initializers against their law."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta
from scipy.stats import norm

from unclip_jax.nn.layers import GroupNorm, LayerNorm, dense, gelu, quick_gelu


def numpy_group_norm(x, groups, gain, bias):
    b, h, w, c = x.shape
    y = x.reshape(b, h * w, groups, c // groups)
    y = (y - y.mean((1, 3), keepdims=True)) / np.sqrt(y.var((1, 3), keepdims=True) + 1e-5)
    return y.reshape(x.shape) * gain + bias


def test_group_norm_equals_numpy_also_far_from_zero():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 4, 3, 8)) * rng.uniform(0.1, 3, size=8) + 50.0
    gain, bias = rng.normal(size=8), rng.normal(size=8)
    scale, shift = rng.normal(size=(2, 8)), rng.normal(size=(2, 8))
    params = {"scale": jnp.asarray(gain), "bias": jnp.asarray(bias)}
    args = [jnp.asarray(v, jnp.float32) for v in (x, scale, shift)]
    layer = GroupNorm(4)
    plain = layer.apply({"params": params}, args[0])
    moved = layer.apply({"params": params}, args[0], (args[1], args[2]))
    expected = numpy_group_norm(x, 4, gain, bias)
    np.testing.assert_allclose(plain, expected, atol=2e-4)
    expected = expected * (1 + scale[:, None, None]) + shift[:, None, None]
    np.testing.assert_allclose(moved, expected, atol=5e-4)


def test_group_norm_refuses_groups_that_do_not_divide():
    with pytest.raises(ValueError, match="channels=6 must be a multiple of groups=4"):
        GroupNorm(4).init(jax.random.key(0), jnp.zeros((1, 2, 2, 6)))


def test_layer_norm_equals_numpy_and_returns_the_compute_type():
    x = np.random.default_rng(0).normal(size=(2, 3, 5)) * 1e-2 + 4.0
    x = x.astype(np.float32)
    layer = LayerNorm(jnp.bfloat16)
    variables = meta.unbox(layer.init(jax.random.key(0), jnp.asarray(x)))
    assert set(variables["params"]) == {"scale", "bias"}
    assert layer.apply(variables, jnp.asarray(x)).dtype == jnp.bfloat16
    expected = x.astype(np.float64) - x.mean(-1, keepdims=True, dtype=np.float64)
    expected = expected / np.sqrt(np.square(expected).mean(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(LayerNorm().apply(variables, jnp.asarray(x)), expected, atol=1e-4)


def test_activations_equal_their_definitions():
    x = np.linspace(-4, 4, 33)
    np.testing.assert_allclose(gelu(jnp.asarray(x)), x * norm.cdf(x), atol=1e-6)
    expected = x / (1 + np.exp(-1.702 * x))
    np.testing.assert_allclose(quick_gelu(jnp.asarray(x)), expected, atol=1e-6)


def test_dense_starts_like_torch():
    layer = dense(300, ("embed", "mlp"), name="layer", dtype=jnp.float32)
    kernel = layer.init(jax.random.key(0), jnp.zeros((1, 400)))["params"]["kernel"]
    assert kernel.names == ("embed", "mlp")
    bound = 400**-0.5  # torch.nn.Linear: uniform in +-1 / sqrt(fan_in)
    assert 0.99 * bound < jnp.abs(kernel.value).max() <= bound
    np.testing.assert_allclose(kernel.value.std(), bound / 3**0.5, rtol=0.01)


@pytest.mark.parametrize("kind", [LayerNorm, lambda dtype: GroupNorm(2, dtype)])
def test_norms_are_computed_in_float32_whatever_they_return(kind):
    """Around 1000, where neighboring bfloat16 numbers are 4 apart."""
    x = jnp.asarray(1000 + np.random.default_rng(0).normal(size=(2, 3, 3, 8)), jnp.float32)
    exact, half = kind(jnp.float32), kind(jnp.bfloat16)
    variables = meta.unbox(exact.init(jax.random.key(0), x))
    found = half.apply(variables, x)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(jnp.float32), exact.apply(variables, x), rtol=2**-7)
