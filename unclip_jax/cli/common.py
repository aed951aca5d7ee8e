"""Shared by the commands: common options, the compile cache, results as JSON."""

import contextlib
import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from unclip_jax.cli.completion import Model
from unclip_jax.cli.progress import say, set_quiet
from unclip_jax.core.errors import UserError
from unclip_jax.core.files import cache_folder

Command = Callable[..., Any]
"""A function that click's decorators turn into a command."""

HOSTS = ("coordinator", "num_processes", "process_id")
"""The parameters of `hosts_options`."""

PRIORS = ("diffusion", "ar")
"""Names of models.stages.PRIORS, which is slow to import."""

FEW = 16
"""Number of examples below which a metric means little."""

USUAL_SIZE = 256
"""Pixels of images where a command has no --size, as far as memory is concerned."""

SHARE = 16
"""Images of a device's share of a batch."""

CONCEPTS = 'all, common, everyday, no_flags, or labels: "red heart, taco".'
"""Help of --concepts."""


class OutPath(click.Path):
    """A path to write, which is not empty: "" would be the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the path."""
        if value == "":
            self.fail("the path is empty", param, ctx)
        return super().convert(value, param, ctx)


OUT = OutPath(path_type=Path)
"""Type of --out."""


def model_option(command: Command) -> Command:
    """Adds --model."""
    return click.option(
        "--model",
        type=Model(),
        default="emoji",
        show_default=True,
        help="Bundle folder, or the name of a shipped bundle.",
    )(command)


def json_option(command: Command) -> Command:
    """Adds --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(command)


def with_quiet(command: click.Command) -> click.Command:
    """Adds -q, --quiet to a command, or to each of a group's; adding it again changes nothing."""
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            with_quiet(inner)
    elif not any("--quiet" in param.opts for param in command.params):

        def choose(ctx: click.Context, param: click.Parameter, value: bool) -> None:
            if not ctx.resilient_parsing:
                set_quiet(value)

        words = "No progress and no notes on stderr; results and errors remain."
        settings = {"is_flag": True, "is_eager": True, "expose_value": False, "help": words}
        command.params.append(click.Option(["-q", "--quiet"], callback=choose, **settings))
    return command


def seed_option(command: Command) -> Command:
    """Adds --seed."""
    return click.option(
        "--seed", default=0, show_default=True, type=click.IntRange(0, 2**31 - 1), help="Seed."
    )(command)


def dtype_option(command: Command) -> Command:
    """Adds --dtype."""
    return click.option(
        "--dtype",
        type=click.Choice(["float32", "bfloat16"]),
        default="float32",
        show_default=True,
        help="Dtype of the networks' arithmetic.",
    )(command)


def renamed_option(new: str, old: str, **settings: Any) -> Callable[[Command], Command]:
    """Adds the option `new`; `old`, its hidden former name, still works and says what to use.

    Args:
        settings: as of click.option, but for multiple.
    """

    def keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value is not None:
            ctx.meta[old] = value

    def choose(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        is_given = ctx.get_parameter_source(param.name) is ParameterSource.COMMANDLINE
        if is_given and old in ctx.meta:
            raise UserError(f"{old} is the old name of {new}; give only one")
        if old in ctx.meta:  # said here, once --quiet has been read
            say(f"{old} is now called {new}")
        return value if is_given else ctx.meta.get(old, value)

    def decorate(command: Command) -> Command:
        former = {k: v for k, v in settings.items() if k == "type"}
        hidden = {"hidden": True, "expose_value": False, "is_eager": True, "callback": keep}
        command = click.option(old, **former, **hidden)(command)
        return click.option(new, callback=choose, **settings)(command)

    return decorate


def hosts_options(command: Command) -> Command:
    """Adds the multi-host options: --coordinator, --num-processes and --process-id."""
    options = (
        click.option(
            "--coordinator",
            envvar="JAX_COORDINATOR_ADDRESS",
            metavar="HOST:PORT|auto",
            help="Address of process 0 of a multi-process job; auto: from TPU metadata or SLURM.",
        ),
        click.option(
            "--num-processes",
            envvar="JAX_NUM_PROCESSES",
            type=click.IntRange(1),
            help="Number of processes of the job.",
        ),
        click.option(
            "--process-id",
            envvar="JAX_PROCESS_ID",
            type=click.IntRange(0),
            help="Number of this process, from 0.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def use_compile_cache() -> None:
    """Enables JAX's persistent compilation cache: $JAX_COMPILATION_CACHE_DIR or the user's cache.

    Traced programs are kept beside it. Imports jax. If the folder cannot be written, programs are
    traced and compiled again.
    """
    import jax

    from unclip_jax.core import ready

    chosen = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if not chosen:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "jax"))
    is_local = chosen and "://" not in chosen
    ready.use_folder(Path(chosen) / "programs" if is_local else cache_folder() / "programs")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.01)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def use_cores(
    models: Sequence[str | None], size: int | None = None, images: int | None = None
) -> None:
    """Makes a CPU device a core, for a command that maps bundles over images.

    Must be called before the JAX backend starts.

    Args:
        models: folders or names of bundles; None for one that was not given.
        size: pixels of the images that are made; None for the largest of the bundles' usual.
        images: that are made; None for many.
    """
    from unclip_jax.checkpoint.bundle import resolve
    from unclip_jax.core.cpus import use_core_devices

    folders = []
    for model in models:
        with contextlib.suppress(UserError):  # an unknown one is refused when it is loaded
            folders += [] if model is None else [resolve(model)]
    parameters = (path for folder in folders for path in folder.glob("*.safetensors"))
    stored = sum(path.stat().st_size for path in parameters)
    share = SHARE if images is None else min(SHARE, images)
    # Stored in two bytes, maybe, and held in four.
    use_core_devices(2 * stored, share, size or USUAL_SIZE, total=images)


def split_list(text: str) -> tuple[str, ...]:
    """Splits a comma-separated list; empty parts are left out."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def echo_json(result: dict[str, Any]) -> None:
    """Prints one JSON object on stdout."""
    click.echo(json.dumps(result, ensure_ascii=False, indent=1))


def echo_written(kind: str, out: Path, parts: Mapping[str, Sequence[str]], as_json: bool) -> None:
    """Prints a folder that was written, its parts and its size in bytes.

    Args:
        kind: key of the folder in the JSON object.
        parts: names of the parts under their key in the JSON object.
    """
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    if as_json:
        echo_json({kind: str(out), **parts, "bytes": size})
    else:
        names = ", ".join(itertools.chain.from_iterable(parts.values()))
        click.echo(f"{out}  {names}  {size / 2**20:.2f} MiB")
