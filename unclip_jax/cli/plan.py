"""`unclip plan`: what a training takes, before it is paid for."""

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

import click

from unclip_jax.cli import common
from unclip_jax.cli.progress import Progress
from unclip_jax.cli.train import PASS_THROUGH, read_config
from unclip_jax.core.errors import UserError

UNEVEN = 1.25  # times its share of the state that a chip may hold before it is said
MFU = 0.4  # of the line that says how long it takes at a usual rate


@click.command(context_settings=PASS_THROUGH, short_help="Cost of a training, before paying.")
@click.option("--config", "config_file", required=True, metavar="FILE[:VARIANT]")
@click.option("--topology", help="CHIP:SHAPE, e.g. v5p:4x4x4 (64 chips), v6e:16x16 or h100:8.")
@click.option(
    "--compile", "compiles", is_flag=True, help="Compile the real step for that TPU with libtpu."
)
@click.option(
    "--effort",
    default=-1.0,
    show_default=True,
    type=click.FloatRange(-1.0, 1.0),
    help="With --compile: how hard the compiler tries; 0 is what a run gets.",
)
@common.json_option
@click.pass_context
def plan(
    ctx: click.Context,
    config_file: str,
    topology: str | None,
    compiles: bool,
    effort: float,
    as_json: bool,
) -> None:
    """Prints parameters, bytes, arithmetic and time bounds of a config's training.

    Needs no accelerator, no data and no CLIP: sizes that the config leaves to the CLIP are the
    shipped bundle's unless --config.clip names one. Chips: v4, v5e,
    v5p, v6e, a100, h100, h200. Values of the config are changed by --config.SECTION.KEY=VALUE.

    --compile adds what only a compiler knows: memory of a chip, collectives, the time it expects.
    It takes from half a minute to half an hour and much RAM (the paper's decoder: 14 GB); the
    result is kept, so that asking again takes seconds. --config.clip may be a CLIP's config file.

    Example: unclip plan --config configs/paper/decoder.py --topology v5p:4x4x4
    """
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # nothing is computed: no card need be opened
    config = read_config(config_file, ctx.args)
    if compiles and not topology:
        raise UserError("--compile needs --topology, e.g. v5p:4x4x4")
    clip_config = _clip_config(config)
    chosen = {"topology": topology, "compiles": compiles, "effort": effort}
    with Progress() as progress:
        made, compiled = _plan(config, clip_config, progress, **chosen)
    note = _uneven(made)
    if note:
        click.echo(f"unclip plan: {note}", err=True)
    if as_json:
        # Known only to a compiler:
        known = {"hbm_bytes_per_chip": None, "collectives": None}
        known |= dataclasses.asdict(compiled) if compiled else {}
        common.echo_json({**dataclasses.asdict(made), **known})
        return
    for line in (*_lines(made), *(_compiled_lines(made, compiled) if compiled else ())):
        click.echo(line)


def _plan(
    config: dict[str, Any],
    clip_config: dict[str, Any] | None,
    progress: Progress,
    *,
    topology: str | None,
    compiles: bool,
    effort: float,
) -> tuple[Any, Any]:
    """Returns the plan and, if it was asked for, what the compiler says."""
    progress.phase("loading")
    from unclip_jax.core.chips import parse_topology  # jax only for a config that stands
    from unclip_jax.plan.estimate import PlannedRun, plan_run

    chips = parse_topology(topology) if topology else None
    progress.phase("tracing the training step")
    run = PlannedRun(config, clip_config)
    if run.assumed_clip:
        progress.say(
            f"sizes of the CLIP are those of the shipped bundle {run.assumed_clip!r}; "
            "for another one pass --config.clip=BUNDLE"
        )
    made = plan_run(run, chips)
    if not compiles:
        return made, None
    from unclip_jax.plan.compile import compile_plan

    progress.announce(f"compiling {made.stage} for {chips.name}")
    return made, compile_plan(run, made, chips, effort=effort)


