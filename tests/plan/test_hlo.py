"""Collectives and cycles against sizes worked out by hand, and in programs that XLA compiled."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from unclip_jax.plan.hlo import Collective, cost_of, shape_bytes

# Layouts, attributes and names as libtpu writes them.
TEXT = """\
HloModule jit_step, is_scheduled=true, entry_computation_layout={(f32[8,128]{1,0})->f32[8,128]{1,0}}

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}

%all-reduce-scatter.3 (p: bf16[64,128]) -> bf16[8,128] {
  %p = bf16[64,128]{1,0:T(8,128)(2,1)} parameter(0)
  %all-reduce.9 = bf16[64,128]{1,0:T(8,128)(2,1)} all-reduce(%p), channel_id=3, to_apply=%add
  ROOT %slice.1 = bf16[8,128]{1,0:T(8,128)(2,1)} slice(%all-reduce.9), slice={[0:8], [0:128]}
}

%condition (c: (s32[], f32[8,128])) -> pred[] {
  %c = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%c), index=0
  %bound = s32[]{:T(128)} constant(24)
  ROOT %less = pred[]{:T(512)} compare(%i, %bound), direction=LT
}

%body (b: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {
  %b = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) parameter(0)
  %i.1 = s32[]{:T(128)} get-tuple-element(%b), index=0
  %h = f32[8,128]{1,0:T(8,128)} get-tuple-element(%b), index=1
  %fusion.1 = f32[8,128]{1,0:T(8,128)} fusion(%h), kind=kLoop, calls=%add, \
backend_config={"window_config":{"estimated_cycles":"10"}}
  %all-reduce.1 = f32[8,128]{1,0:T(8,128)} all-reduce(%fusion.1), channel_id=1, to_apply=%add
  ROOT %t = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) tuple(%i.1, %all-reduce.1)
}

ENTRY %main (a: f32[8,128]) -> f32[8,128] {
  %a = f32[8,128]{1,0:T(8,128)} parameter(0)
  %w = bf16[64,128]{1,0:T(8,128)(2,1)} fusion(%a), kind=kLoop, calls=%add, \
backend_config={"window_config":{"estimated_cycles":"100"}}
  %gather-start = (f32[8,128]{1,0:T(8,128)}, f32[64,128]{1,0:T(8,128)}) \
all-gather-start(%a), channel_id=2, dimensions={0}
  %gather-done = f32[64,128]{1,0:T(8,128)} all-gather-done(%gather-start)
  %scatter = bf16[8,128]{1,0:T(8,128)(2,1)} fusion(%w), kind=kCustom, calls=%all-reduce-scatter.3
  %pair = (f32[4]{0:T(128)}, pred[3]{0}, /*index=2*/s8[2,2]{1,0}) all-reduce(%v, %k, %q), \
channel_id=7, to_apply=%add
  %loop = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) while(%init), condition=%condition, body=%body
  ROOT %out = f32[8,128]{1,0:T(8,128)} get-tuple-element(%loop), index=1
}
"""


def test_sizes_of_shapes():
    assert shape_bytes("f32[2,3]{1,0:T(8,128)}") == 24
    assert shape_bytes("(bf16[10]{0}, (s32[], /*index=2*/pred[7]{0:T(1024)}))") == 20 + 4 + 7
    assert shape_bytes("f8e4m3fn[4,4]{1,0}") == 16
    assert shape_bytes("token[]") == 0


def test_each_kind_is_counted_as_often_as_it_runs():
    cost = cost_of(TEXT)
    assert cost.collectives == {
        "all-gather": Collective(1, 64 * 128 * 4),
        "reduce-scatter": Collective(1, 64 * 128 * 2),
        "all-reduce": Collective(1 + 24, 16 + 3 + 4 + 24 * 8 * 128 * 4),
    }
    assert (cost.cycles, cost.cycles_once, cost.unknown_loops) == (100 + 24 * 10, 110, 0)


def test_a_loop_whose_rounds_cannot_be_read_is_said_to_be_one():
    cost = cost_of(TEXT.replace("constant(24)", "parameter(1)"))
    assert cost.unknown_loops == 1
    assert cost.cycles == cost.cycles_once


def test_a_text_without_a_program_is_an_error():
    with pytest.raises(ValueError, match="no entry computation"):
        cost_of("nothing")


def test_a_compiled_scan_over_eight_devices():
    """Rows are split: b' b of each of the 5 rounds needs one all-reduce of [6, 6]."""
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec("x"))

    def moving(a):
        def body(b, _):
            return b + b @ (b.T @ b), None

        return jax.lax.scan(body, a, None, length=5)[0]

    shape = jax.ShapeDtypeStruct((16, 6), jnp.float32, sharding=rows)
    text = jax.jit(moving, out_shardings=rows).lower(shape).compile().as_text()
    assert cost_of(text).collectives == {"all-reduce": Collective(5, 5 * 36 * 4)}


def test_a_compiled_gather():
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    split, whole = (NamedSharding(mesh, PartitionSpec(*axis)) for axis in (("x",), ()))
    shape = jax.ShapeDtypeStruct((16, 6), jnp.float32, sharding=split)
    text = jax.jit(jnp.sin, out_shardings=whole).lower(shape).compile().as_text()
    assert cost_of(text).collectives == {"all-gather": Collective(1, 16 * 6 * 4)}


def flops(left, right, result, rest, opcode="convolution"):
    return cost_of(
        "ENTRY %main (a: f32[1]) -> f32[1] {\n"
        f"  %a = f32[{left}]{{0}} parameter(0)\n  %b = bf16[{right}]{{0}} parameter(1)\n"
        f"  ROOT %c = f32[{result}]{{0}} {opcode}(%a, %b), {rest}\n}}\n"
    ).flops


def test_arithmetic_of_products_and_convolutions():
    assert flops("4,6", "6,5", "4,5", "dim_labels=bf_io->bf") == 2 * 4 * 6 * 5
    dot = "lhs_contracting_dims={1}, rhs_contracting_dims={0}"
    assert flops("4,6", "6,5", "4,5", dot, "dot") == 2 * 4 * 6 * 5
    # Of 3 x 8 window positions along a side of 8, the first and the last are padding.
    same = "window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f"
    assert flops("2,8,8,5", "3,3,5,7", "2,8,8,7", same) == 2 * 2 * 5 * 7 * 22 * 22
    # 2 x 3 products of [4, 6] and [6, 5], as libtpu writes them.
    batched = "window={size=2x3 stride=1x2 lhs_dilate=2x3}, dim_labels=01bf_01io->01bf"
    assert flops("2,3,4,6", "2,3,6,5", "2,3,4,5", batched) == 2 * 2 * 3 * 4 * 6 * 5
