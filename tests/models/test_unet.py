"""The U-Net's sizes, stems, remat gradients and refusals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import networks
from unclip_jax.core.flops import work_of
from unclip_jax.core.trees import flatten_paths
from unclip_jax.models.stages import unboxed
from unclip_jax.models.unet import UNet, UNetConfig
from unclip_jax.nn.remat import POLICIES

CFG = dataclasses.replace(networks.UNET, channel_mult=(1, 2, 2), dropout=0.3)


def shapes_of(cfg, size=8):
    inputs = jnp.zeros((1, size, size, cfg.in_channels)), jnp.zeros((1,))
    return unboxed(jax.eval_shape(UNet(cfg).init, jax.random.key(0), *inputs)["params"])


def test_blocks_stand_where_adm_has_them():
    names = set(shapes_of(CFG))
    down = {f"down_{i}_res_0" for i in range(3)} | {"down_0_down", "down_1_down"}
    up = {f"up_{i}_res_{j}" for i in range(3) for j in range(2)} | {"up_1_up", "up_2_up"}
    attention = {"down_1_attn_0", "up_1_attn_0", "up_1_attn_1", "mid_attn"}
    ends = {"time_embed", "conv_in", "mid_res_1", "mid_res_2", "norm_out", "conv_out"}
    assert names == down | up | attention | ends


def test_skips_are_popped_in_reverse():
    flat = flatten_paths(shapes_of(CFG))
    widths = {
        name: flat[f"{name}/conv_1/kernel"].shape[2]
        for name in ("up_2_res_0", "up_2_res_1", "up_1_res_0", "up_1_res_1", "up_0_res_0")
    }
    # [h, skip]: skips pushed are 8 | 8, down 8 | 16, down 16 | 16.
    expected = {"up_2_res_0": 16 + 16, "up_2_res_1": 16 + 16, "up_1_res_0": 16 + 16}
    assert widths == expected | {"up_1_res_1": 16 + 8, "up_0_res_0": 16 + 8}


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_stem_keeps_the_image_size(patch):
    cfg = UNetConfig(16, 8, (1, 2), 1, mid_attention=False, norm_groups=4, patch=patch)
    module = UNet(cfg)
    x = networks.normal(2, 16, 24, 3)
    params = {"params": networks.redraw(shapes_of(cfg, 16))}
    assert params["params"]["conv_in"]["kernel"].shape == (3, 3, 3 * patch**2, 8)
    assert jax.eval_shape(module.apply, params, x, jnp.ones(2)).shape == x.shape
    reached = jax.jit(jax.grad(lambda x: jnp.square(module.apply(params, x, jnp.ones(2))).sum()))(x)
    assert (jnp.abs(reached) > 0).all()


def test_remat_keeps_gradients_and_dropout():
    x, t = networks.normal(1, 8, 8, 3), jnp.array([5])
    cfg = dataclasses.replace(CFG, channel_mult=(1,), attention_resolutions=())
    params = networks.redraw(shapes_of(cfg))
    results = []
    for remat in POLICIES:
        module = UNet(dataclasses.replace(cfg, remat=remat))

        def loss(params, key, module=module):
            rngs = {"dropout": key}
            out = module.apply({"params": params}, x, t, train=key is not None, rngs=rngs)
            return jnp.square(out).mean()

        results.append(jax.jit(jax.value_and_grad(loss))(params, jax.random.key(0)))
    (value, grads), *others = results
    scale = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(grads))
    for again, grads_again in others:
        np.testing.assert_allclose(value, again, rtol=1e-5)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * scale), grads, grads_again
        )


def test_what_each_policy_computes_again():
    """A third of a step is the forward pass; with its products kept, attention's logits remain."""
    cfg = dataclasses.replace(CFG, channel_mult=(1, 2))
    shapes = shapes_of(cfg)

    def flops(remat):
        module = UNet(dataclasses.replace(cfg, remat=remat))
        loss = lambda params, x, t: jnp.square(module.apply({"params": params}, x, t)).mean()  # noqa: E731
        x = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
        t = jax.ShapeDtypeStruct((1,), jnp.float32)
        return work_of(jax.grad(loss), shapes, x, t).flops

    plain = flops("none")
    # Attention of the middle and of level 1 (once down, twice up): 16 pixels, 16 channels.
    logits = 4 * 2 * 16 * 16 * 16
    assert flops("dots") == flops("offload") == plain + logits
    assert 1.15 * plain < flops("block") < 4 / 3 * plain


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match="image_size=20 must be a multiple of 8"):
        UNetConfig(20, 8)
    with pytest.raises(ValueError, match=r"attention_resolutions=\[5\] are none of the levels'"):
        UNetConfig(16, 8, attention_resolutions=(5, 4))
    with pytest.raises(ValueError, match="input has 3 channels, the config in_channels=6"):
        cfg = dataclasses.replace(CFG, in_channels=6)
        UNet(cfg).init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), jnp.zeros(1))