def _uneven(made: Any) -> str | None:
    """Says that the mesh leaves much of the state whole on every chip, and what to try."""
    if made.mesh is None:
        return None
    _, fsdp, tensor = made.mesh
    shares = made.state_bytes_per_chip * fsdp * tensor / made.state_bytes
    if shares <= UNEVEN or fsdp == 1:
        return None
    less = min(64, fsdp // 2)
    return (
        f"a chip holds {shares:.1f} times its share of the state, as few sizes divide by "
        f"fsdp={fsdp}; try --config.train.mesh.data=-1 --config.train.mesh.fsdp={less}"
    )


def _clip_config(config: dict[str, Any]) -> dict[str, Any] | None:
    """Reads `config.clip` where it is a config file, for a CLIP that is yet to be trained."""
    name = config.get("clip") or ""
    if not name.partition(":")[0].endswith(".py"):
        return None
    config["clip"] = ""
    return read_config(name, ())


def _compiled_lines(made: Any, compiled: Any) -> Iterator[str]:
    parts = (compiled.argument_bytes, compiled.temporary_bytes)
    yield (
        f"memory a chip            {_bytes(compiled.hbm_bytes_per_chip)} of "
        f"{_bytes(made.hbm_limit_bytes)} (a device: arguments {_bytes(parts[0])}, temporaries "
        f"{_bytes(parts[1])})"
    )
    for kind, one in sorted(compiled.collectives.items()):
        yield f"{kind:<24} {one['count']:,} a step, {_bytes(one['bytes'])}"
    yield f"collectives take         {compiled.collective_seconds:.3g} s at the links' full rate"
    if compiled.step_seconds is None:
        yield "the compiler gives no estimate of the step's time"
        return
    yield (
        f"the compiler expects     {compiled.step_seconds:.4g} s a step (loops x "
        f"{compiled.loop_factor:.3g}): MFU {compiled.mfu:.1%}, HFU {compiled.hfu:.1%}"
    )
    slower = compiled.step_seconds / made.step_seconds_bound
    yield f"{made.steps:,} steps at that       {_time(made, slower)}"


def _lines(made: Any) -> Iterator[str]:
    yield f"{made.stage}: {made.params:,} parameters, state {_bytes(made.state_bytes)}"
    yield f"training FLOPs an image  {made.flops_per_image / 1e12:,.4g} T"
    extra = made.hardware_flops_per_step / made.flops_per_step - 1
    yield (
        f"a step of {made.batch_size:,}          {made.flops_per_step / 1e12:,.4g} T"
        f" (+{extra:.0%} computed again by rematerialisation)"
    )
    if made.chips is None:
        yield "time and memory: say which chips with --topology, e.g. v5p:4x4x4"
        return
    axes = zip(("data", "fsdp", "tensor"), made.mesh, strict=True)
    mesh = " x ".join(f"{name} {size}" for name, size in axes)
    yield f"{made.chips} x {made.chip}, mesh {mesh}"
    yield (
        f"state a chip             {_bytes(made.state_bytes_per_chip)} of "
        f"{_bytes(made.hbm_limit_bytes)}; activations come on top"
    )
    yield (
        f"a step takes at least    {made.step_seconds_bound:.4g} s (arithmetic "
        f"{made.compute_seconds:.4g} s, memory {made.memory_seconds:.4g} s); MFU at most "
        f"{made.mfu_bound:.0%}"
    )
    yield f"{made.steps:,} steps at the bound  {_time(made, 1.0)}"
    yield f"at {MFU:.0%} MFU               {_time(made, made.mfu_bound / MFU)}"


def _time(made: Any, slower: float) -> str:
    return f"{made.days * slower:.3g} days, {made.chip_hours * slower:,.0f} chip-hours"


def _bytes(count: int) -> str:
    return f"{count / 2**30:,.2f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB"
