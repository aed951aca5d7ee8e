"""`unclip plan`: what a training takes, before it is paid for."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import click

from unclip_jax.cli import common
from unclip_jax.cli.train import PASS_THROUGH, read_config

MFU = 0.4  # of the line that says how long it takes at a usual rate


@click.command(context_settings=PASS_THROUGH, short_help="Cost of a training, before paying.")
@click.option("--config", "config_file", required=True, metavar="FILE[:VARIANT]")
@click.option("--topology", help="CHIP:SHAPE, e.g. v5p:4x4x4 (64 chips), v6e:16x16 or h100:8.")
@common.json_option
@click.pass_context
def plan(ctx: click.Context, config_file: str, topology: str | None, as_json: bool) -> None:
    """Prints parameters, bytes, arithmetic and time bounds of a config's training.

    Needs no accelerator, no data and, where the config states all sizes, no CLIP. Chips: v4, v5e,
    v5p, v6e, a100, h100, h200. Values of the config are changed by --config.SECTION.KEY=VALUE.

    Example: unclip plan --config configs/paper/decoder.py --topology v5p:4x4x4
    """
    config = read_config(config_file, ctx.args)
    from unclip_jax.train.chips import parse_topology  # jax only for a config that stands
    from unclip_jax.train.plan import make_plan

    made = make_plan(config, parse_topology(topology) if topology else None)
    if as_json:
        # Known only to a compiler:
        common.echo_json(
            {**dataclasses.asdict(made), "hbm_bytes_per_chip": None, "collectives": None}
        )
        return
    for line in _lines(made):
        click.echo(line)


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
