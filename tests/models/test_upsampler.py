"""The upsampler sees the low-res image, resized inside, at any size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import networks
from unclip_jax.core.types import Cond
from unclip_jax.models.unet import UNetConfig
from unclip_jax.models.upsampler import UpsamplerConfig

SPEC = networks.upsampler_spec()


def test_low_res_image_is_used_and_resized_inside():
    _, params, apply = networks.make(SPEC)
    x_t, t, low = networks.normal(2, 16, 16, 3), jnp.array([3, 900]), networks.normal(2, 8, 8, 3)
    out = apply(params, x_t, t, Cond(low_res=low))
    assert out.shape == x_t.shape and out.dtype == jnp.float32
    swapped = apply(params, x_t, t, Cond(low_res=low[::-1]))
    assert (jnp.abs(out - swapped).max((1, 2, 3)) > 1e-3).all()
    large = jax.image.resize(low, x_t.shape, "cubic")
    np.testing.assert_allclose(apply(params, x_t, t, Cond(low_res=large)), out, atol=1e-4)


def test_other_sizes_run_with_the_same_weights():
    _, params, apply = networks.make(SPEC)
    crop = apply(
        params, jnp.zeros((1, 8, 12, 3)), jnp.array([3]), Cond(low_res=jnp.zeros((1, 2, 3, 3)))
    )
    assert crop.shape == (1, 8, 12, 3)


def test_missing_low_res_and_wrong_channels_are_named():
    module, params, _ = networks.make(SPEC)
    with pytest.raises(ValueError, match="needs cond.low_res"):
        module.apply({"params": params}, jnp.zeros((1, 16, 16, 3)), jnp.zeros(1), Cond())
    with pytest.raises(ValueError, match="must be 6"):
        UpsamplerConfig(UNetConfig(16, 8), low_res_size=8)
