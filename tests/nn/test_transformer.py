"""Masks by gradient; scanned, rematerialized and bfloat16 stacks against the plain one."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import networks
from unclip_jax.core.trees import flatten_paths, unflatten_paths
from unclip_jax.models.stages import unboxed
from unclip_jax.nn.attention import causal_mask, key_mask
from unclip_jax.nn.causal import CausalStack, CrossInputs
from unclip_jax.nn.transformer import Transformer, TransformerConfig, unstack_layers

CFG = TransformerConfig(width=8, layers=3, heads=2)
N = 5


@functools.cache
def stack(**changes):
    module = Transformer(dataclasses.replace(CFG, **changes))
    shapes = jax.eval_shape(module.init, jax.random.key(0), networks.normal(2, N, 8))["params"]
    return module, networks.redraw(unboxed(shapes))


def loss_and_grad(module, params, x):
    def loss(params, x):
        return jnp.square(module.apply({"params": params}, x, mask=causal_mask(N))).sum()

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(params, x)


def influence(mask):
    """[out, in]: whether output position i has a gradient in input position j."""
    module, params = stack()
    jacobian = jax.jit(jax.jacobian(lambda x: module.apply({"params": params}, x, mask=mask)[0]))
    return np.abs(jacobian(networks.normal(1, N, 8))[:, :, 0]).max((1, 3)) > 0


def test_causal_outputs_see_no_later_input():
    np.testing.assert_array_equal(influence(causal_mask(N)), np.tril(np.ones((N, N), bool)))


def test_masked_keys_reach_nobody_but_themselves():
    visible = jnp.array([[True, True, False, True, False]])
    expected = np.tile(np.asarray(visible), (N, 1)) | np.eye(N, dtype=bool)
    np.testing.assert_array_equal(influence(key_mask(visible)), expected)
    both = influence(causal_mask(N) & key_mask(visible))
    np.testing.assert_array_equal(both, expected & np.tril(np.ones((N, N), bool)))


@pytest.mark.parametrize(
    "changes",
    [
        {"remat": "block"},
        {"remat": "dots"},
        {"scan_layers": True, "remat": "block"},
        {"scan_layers": True, "remat": "offload"},
    ],
)
def test_variants_equal_the_plain_stack(changes):
    plain, params = stack()
    module, _ = stack(**changes)
    x = networks.normal(2, N, 8)
    expected, (expected_params, expected_x) = loss_and_grad(plain, params, x)
    scanned = "scan_layers" in changes
    value, (grads, grad_x) = loss_and_grad(
        module, networks.stack_layers(params) if scanned else params, x
    )
    grads = unstack_layers(grads) if scanned else grads
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(grad_x, expected_x, rtol=1e-3, atol=1e-4)
    scale = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(expected_params))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * scale), grads, expected_params
    )


def test_scanned_layers_start_different_and_carry_their_axis():
    module, _ = stack(scan_layers=True)
    boxed = module.init(jax.random.key(0), networks.normal(1, N, 8))["params"]
    kernel = boxed["blocks"]["attn"]["qkv"]["kernel"]
    assert kernel.names == ("layers", "embed", "heads")
    assert jnp.abs(kernel.value[0] - kernel.value[1]).max() > 0


def test_stacking_layers_comes_back():
    _, params = stack()
    back = unstack_layers(networks.stack_layers(params))
    assert jax.tree.structure(back) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, back, params)


def test_bfloat16_stays_close():
    module, params = stack()
    x = networks.normal(2, N, 8)
    exact = module.apply({"params": params}, x)
    rough = Transformer(CFG, jnp.bfloat16).apply({"params": params}, x)
    assert rough.dtype == jnp.bfloat16
    error = jnp.abs(rough.astype(jnp.float32) - exact).max() / jnp.abs(exact).max()
    assert 0 < error < 3e-2


def test_dropout_acts_in_training_only():
    module, params = stack(dropout=0.5)
    x = networks.normal(2, N, 8)
    apply = functools.partial(module.apply, {"params": params}, x)
    np.testing.assert_array_equal(apply(), stack()[0].apply({"params": params}, x))
    one = apply(train=True, rngs={"dropout": jax.random.key(0)})
    two = apply(train=True, rngs={"dropout": jax.random.key(1)})
    assert jnp.abs(one - two).max() > 0.1


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="width=8 must be a multiple of heads=3"):
        TransformerConfig(width=8, layers=1, heads=3)


def adds_what_dropout_leaves(shapes):
    """Parameters with which each layer adds dropout(1), and nothing else, to the stream."""
    flat = {path: jnp.zeros(leaf.shape) for path, leaf in flatten_paths(shapes).items()}
    return unflatten_paths({k: v + k.endswith("mlp/proj/bias") for k, v in flat.items()})


@pytest.mark.parametrize("scanned", [False, True])
@pytest.mark.parametrize("kind", [Transformer, CausalStack])
def test_every_layer_drops_in_training_by_a_draw_of_its_own(kind, scanned):
    cfg = dataclasses.replace(CFG, dropout=0.5, scan_layers=scanned)
    module, x, rest = kind(cfg), jnp.zeros((4, N, 8)), {}
    if kind is CausalStack:
        rest = {"cross": CrossInputs(jnp.zeros((4, 2, 8)), jnp.ones((4, 2), bool))}
    shapes = jax.eval_shape(lambda key: module.init(key, x, **rest), jax.random.key(0))
    params = adds_what_dropout_leaves(unboxed(shapes["params"]))

    def added(train, seed=0):
        rngs = {"dropout": jax.random.key(seed)}
        out = module.apply({"params": params}, x, **rest, train=train, rngs=rngs)
        return np.asarray(out[0] if kind is CausalStack else out)

    np.testing.assert_array_equal(added(False), CFG.layers)  # 1 a layer
    found = added(True)  # 0 or 1 / 0.5 a layer: 2 Binomial(layers, 1/2)
    expected = np.array([math.comb(CFG.layers, k) for k in range(4)]) / 2**CFG.layers
    shares = np.array([(found == 2 * k).mean() for k in range(4)])
    assert shares.sum() == 1
    np.testing.assert_allclose(shares, expected, atol=5 * (0.25 / found.size) ** 0.5)
    assert (found != added(True, 1)).any()


def test_layers_are_unstacked_by_their_number():
    params = unstack_layers({"blocks": {"w": jnp.arange(12.0)}, "rest": 1})
    assert params.pop("rest") == 1
    assert params == {f"blocks_{i}": {"w": i} for i in range(12)}
