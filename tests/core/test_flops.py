"""Counted work against closed forms, unrolled programs and a published counter's figures."""

import jax
import jax.numpy as jnp
import pytest

from unclip_jax.convert.karlo_specs import karlo_specs
from unclip_jax.core.flops import Work, work_of
from unclip_jax.models.stages import abstract_params, make_module


def f32(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def conv(x, w):
    return jax.lax.conv_general_dilated(
        x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def test_a_product_is_two_operations_a_multiply_add():
    assert work_of(jnp.matmul, f32(4, 5), f32(5, 6)) == Work(240.0, 4.0 * (20 + 30 + 24))
    batched = work_of(lambda a, b: jnp.einsum("bij,bjk->bik", a, b), f32(3, 4, 5), f32(3, 5, 6))
    assert batched.flops == 3 * 2 * 4 * 5 * 6


def test_a_convolution_and_its_gradient():
    x, w = f32(2, 8, 8, 3), f32(3, 3, 3, 5)
    forward = 2 * (2 * 8 * 8 * 5) * (3 * 3 * 3)
    assert work_of(conv, x, w).flops == forward
    # With respect to the input and to the kernel: the same number of multiply-adds each.
    assert work_of(jax.grad(lambda x, w: conv(x, w).sum(), (0, 1)), x, w).flops == 3 * forward


def scanned(x, ws):
    return jax.lax.scan(lambda c, w: (jnp.tanh(c @ w), None), x, ws)[0].sum()


def unrolled(x, ws):
    for w in ws:
        x = jnp.tanh(x @ w)
    return x.sum()


@pytest.mark.parametrize("transform", [lambda f: f, lambda f: jax.grad(f, (0, 1))])
def test_a_scan_is_counted_as_often_as_it_runs(transform):
    args = f32(4, 5), f32(7, 5, 5)
    counted = work_of(transform(scanned), *args)
    assert counted.flops == work_of(transform(unrolled), *args).flops
    assert counted.flops % (7 * 2 * 4 * 25) == 0 and counted.flops > 0


def test_rematerialisation_is_counted_again():
    layer = lambda x, w: jnp.tanh(x @ w)  # noqa: E731
    args, product = (f32(4, 5), f32(5, 5)), 2 * 4 * 25
    plain = jax.grad(lambda x, w: layer(layer(x, w), w).sum(), (0, 1))
    again = jax.checkpoint(layer)
    remat = jax.grad(lambda x, w: again(again(x, w), w).sum(), (0, 1))
    assert work_of(plain, *args).flops == 6 * product
    assert work_of(remat, *args).flops == 8 * product


def test_branches_count_as_the_dearest():
    def f(flag, x):
        return jax.lax.cond(flag, lambda x: x @ x @ x, lambda x: x @ x, x)

    assert work_of(f, jax.ShapeDtypeStruct((), bool), f32(4, 4)).flops == 2 * 2 * 64


def test_a_loop_of_unknown_length_is_refused():
    loop = lambda x: jax.lax.while_loop(lambda x: x.sum() < 9, lambda x: x @ x, x)  # noqa: E731
    with pytest.raises(ValueError, match="trip count is unknown"):
        work_of(loop, f32(4, 4))


# TFLOP a sample and forward pass of diffusers' modules at Karlo's sizes by torch's FlopCounterMode.
TORCH_COUNTER = {"prior_diffusion": 0.164, "decoder": 0.608, "super_res_first": 8.497}


@pytest.mark.parametrize("stage, tera", TORCH_COUNTER.items())
def test_karlo_forward_passes_count_as_torch_counts_them(stage, tera):
    spec = karlo_specs()[stage]
    module = make_module(spec)
    inputs = jax.eval_shape(spec.model.dummy_inputs)
    apply = lambda params, *xs: module.apply({"params": params}, *xs)  # noqa: E731
    counted = work_of(apply, abstract_params(spec), *inputs)
    assert counted.flops / 1e12 == pytest.approx(tera, rel=5e-3)
