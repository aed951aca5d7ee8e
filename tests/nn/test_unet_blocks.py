"""Resampling against NumPy; blocks start as their skip; who sees which context."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import networks
from unclip_jax.models.stages import unboxed
from unclip_jax.nn.unet_blocks import AttentionBlock, ResBlock, avg_pool_2x2, upsample_nearest_2x

X = networks.normal(2, 4, 6, 8)


def params_of(module, *inputs):
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]
    return {"params": networks.redraw(unboxed(shapes))}


def test_halve_averages_and_double_repeats():
    corners = [np.asarray(X)[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    np.testing.assert_allclose(avg_pool_2x2(X), sum(corners) / 4, atol=1e-6)
    np.testing.assert_array_equal(upsample_nearest_2x(X), np.asarray(X).repeat(2, 1).repeat(2, 2))
    with pytest.raises(ValueError, match="cannot halve an image of 3x6"):
        avg_pool_2x2(X[:, :3])


@pytest.mark.parametrize(
    "resample, move", [("none", lambda x: x), ("down", avg_pool_2x2), ("up", upsample_nearest_2x)]
)
def test_res_block_starts_as_its_skip(resample, move):
    block = ResBlock(8, groups=4, resample=resample)
    emb = networks.normal(2, 5)
    out, _ = block.init_with_output(jax.random.key(0), X, emb)
    np.testing.assert_array_equal(out, move(X))


@pytest.mark.parametrize("scale_shift", [True, False])
def test_res_block_uses_the_timestep(scale_shift):
    block = ResBlock(12, groups=4, scale_shift=scale_shift)
    emb = networks.normal(2, 5)
    params = params_of(block, X, emb)
    assert params["params"]["time_proj"]["kernel"].shape == (5, 24 if scale_shift else 12)
    assert "skip" in params["params"]
    change = block.apply(params, X, emb) - block.apply(params, X, emb.at[0].add(1.0))
    assert jnp.abs(change[0]).max() > 0.1 and jnp.abs(change[1]).max() == 0


def test_attention_starts_as_its_skip():
    out, _ = AttentionBlock(4, groups=4).init_with_output(jax.random.key(0), X)
    np.testing.assert_array_equal(out, X)


def test_attention_sees_the_visible_context_and_every_pixel():
    block = AttentionBlock(4, groups=4)
    context, mask = networks.normal(2, 3, 5), jnp.array([[True, False, True], [False, False, True]])
    params = params_of(block, X, context, mask)
    grad = jax.grad(lambda c: jnp.square(block.apply(params, X, c, mask)[:, 0, 0]).sum())(context)
    np.testing.assert_array_equal(jnp.abs(grad).max(-1) > 0, mask)
    grad = jax.grad(lambda x: jnp.square(block.apply(params, x, context, mask)[0, 0, 0]).sum())(X)
    assert (jnp.abs(grad[0]).max(-1) > 0).all() and jnp.abs(grad[1]).max() == 0


def test_a_res_block_drops_in_training_only():
    block, emb = ResBlock(8, groups=4, dropout=0.5), networks.normal(2, 5)
    params = params_of(block, X, emb)
    plain = ResBlock(8, groups=4).apply(params, X, emb)
    np.testing.assert_array_equal(block.apply(params, X, emb), plain)
    dropped = block.apply(params, X, emb, True, rngs={"dropout": jax.random.key(0)})
    assert jnp.abs(dropped - plain).max() > 0.1


def test_a_mask_that_hides_nothing_changes_nothing():
    """Pixels stay visible beside a masked context; without any of it they see only themselves."""
    block, context = AttentionBlock(4, groups=4), networks.normal(2, 3, 5)
    params = params_of(block, X, context)
    whole = block.apply(params, X, context, jnp.ones((2, 3), bool))
    np.testing.assert_allclose(whole, block.apply(params, X, context), atol=1e-6)
    none = block.apply(params, X, context, jnp.zeros((2, 3), bool))
    np.testing.assert_allclose(none, block.apply(params, X), atol=1e-6)
