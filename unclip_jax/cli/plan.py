"""`unclip plan`: the cost of a training, estimated before it starts, and how to lower it."""

import dataclasses
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from unclip_jax.cli import common
from unclip_jax.cli.config_files import (
    PASS_THROUGH,
    PassThrough,
    config_option,
    read_config,
    write_changes,
)
from unclip_jax.cli.progress import Progress
from unclip_jax.core.errors import UserError

LOCAL = "local"
"""The topology that is this machine's own devices."""

EFFORT = -1.0
"""The compiler's effort unless --effort says otherwise."""

COMPILES = 4
"""Compilations of a search unless --compiles says otherwise."""


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of a plan but for its config and chips; the command explains them."""

    compile_step: bool
    effort: float | None
    save: Path | None
    search: bool
    compiles: int | None
    out: Path | None

    def check(self, topology: str | None) -> None:
        """Refuses options that need another one, or exclude it, before anything is done."""
        named = {"--compile": self.compile_step, "--search": self.search}
        for name, is_given in named.items():
            if is_given and not topology:
                raise UserError(f"{name} needs --topology, e.g. v5p:4x4x4")
        if all(named.values()):
            raise UserError("--search compiles by itself (--compiles N): leave --compile out")
        if self.save is not None and not self.compile_step:
            raise UserError("--save keeps what --compile compiles: pass --compile too")
        if self.effort is not None and math.isnan(self.effort):
            raise UserError("--effort is a number from -1 to 1, not nan")
        if self.effort is not None and self.save is not None:
            raise UserError("--save compiles as a run does: leave --effort out")
        if self.effort is not None and not any(named.values()):
            raise UserError("--effort is for --compile and --search: pass one of them")
        if topology == LOCAL and self.save is None:
            raise UserError("--topology local is for --compile --save DIR: name the chips")
        for name, value in (("--compiles", self.compiles), ("--out", self.out)):
            if value is not None and not self.search:
                raise UserError(f"{name} is for --search: pass --search too")
        if self.out is not None and self.out.suffix != ".py":
            raise UserError(f"--out {self.out}: a config file's name ends in .py")
        if self.out is not None and self.out.exists():
            raise UserError(f"{self.out} exists; choose another --out")
        if self.out is not None and not self.out.absolute().parent.is_dir():
            raise UserError(f"--out {self.out}: there is no folder {self.out.parent}")

    @property
    def compiler_effort(self) -> float:
        """The effort that is given, or the default."""
        return EFFORT if self.effort is None else self.effort


@click.command(cls=PassThrough, context_settings=PASS_THROUGH)
@config_option
@click.option("--topology", help="CHIP:SHAPE, e.g. v5p:4x4x4 (64 chips), v6e:16x16 or h100:8.")
@click.option(
    "--compile",
    "compile_step",
    is_flag=True,
    help="Compile the real training step for that TPU with libtpu; no TPU is needed.",
)
@click.option(
    "--effort",
    type=click.FloatRange(-1.0, 1.0),
    help="With --compile or --search: the compiler's effort; 0 is what a run gets.  "
    f"[default: {EFFORT}]",
)
@click.option(
    "--save",
    metavar="DIR",
    type=common.OutPath(file_okay=False, path_type=Path),
    help="With --compile: keep the run's compiled programs in DIR, for unclip train.",
)
@click.option("--search", is_flag=True, help="Look for the fastest way to run the same step.")
@click.option(
    "--compiles",
    type=click.IntRange(0),
    help=f"With --search: compile at most so many candidates.  [default: {COMPILES} for TPUs]",
)
@click.option(
    "--out",
    metavar="FILE.py",
    type=click.Path(dir_okay=False, path_type=Path),
    help="With --search: write the fastest as a config file.",
)
@common.json_option
@click.pass_context
def plan(
    ctx: click.Context, config_file: str, topology: str | None, as_json: bool, **options: Any
) -> None:
    """Estimate parameters, memory, FLOPs and time bounds of a config's training.

    No accelerator, data or CLIP is needed: sizes that the config takes from the CLIP are those of
    the shipped bundle, unless --config.clip names another bundle or a CLIP's config file. Known
    chips: v4, v5e, v5p, v6e, a100, h100, h200. Change any value with --config.SECTION.KEY=VALUE.

    --compile adds what only the compiler knows: memory per chip, collectives, its estimate of the
    step time. It takes from half a minute to half an hour and much RAM (14 GB for the paper's
    decoder). The result is cached. With --save DIR it keeps the programs that a run starts with in
    DIR instead; `--topology local` compiles them for this machine's devices. A run with
    JAX_COMPILATION_CACHE_DIR=DIR then compiles none of them.

    --search varies rematerialization, micro-batches and mesh, not the batch: estimates all, drops
    what does not fit, compiles the best, and prints which are fastest or smallest.

    Example: unclip plan --config configs/paper/decoder.py --topology v5p:4x4x4
    """
    chosen = Options(**options)
    if topology != LOCAL:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")  # nothing is computed: no accelerator
    config = read_config(config_file, ctx.args)
    chosen.check(topology)
    clip_config = _clip_config(config)
    if chosen.save is not None:
        _save(config, clip_config, topology, chosen, as_json)
    elif chosen.search:
        flags = (config_file, ctx.args)
        _search(config, clip_config, topology, chosen, flags, as_json)
    else:
        _estimate(config, clip_config, topology, chosen, as_json)


def _estimate(
    config: dict[str, Any],
    clip_config: dict[str, Any] | None,
    topology: str | None,
    options: Options,
    as_json: bool,
) -> None:
    """Prints the plan of one config, compiled if that is asked for."""
    with Progress() as progress:
        progress.phase("loading")
        from unclip_jax.core.chips import parse_topology  # jax only for a valid config
        from unclip_jax.plan import report
        from unclip_jax.plan.compile import compile_plan, require_compiler
        from unclip_jax.plan.estimate import plan_program, planned_program

        chips = None if topology is None else parse_topology(topology)
        if options.compile_step:
            require_compiler(chips)
        progress.phase("tracing the training step")
        program, assumed_clip = planned_program(config, clip_config)
        _say_assumed(progress, assumed_clip)
        estimate, compiled = plan_program(program, chips), None
        if options.compile_step:
            progress.announce(f"compiling {estimate.stage} for {chips.name}")
            compiled = compile_plan(program, estimate, chips, effort=options.compiler_effort)
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


def _search(
    config: dict[str, Any],
    clip_config: dict[str, Any] | None,
    topology: str,
    options: Options,
    origin: tuple[str, list[str]],
    as_json: bool,
) -> None:
    """Searches, prints the rows, and writes the fastest as a config file.

    Args:
        origin: the config file and the flags that make `config` of it.
    """
    with Progress() as progress:
        progress.phase("loading")
        from unclip_jax.core.chips import parse_topology
        from unclip_jax.plan import search_report
        from unclip_jax.plan.compile import missing_compiler, require_compiler
        from unclip_jax.plan.search import search

        chips, compiles = parse_topology(topology), options.compiles
        if compiles is None:
            compiles = 0 if missing_compiler(chips) else COMPILES
            if not compiles and chips.chip.is_tpu:
                progress.say("estimates only; to compile: pip install '.[plan]' in a checkout")
        elif compiles:
            require_compiler(chips)
        progress.phase("tracing the training step")
        found = search(
            config,
            chips,
            clip_config,
            compiles=compiles,
            effort=options.compiler_effort,
            say=progress.announce,
        )
        if options.out is not None and found.chosen is None:
            raise UserError(f"nothing fits {chips.name}, so {options.out} is not written")
    if options.out is not None:
        _write(options.out, config, origin, found.chosen, chips.name)
    if as_json:
        written = None if options.out is None else str(options.out)
        common.echo_json({**search_report.search_json(found), "config": written})
        return
    for line in search_report.search_lines(found):
        click.echo(line)
    if options.out is not None:
        click.echo(f"{options.out} written")


def _write(
    out: Path,
    config: Mapping[str, Any],
    origin: tuple[str, list[str]],
    row: Any,
    chips: str,
) -> None:
    """Writes the row of a search as a config file: the flags of the command, and its changes."""
    from unclip_jax.core.config_dict import changes_between
    from unclip_jax.plan.search import describe

    config_file, flags = origin
    given = changes_between(read_config(config_file, ()), read_config(config_file, flags))
    if str(given.get("clip", "")).partition(":")[0].endswith(".py"):
        del given["clip"]  # a config file: nothing that a run could take
    about = f"{config_file} for {chips} by `unclip plan --search`: {describe(row.candidate)}"
    write_changes(
        out, config_file, given | row.candidate.changes(config), f"{about}; {row.source}."
    )


def _save(
    config: dict[str, Any],
    clip_config: dict[str, Any] | None,
    topology: str,
    options: Options,
    as_json: bool,
) -> None:
    """Compiles the programs of a run and keeps them in a folder."""
    with Progress() as progress:
        progress.phase("loading")
        import jax

        from unclip_jax.core.chips import parse_topology
        from unclip_jax.plan.compile import topology_devices
        from unclip_jax.plan.estimate import planned_program
        from unclip_jax.plan.saved import save_programs

        if topology == LOCAL:
            devices = jax.devices()
        else:
            devices = topology_devices(parse_topology(topology))
        program, assumed_clip = planned_program(config, clip_config)
        _say_assumed(progress, assumed_clip)
        programs = save_programs(program, devices, options.save, progress.announce)
    if as_json:
        rows = [dataclasses.asdict(program) for program in programs]
        common.echo_json({"folder": str(options.save), "programs": rows})
        return
    for line in _saved_lines(programs):
        click.echo(line)
    click.echo(f"{options.save}: JAX_COMPILATION_CACHE_DIR={options.save} unclip train …")


def _saved_lines(programs: list[Any]) -> Iterator[str]:
    for program in programs:
        peak = program.memory_bytes
        memory = "" if peak is None else f", {peak / 2**20:,.1f} MiB a device"
        how = "was there" if program.was_there else f"compiled in {program.seconds:.1f} s"
        yield f"{program.name:<15} {how}{memory}"


def _say_assumed(progress: Progress, clip: str | None) -> None:
    if clip:
        progress.say(
            f"sizes of the CLIP are those of the shipped bundle {clip!r}; "
            "for another one pass --config.clip=BUNDLE"
        )


def _clip_config(config: dict[str, Any]) -> dict[str, Any] | None:
    """Reads `config.clip` if it is a config file, of a CLIP that has not been trained yet."""
    name = config.get("clip") or ""
    if not name.partition(":")[0].endswith(".py"):
        return None
    config["clip"] = ""
    return read_config(name, ())
