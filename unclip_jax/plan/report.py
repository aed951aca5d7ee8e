"""A plan as lines of text, and a warning where a mesh leaves the state unsharded."""

from collections.abc import Iterator

from unclip_jax.plan.compile import Compiled
from unclip_jax.plan.estimate import Plan

UNEVEN = 1.25  # times its even share of the state that a chip may have without a warning
MFU = 0.4  # model FLOPs utilization of the line with a typical duration


def plan_lines(plan: Plan) -> Iterator[str]:
    """Yields the cost of a training; time and memory only if the plan has a topology."""
    yield f"{plan.stage}: {plan.params:,} parameters, state {_bytes(plan.state_bytes)}"
    yield f"training FLOPs an image  {plan.flops_per_image / 1e12:,.4g} T"
    extra = plan.hardware_flops_per_step / plan.flops_per_step - 1
    yield (
        f"a step of {plan.batch_size:,}          {plan.flops_per_step / 1e12:,.4g} T"
        f" (+{extra:.0%} recomputed by rematerialization)"
    )
    if plan.chips is None:
        yield "time and memory: name the chips with --topology, e.g. v5p:4x4x4"
        return
    axes = zip(("data", "fsdp", "tensor"), plan.mesh, strict=True)
    mesh = " x ".join(f"{name} {size}" for name, size in axes)
    yield f"{plan.chips} x {plan.chip}, mesh {mesh}"
    yield (
        f"state a chip             {_bytes(plan.state_bytes_per_chip)} of "
        f"{_bytes(plan.hbm_limit_bytes)}; activations come on top"
    )
    yield (
        f"a step takes at least    {plan.step_seconds_bound:.4g} s (arithmetic "
        f"{plan.compute_seconds:.4g} s, memory {plan.memory_seconds:.4g} s); MFU at most "
        f"{plan.mfu_bound:.0%}"
    )
    yield f"{plan.steps:,} steps at the bound  {_time(plan, 1.0)}"
    yield f"at {MFU:.0%} MFU               {_time(plan, plan.mfu_bound / MFU)}"


def compiled_lines(plan: Plan, compiled: Compiled) -> Iterator[str]:
    """Yields what only the compiler knows: memory, collectives, its estimate of the step's time."""
    yield (
        f"memory a chip            {_bytes(compiled.hbm_bytes_per_chip)} of "
        f"{_bytes(plan.hbm_limit_bytes)} (a device: arguments "
        f"{_bytes(compiled.argument_bytes)}, temporaries {_bytes(compiled.temporary_bytes)})"
    )
    for kind, traffic in sorted(compiled.collectives.items()):
        yield f"{kind:<24} {traffic['count']:,} a step, {_bytes(traffic['bytes'])}"
    yield f"collectives take         {compiled.collective_seconds:.3g} s at the links' full rate"
    if compiled.step_seconds is None:
        yield "the compiler gives no estimate of the step's time"
        return
    yield (
        f"the compiler expects     {compiled.step_seconds:.4g} s a step (loops x "
        f"{compiled.loop_factor:.3g}): MFU {compiled.mfu:.1%}, HFU {compiled.hfu:.1%}"
    )
    slower = compiled.step_seconds / plan.step_seconds_bound
    yield f"{plan.steps:,} steps at that       {_time(plan, slower)}"


def sharding_warning(plan: Plan) -> str | None:
    """Returns a warning if much of the state is replicated on every chip, with a remedy."""
    if plan.mesh is None:
        return None
    _, fsdp, tensor = plan.mesh
    shares = plan.state_bytes_per_chip * fsdp * tensor / plan.state_bytes
    if shares <= UNEVEN or fsdp == 1:
        return None
    less = min(64, fsdp // 2)
    return (
        f"a chip holds {shares:.1f} times its share of the state, as few sizes divide by "
        f"fsdp={fsdp}; try --config.train.mesh.data=-1 --config.train.mesh.fsdp={less}"
    )


def _time(plan: Plan, slower: float) -> str:
    return f"{plan.days * slower:.3g} days, {plan.chip_hours * slower:,.0f} chip-hours"


def _bytes(count: int) -> str:
    return f"{count / 2**30:,.2f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB"
