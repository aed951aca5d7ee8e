"""A plan as lines of text, and a warning where a mesh leaves the state unsharded."""

from collections.abc import Iterator

from unclip_jax.plan.compile import Compiled
from unclip_jax.plan.estimate import Plan

UNEVEN = 1.25  # times its even share of the state that a chip may have without a warning
MFU = 0.4  # model FLOPs utilization of the line with a typical duration


def plan_lines(plan: Plan) -> Iterator[str]:
    """Yields the cost of a training; time and memory only if the plan has a topology."""
    yield f"{plan.stage}: {plan.params:,} parameters, state {_bytes(plan.state_bytes)}"
    extra = plan.hardware_flops_per_step / plan.flops_per_step - 1
    flops = f"{plan.flops_per_step / 1e12:,.4g} T (+{extra:.0%} recomputed by rematerialization)"
    yield _row("training FLOPs per image", f"{plan.flops_per_image / 1e12:,.4g} T")
    yield _row(f"FLOPs per step of {plan.batch_size:,}", flops)
    if plan.chips is None:
        yield "time and memory: name the chips with --topology, e.g. v5p:4x4x4"
        return
    axes = zip(("data", "fsdp", "tensor"), plan.mesh, strict=True)
    mesh = " x ".join(f"{name} {size}" for name, size in axes)
    yield f"{plan.chips} x {plan.chip}, mesh {mesh}"
    limit = f"{_bytes(plan.hbm_limit_bytes)}; activations come on top"
    yield _row("state per chip", f"{_bytes(plan.state_bytes_per_chip)} of {limit}")
    parts = f"arithmetic {plan.compute_seconds:.4g} s, memory {plan.memory_seconds:.4g} s"
    bound = f"{plan.step_seconds_bound:.4g} s ({parts}); MFU at most {plan.mfu_bound:.0%}"
    yield _row("step time, at least", bound)
    yield _row(f"{plan.steps:,} steps at the bound", _time(plan, 1.0))
    if plan.mfu_bound > MFU:
        yield _row(f"at {MFU:.0%} MFU", _time(plan, plan.mfu_bound / MFU))
    yield "not counted: collectives, input, evaluation, checkpoints, the host's share of a step"


def compiled_lines(plan: Plan, compiled: Compiled) -> Iterator[str]:
    """Yields what only the compiler knows: memory, collectives, its estimate of the step time."""
    parts = f"arguments {_bytes(compiled.argument_bytes)}, "
    parts += f"temporaries {_bytes(compiled.temporary_bytes)} per device"
    memory = f"{_bytes(compiled.hbm_bytes_per_chip)} of {_bytes(plan.hbm_limit_bytes)} ({parts})"
    yield _row("memory per chip", memory)
    for kind, traffic in sorted(compiled.collectives.items()):
        yield _row(kind, f"{traffic['count']:,} per step, {_bytes(traffic['bytes'])}")
    yield _row("time of collectives", f"{compiled.collective_seconds:.3g} s at full link rate")
    if compiled.step_seconds is None:
        yield "the compiler gives no estimate of the step time"
        return
    loops = f"loops x {compiled.loop_factor:.3g}"
    rates = f"MFU {compiled.mfu:.1%}, HFU {compiled.hfu:.1%}"
    yield _row("step time, compiler", f"{compiled.step_seconds:.4g} s ({loops}): {rates}")
    slower = compiled.step_seconds / plan.step_seconds_bound
    yield _row(f"{plan.steps:,} steps at that", _time(plan, slower))


def _row(label: str, text: str) -> str:
    return f"{label:<27} {text}"


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
    days, hours = plan.days * slower, plan.chip_hours * slower
    count = f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"
    return f"{_duration(days)}, {count} chip-hours"


def _duration(days: float) -> str:
    """Returns a duration in the largest unit of which there is at least one."""
    for unit, length in (("days", 1), ("hours", 24), ("minutes", 24 * 60)):
        if days * length >= 1:
            return f"{days * length:.3g} {unit}"
    return f"{days * 24 * 3600:.3g} seconds"


def _bytes(count: int) -> str:
    return f"{count / 2**30:,.2f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB"
