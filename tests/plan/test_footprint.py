"""What a traced gradient holds and moves, against sizes counted by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unclip_jax.plan.footprint import ROWS, footprint, padded_flops, size_of

WIDTH, LAYERS = 64, 5
ROW = 4 * WIDTH  # bytes of one example's activation


def gradient_of(block, *, scan):
    """The jaxpr of the gradient of LAYERS blocks in their weights, at ROWS examples."""

    def loss(weights, x):
        if scan:
            x = jax.lax.scan(lambda x, w: (block(w, x), None), x, weights)[0]
        else:
            for w in weights:
                x = block(w, x)
        return x.sum()

    weights = jax.ShapeDtypeStruct((LAYERS, WIDTH, WIDTH), jnp.float32)
    x = jax.ShapeDtypeStruct((ROWS, WIDTH), jnp.float32)
    return jax.make_jaxpr(jax.grad(loss))(weights, x).jaxpr


def block(w, x):
    """Two products, so that keeping the input alone is less than keeping what they give."""
    return jnp.tanh(jnp.tanh(x @ w) @ w)


@pytest.mark.parametrize("scan", [False, True])
def test_what_is_kept_grows_with_the_layers_and_the_policy(scan):
    """A block keeps its input and the result of its first product, or its input alone."""
    held = {}
    for name, form in {"none": block, "block": jax.checkpoint(block)}.items():
        found = footprint(gradient_of(form, scan=scan), 128)
        held[name] = found.activation_bytes(1.0, 1.0) / ROW
        assert found.activation_bytes(10.0, 10.0) == pytest.approx(
            10 * found.activation_bytes(1.0, 1.0)
        )
    # Beside what is kept, a few arrays of the block under way. A scan keeps whatever its body's
    # derivative names: the derivatives of tanh, too.
    assert LAYERS <= held["block"] <= LAYERS + 7
    assert 2 * LAYERS <= held["none"] <= (6 if scan else 2) * LAYERS + 5


def test_a_product_moves_its_operands_and_result():
    args = (
        jax.ShapeDtypeStruct((ROWS, 8), jnp.float32),
        jax.ShapeDtypeStruct((8, 16), jnp.float32),
    )
    found = footprint(jax.make_jaxpr(lambda x, w: jnp.exp(x) @ w)(*args).jaxpr, 128)
    # exp(x) is written for the product, which reads it, and gives 16 numbers an example.
    assert found.moved_bytes(1.0, 1.0) == 4 * (8 + 8 + 8 + 16) + 4 * 8 * 16
    np.testing.assert_array_equal(found.products, [0, 4 * 16, 0])


def test_elementwise_operations_are_one_loop():
    x = jax.ShapeDtypeStruct((ROWS, 8), jnp.float32)
    found = footprint(jax.make_jaxpr(lambda x: jnp.sin(jnp.exp(x) * 2 + 1).sum(1))(x).jaxpr, 128)
    assert found.moved_bytes(1.0, 1.0) == 4 * (8 + 1)


def test_what_a_policy_keeps_is_rounded_within_a_loop():
    """As jax.checkpoint writes it: each number by itself, so that nothing is a copy."""
    x = jax.ShapeDtypeStruct((ROWS, 8), jnp.float32)
    rounded = lambda x: jax.lax.reduce_precision(jnp.exp(x), 8, 23).sum(1)  # noqa: E731
    found = footprint(jax.make_jaxpr(rounded)(x).jaxpr, 128)
    assert found.moved_bytes(1.0, 1.0) == 4 * (8 + 1)


def test_a_loop_moves_as_often_as_it_runs():
    w, x = jnp.zeros((8, 8)), jax.ShapeDtypeStruct((ROWS, 8), jnp.float32)
    step = lambda x, _: (x @ w, None)  # noqa: E731
    once, thrice = (
        footprint(
            jax.make_jaxpr(lambda x, n=n: jax.lax.scan(step, x, None, length=n)[0])(x).jaxpr, 128
        )
        for n in (1, 3)
    )
    product = 4 * (8 + 8)
    assert thrice.moved_bytes(1.0, 1.0) - once.moved_bytes(1.0, 1.0) == 2 * (product + 4 * 8 * 8)


def test_how_sizes_grow_with_the_batch():
    sizes = {(3, 4): [24, 0, 0], (ROWS, 2, 3): [0, 12, 0], (ROWS, 2 * ROWS): [0, 0, 4]}
    for shape, expected in sizes.items():
        np.testing.assert_array_equal(size_of(jax.ShapeDtypeStruct(shape, jnp.bfloat16)), expected)


def test_sizes_are_filled_up_to_the_matrix_unit():
    def padded(function, *shapes):
        args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        (eqn,) = jax.make_jaxpr(function)(*args).jaxpr.eqns
        return padded_flops(eqn, 128)

    product = lambda a, b: jax.lax.dot(a, b)  # noqa: E731
    assert padded(product, (ROWS, 128), (128, 256)) == 2 * ROWS * 128 * 256
    assert padded(product, (4, 100), (100, 130)) == 2 * 4 * 128 * 256
    # Rows may take the place of columns in the unit, whichever fills up less.
    assert padded(product, (256, 128), (128, 3)) == 2 * 256 * 128 * 3
    assert padded(product, (ROWS, 100), (100, 130)) == 2 * ROWS * 128 * 130

    def conv(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    # 27 inputs of a pixel, 40 outputs, and enough pixels to fill the unit.
    assert padded(conv, (ROWS, 4, 4, 3), (3, 3, 3, 40)) == 2 * ROWS * 16 * 128 * 40
