"""Guidance, clipping and thresholding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unclip_jax.diffusion.config import DiffusionConfig, SamplingConfig
from unclip_jax.diffusion.denoiser import (
    Denoised,
    clipped,
    guided_network,
    limited,
    make_denoiser,
    thresholded,
)
from unclip_jax.diffusion.schedules import make_schedule

SCHEDULE = make_schedule("linear", 100)
with jax.enable_x64(True):
    T = jnp.array([3, 50, 99])
    X = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 2, 3)))


def halves_network(channels: int, calls: list):
    """Conditional half: 2x; unconditional half: -x + t; variance channels 5 and 7."""

    def network(x, t):
        calls.append(x.shape)
        n = x.shape[0] // 2
        drift = t.astype(x.dtype)[:, None, None, None]
        out = jnp.concatenate([2.0 * x[:n], -x[n:] + drift[n:]])
        if channels == 6:
            marks = jnp.where(jnp.arange(2 * n) < n, 5.0, 7.0)[:, None, None, None]
            out = jnp.concatenate([out, jnp.broadcast_to(marks, x.shape)], axis=-1)
        return out

    return network


@pytest.mark.parametrize("channels", [3, 6])
@pytest.mark.parametrize("scale", [0.0, 1.0, 4.0])
def test_guidance_is_one_call_and_mixes_outputs(channels, scale):
    calls = []
    out = np.asarray(guided_network(halves_network(channels, calls), scale)(X, T))
    assert calls == [(6, 2, 2, 3)]
    cond, uncond = 2.0 * X, -X + np.asarray(T, float)[:, None, None, None]
    np.testing.assert_allclose(out[..., :3], uncond + scale * (cond - uncond), rtol=1e-12)
    if channels == 6:
        assert np.all(out[..., 3:] == 5.0)


def test_scale_one_is_exactly_conditional():
    """Bit for bit, in float32 too, where uncond + 1 (cond - uncond) is not."""
    x = X.astype(jnp.float32) * 1e-3
    out = guided_network(halves_network(3, []), 1.0)(x, T)
    np.testing.assert_array_equal(out, 2.0 * x)


def test_scale_by_example():
    scales = [1.0, 2.0, 5.0]
    network = halves_network(6, [])
    together = guided_network(network, jnp.array(scales))(X, T)
    for i, scale in enumerate(scales):
        alone = guided_network(network, scale)(X, T)
        np.testing.assert_allclose(together[i], alone[i], rtol=1e-14)


def test_learned_variance_fraction():
    cfg = DiffusionConfig(variance="learned_range", prediction="x0", loss="hybrid")

    def network(x, t):
        return jnp.concatenate([x, jnp.full_like(x, 0.5)], axis=-1)

    out = make_denoiser(network, SCHEDULE, cfg)(X, T)
    np.testing.assert_allclose(out.variance_frac, 0.75)
    np.testing.assert_array_equal(out.x0, X)
    with pytest.raises(ValueError, match="channels"):
        make_denoiser(lambda x, t: x, SCHEDULE, cfg)(X, T)
    with pytest.raises(ValueError, match="channels"):
        make_denoiser(network, SCHEDULE, DiffusionConfig())(X, T)


def constant(x0):
    return lambda x_t, t: Denoised(x0=x0)


def test_clipping():
    out = clipped(constant(3.0 * X), 1.5)(X, T).x0
    np.testing.assert_allclose(out, np.clip(3.0 * np.asarray(X), -1.5, 1.5))


def test_thresholding_by_definition():
    """Imagen's dynamic thresholding, written out example by example."""
    scaled = X * jnp.array([0.1, 1.0, 4.0])[:, None, None, None]
    out = np.asarray(thresholded(constant(scaled), 0.9)(X, T).x0)
    for got, x in zip(out, np.asarray(scaled), strict=True):
        bound = max(np.quantile(np.abs(x), 0.9), 1.0)
        np.testing.assert_allclose(got, np.clip(x, -bound, bound) / bound, rtol=1e-12)
    np.testing.assert_array_equal(out[0], scaled[0])  # nothing to threshold: unchanged
    assert np.all(np.abs(out) <= 1.0)


def test_limits_chosen_by_configuration():
    denoise = constant(3.0 * X)

    def with_limits(**kwargs):
        return limited(denoise, SamplingConfig(**kwargs))(X, T).x0

    np.testing.assert_array_equal(with_limits(x0_bound=None), 3.0 * X)
    np.testing.assert_array_equal(with_limits(x0_bound=2.0), jnp.clip(3.0 * X, -2.0, 2.0))
    expected = thresholded(denoise, 0.9)(X, T).x0
    np.testing.assert_array_equal(with_limits(threshold=0.9, x0_bound=2.0), expected)


def test_thresholded_examples_are_independent():
    def probe(x):
        return thresholded(lambda x, t: Denoised(x0=x), 0.9)(x, T).x0

    jacobian = np.asarray(jax.jacrev(probe)(3.0 * X)).reshape(3, 12, 3, 12)
    for i in range(3):
        for j in range(3):
            assert (i == j) == bool(np.any(jacobian[i, :, j]))
