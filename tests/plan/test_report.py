"""The lines of a plan: units, what a topology adds, a mesh that shards too little."""

import dataclasses

import pytest

from unclip_jax.plan.estimate import Plan
from unclip_jax.plan.report import plan_lines, sharding_warning

PLAN = Plan(
    stage="decoder",
    params=1_000,
    batch_size=64,
    steps=100,
    state_bytes=16 << 30,
    flops_per_image=2e12,
    flops_per_step=128e12,
    hardware_flops_per_step=160e12,
)
ON_CHIPS = dataclasses.replace(
    PLAN,
    chip="v5p",
    chips=8,
    mesh=(1, 8, 1),
    state_bytes_per_chip=2 << 30,
    hbm_limit_bytes=95 << 30,
    compute_seconds=0.5,
    memory_seconds=0.25,
    step_seconds_bound=0.5,
    mfu_bound=0.8,
    days=3.0,
    chip_hours=576.0,
)


def values(plan):
    """Returns the text after each line's label."""
    return {line[:27].rstrip(): line[28:] for line in plan_lines(plan)}


def test_without_chips_it_is_parameters_and_arithmetic():
    found = values(PLAN)
    assert found["training FLOPs per image"] == "2 T"
    assert found["FLOPs per step of 64"] == "128 T (+25% recomputed by rematerialization)"
    assert len(found) == 4 and "--topology" in list(plan_lines(PLAN))[-1]


def test_chips_add_memory_and_time():
    found = values(ON_CHIPS)
    assert found["state per chip"] == "2.00 GiB of 95.00 GiB; activations come on top"
    assert found["step time, at least"].startswith("0.5 s (arithmetic 0.5 s, memory 0.25 s)")
    assert found["100 steps at the bound"] == "3 days, 576 chip-hours"
    assert found["at 40% MFU"] == "6 days, 1,152 chip-hours"  # half the MFU of the bound


def test_a_run_that_cannot_reach_the_typical_rate_has_no_line_of_it():
    assert "at 40% MFU" not in values(dataclasses.replace(ON_CHIPS, mfu_bound=0.39))


@pytest.mark.parametrize(
    ("days", "chip_hours", "text"),
    [
        (2.0, 384.0, "2 days, 384 chip-hours"),
        (0.5, 12.0, "12 hours, 12 chip-hours"),
        (1 / 96, 0.5, "15 minutes, 0.5 chip-hours"),
        (1 / 8640, 0.0222, "10 seconds, 0.022 chip-hours"),
    ],
)
def test_short_runs_are_told_in_short_units(days, chip_hours, text):
    plan = dataclasses.replace(ON_CHIPS, days=days, chip_hours=chip_hours)
    assert values(plan)["100 steps at the bound"] == text


@pytest.mark.parametrize(
    ("share", "mesh", "words"),
    [
        (2 << 30, (1, 8, 1), None),  # an even share
        (4 << 30, (1, 8, 1), "2.0 times its share"),
        (16 << 30, (8, 1, 1), None),  # replicated on purpose
        (4 << 30, (1, 4, 2), "--config.train.mesh.fsdp=2"),
    ],
)
def test_a_mesh_that_shards_too_little_is_named_with_a_remedy(share, mesh, words):
    plan = dataclasses.replace(ON_CHIPS, state_bytes_per_chip=share, mesh=mesh)
    found = sharding_warning(plan)
    assert found is None if words is None else words in found
    assert sharding_warning(PLAN) is None
