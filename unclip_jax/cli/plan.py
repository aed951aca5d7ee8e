"""`unclip plan`: the cost of a training, estimated before it starts."""

import dataclasses
import os
from typing import Any

import click

from unclip_jax.cli import common
from unclip_jax.cli.config_files import PASS_THROUGH, PassThrough, config_option, read_config
from unclip_jax.cli.progress import Progress
from unclip_jax.core.errors import UserError


@click.command(cls=PassThrough, context_settings=PASS_THROUGH)
@config_option
@click.option("--topology", help="CHIP:SHAPE, e.g. v5p:4x4x4 (64 chips), v6e:16x16 or h100:8.")
@click.option(
    "--compile",
    "compiles",
    is_flag=True,
    help="Compile the real training step for that TPU with libtpu; no TPU is needed.",
)
@click.option(
    "--effort",
    default=-1.0,
    show_default=True,
    type=click.FloatRange(-1.0, 1.0),
    help="With --compile: the compiler's effort; 0 is what a run gets.",
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
    """Estimate parameters, memory, FLOPs and time bounds of a config's training.

    No accelerator, data or CLIP is needed: sizes that the config takes from the CLIP are those of
    the shipped bundle, unless --config.clip names another bundle or a CLIP's config file. Known
    chips: v4, v5e, v5p, v6e, a100, h100, h200. Change any value with --config.SECTION.KEY=VALUE.

    --compile adds what only the compiler knows: memory per chip, collectives, its estimate of the
    step time. It takes from half a minute to half an hour and much RAM (14 GB for the paper's
    decoder). The result is cached.

    Example: unclip plan --config configs/paper/decoder.py --topology v5p:4x4x4
    """
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # nothing is computed: leave accelerators alone
    config = read_config(config_file, ctx.args)
    if compiles and not topology:
        raise UserError("--compile needs --topology, e.g. v5p:4x4x4")
    clip_config = _clip_config(config)
    with Progress() as progress:
        progress.phase("loading")
        from unclip_jax.core.chips import parse_topology  # jax only for a valid config
        from unclip_jax.plan import report
        from unclip_jax.plan.compile import compile_plan
        from unclip_jax.plan.estimate import plan_program, planned_program

        chips = parse_topology(topology) if topology else None
        progress.phase("tracing the training step")
        program, assumed_clip = planned_program(config, clip_config)
        if assumed_clip:
            progress.say(
                f"sizes of the CLIP are those of the shipped bundle {assumed_clip!r}; "
                "for another one pass --config.clip=BUNDLE"
            )
        estimate, compiled = plan_program(program, chips), None
        if compiles:
            progress.announce(f"compiling {estimate.stage} for {chips.name}")
            compiled = compile_plan(program, estimate, chips, effort=effort)
        warning = report.sharding_warning(estimate)
        if warning:
            progress.say(warning)
    if as_json:
        unknown = {"hbm_bytes_per_chip": None, "collectives": None}
        known = unknown if compiled is None else dataclasses.asdict(compiled)
        common.echo_json({**dataclasses.asdict(estimate), **known})
        return
    for line in report.plan_lines(estimate):
        click.echo(line)
    for line in report.compiled_lines(estimate, compiled) if compiled else ():
        click.echo(line)


def _clip_config(config: dict[str, Any]) -> dict[str, Any] | None:
    """Reads `config.clip` if it is a config file, of a CLIP that has not been trained yet."""
    name = config.get("clip") or ""
    if not name.partition(":")[0].endswith(".py"):
        return None
    config["clip"] = ""
    return read_config(name, ())
