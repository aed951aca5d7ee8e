"""What follows from the compiler's figures of one device, by hand."""

import pytest

from unclip_jax.core.chips import parse_topology
from unclip_jax.plan.compile import _read
from unclip_jax.plan.estimate import Plan

KEPT = {
    "argument_bytes": 700,
    "temporary_bytes": 200,
    "output_bytes": 650,
    "aliased_bytes": 600,
    "code_bytes": 5,
    "compiled_flops": 11,
    "collectives": {
        "all-reduce": {"count": 2, "bytes": 3_000},
        "all-gather": {"count": 1, "bytes": 4_000},
    },
    "reported_seconds": 0.25,
    "loop_factor": 8.0,
    "unknown_loops": 0,
    "compile_seconds": 1.0,
    "compiler_options": {},
    "versions": {},
}
PLAN = Plan("clip", 1, 8, 1, 1, 1.0, flops_per_step=4e15, hardware_flops_per_step=6e15)


@pytest.mark.parametrize(("devices", "per_chip"), [(8, 1), (16, 2)])
def test_figures_of_a_chip_and_a_step(devices, per_chip):
    """A v4 chip: 275 TFLOPS and 300 GB a second. Donated outputs lie in their arguments' memory."""
    found = _read(KEPT, PLAN, parse_topology("v4:2x2x2"), devices)
    assert found.hbm_bytes_per_chip == per_chip * (700 + 200 + 650 - 600)
    # A ring sends an array twice to sum it, once to gather it.
    sent = per_chip * (2 * 3_000 + 4_000)
    assert found.collective_seconds == pytest.approx(sent / 300e9)
    assert found.step_seconds == pytest.approx(0.25 * 8)
    assert found.mfu == pytest.approx(4e15 / (2.0 * 8 * 275e12))
    assert found.hfu == pytest.approx(6e15 / (2.0 * 8 * 275e12))


@pytest.mark.parametrize("reported", [None, 0.0, -1.0])
def test_what_the_compiler_does_not_estimate_is_left_out(reported):
    kept = {**KEPT, "reported_seconds": reported}
    found = _read(kept, PLAN, parse_topology("v4:2x2x2"), 8)
    assert found.step_seconds is found.mfu is found.hfu is None
