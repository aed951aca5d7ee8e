"""Sinusoids against their formula, patches against a strided convolution, round trips."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from unclip_jax.nn.embeddings import (
    PatchEmbedding,
    PositionEmbedding,
    TimeEmbedding,
    TokenEmbedding,
    depth_to_space,
    sinusoid,
    space_to_depth,
)


def test_sinusoid_is_cosines_then_sines():
    t = jnp.array([0, 7, 999])
    freqs = [math.exp(-math.log(1e4) * i / 3) for i in range(3)]
    rows = [[f(s * w) for f in (math.cos, math.sin) for w in freqs] for s in (0, 7, 999)]
    np.testing.assert_allclose(sinusoid(t, 6), rows, atol=1e-4)
    np.testing.assert_allclose(sinusoid(t, 7), np.pad(rows, ((0, 0), (0, 1))), atol=1e-4)


def test_time_is_embedded_in_full_float32_whatever_the_default_precision():
    layer, t = TimeEmbedding(4, 8), jnp.array([1, 2])
    variables = layer.init(jax.random.key(0), t)
    with jax.default_matmul_precision("bfloat16"):
        program = jax.jit(layer.apply).lower(variables, t).as_text()
    products = [line for line in program.splitlines() if "dot_general" in line]
    assert len(products) == 2
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in products)


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_space_to_depth_moves_blocks_and_comes_back(factor):
    x = jnp.arange(2 * 8 * 4 * 3.0).reshape(2, 8, 4, 3)
    deep = space_to_depth(x, factor)
    assert deep.shape == (2, 8 // factor, 4 // factor, 3 * factor**2)
    block = x[1, factor : 2 * factor, :factor]
    np.testing.assert_array_equal(deep[1, 1, 0], block.reshape(-1))
    np.testing.assert_array_equal(depth_to_space(deep, factor), x)


def test_space_to_depth_refuses_sizes_it_does_not_divide():
    with pytest.raises(ValueError, match="image size 6x8 must be a multiple of factor=4"):
        space_to_depth(jnp.zeros((1, 6, 8, 3)), 4)


def test_patch_embedding_equals_a_strided_convolution():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 12, 3)), jnp.float32)
    layer = PatchEmbedding(4, 5)
    variables = meta.unbox(layer.init(jax.random.key(0), x))
    kernel = variables["params"]["kernel"]
    dims = ("NHWC", "HWIO", "NHWC")
    expected = jax.lax.conv_general_dilated(x, kernel, (4, 4), "VALID", dimension_numbers=dims)
    np.testing.assert_allclose(layer.apply(variables, x), expected.reshape(2, 6, 5), atol=1e-5)


def test_time_embedding_equals_its_formula():
    """fc_2(silu(fc_1(sinusoid(t)))) in float64."""
    layer, t = TimeEmbedding(4, 6), jnp.array([3, 700])
    params = meta.unbox(layer.init(jax.random.key(0), t))["params"]
    one, two = ({k: np.float64(v) for k, v in params[name].items()} for name in ("fc_1", "fc_2"))
    freqs = np.array([1.0, 1e4**-0.5])
    waves = np.stack([np.concatenate([np.cos(s * freqs), np.sin(s * freqs)]) for s in (3, 700)])
    hidden = waves @ one["kernel"] + one["bias"]
    hidden = hidden / (1 + np.exp(-hidden))
    expected = hidden @ two["kernel"] + two["bias"]
    np.testing.assert_allclose(layer.apply({"params": params}, t), expected, atol=1e-4)


def test_tokens_are_rows_of_their_table_and_positions_are_added():
    table = jnp.arange(12.0).reshape(4, 3)
    tokens = jnp.array([[2, 0], [3, 3]])
    rows = TokenEmbedding(4, 3).apply({"params": {"embedding": table}}, tokens)
    np.testing.assert_array_equal(rows, np.asarray(table)[np.asarray(tokens)])
    places = jnp.array([[10.0, 20.0, 30.0], [40.0, 50.0, 60.0]])
    moved = PositionEmbedding().apply({"params": {"embedding": places}}, rows)
    np.testing.assert_array_equal(moved, np.asarray(rows) + np.asarray(places))
