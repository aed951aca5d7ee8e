"""`unclip train`: trains one stage from a config file; the same command resumes."""

import functools
import importlib.resources
import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from unclip_jax.cli.common import hosts_options, use_compile_cache
from unclip_jax.cli.progress import Progress
from unclip_jax.core.errors import UserError
from unclip_jax.core.suggest import closest, did_you_mean

PASS_THROUGH = {"ignore_unknown_options": True, "allow_extra_args": True}


@click.command("train", context_settings=PASS_THROUGH)
@click.option("--config", "config_file", required=True, metavar="FILE[:VARIANT]")
@click.option("--workdir", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--profile",
    default=0,
    metavar="STEPS",
    type=click.IntRange(min=0),
    help="Write a profiler's trace of so many steps, the third of this start onwards.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
@hosts_options
@click.pass_context
def train(
    ctx: click.Context,
    config_file: str,
    workdir: Path,
    profile: int,
    as_json: bool,
    **hosts: Any,
) -> None:
    """Trains one stage; run it again to resume.

    FILE is a config of this package (configs/emoji/clip.py) or your own; `:smoke` after it takes a
    tiny variant that runs in under a minute. Any value is changed by --config.SECTION.KEY=VALUE.
    --profile writes WORKDIR/profile, which TensorBoard's profile plugin and Perfetto show.
    On several hosts the same command runs on each of them, with a workdir that all of them see.

    Example: unclip train --config configs/emoji/clip.py --workdir runs/clip
    """
    with Progress() as progress:
        progress.phase("reading the config")
        config = read_config(config_file, ctx.args)
        use_compile_cache()
        done = _train(config, workdir, hosts, progress, profile)
    if done is None:
        return
    if as_json:
        click.echo(json.dumps({"workdir": str(workdir), "finished": done}))
    else:
        click.echo(f"{workdir}: {'finished' if done else 'stopped; run again to go on'}")


def _train(
    config: dict[str, Any],
    workdir: Path,
    hosts: Mapping[str, Any],
    progress: Progress,
    profile: int,
) -> bool | None:
    """Trains; returns whether the end was reached, None on all hosts but the first."""
    from unclip_jax.core import distributed
    from unclip_jax.train import experiment
    from unclip_jax.workflows.training_samples import (
        make_hooks,
    )  # jax and the rest only for a config that stands

    with distributed.joined(**hosts, preemption=True):
        progress.phase("loading data and models" if distributed.is_process_zero() else "")
        done = experiment.train(
            config,
            workdir,
            make_hooks=make_hooks,
            make_progress=functools.partial(progress_bar, progress),
            say=lambda text: click.echo(f"unclip train: {text}", err=True),
            profile=profile,
        )
        return done if distributed.is_process_zero() else None


def read_config(config_file: str, flags: Sequence[str]) -> dict[str, Any]:
    """Reads a config file and applies --config.a.b=v flags; returns plain nested dicts.

    What the file leaves out has its default. A value takes the type that the file or the default
    gives it; a key that is neither's is an error.
    """
    from absl import flags as absl_flags
    from ml_collections import config_flags

    from unclip_jax.core.config_dict import with_new_flags

    name, _, variant = config_file.partition(":")
    path = find_config(name)
    make_configs_importable()
    for flag in flags:
        if flag.startswith("-") and not flag.startswith("--config."):
            raise UserError(f"unknown option {flag}; {_remedy(flag)}")
    values = absl_flags.FlagValues()
    try:
        loaded = _complete(_run_file(path, variant))
        argv = ["unclip train", *with_new_flags(flags, _sections(loaded))]
        config_flags.DEFINE_config_dict("config", loaded, flag_values=values, sys_argv=argv)
        rest = values(argv)
        config = values.config.to_dict()
    except (absl_flags.Error, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"{config_file}: {_complaint(error, flags)}") from error
    except (ArithmeticError, ImportError, NameError, SyntaxError) as error:
        raise UserError(f"{config_file} is no config: {type(error).__name__}: {error}") from error
    if len(rest) > 1:
        raise UserError(f"unexpected argument {rest[1]!r}; write --config.KEY=VALUE")
    return config


def _remedy(flag: str) -> str:
    """Says what a misspelt option of the commands that read a config may have meant."""
    name = flag.partition("=")[0]
    context = click.get_current_context(silent=True)
    options = context.command.params if context is not None else []
    known = ["--config", *(o for p in options for o in p.opts if o.startswith("--"))]
    option, _, key = name.partition(".")
    if key and closest(option, known) == "--config":
        return f"did you mean --config.{key}?"
    return did_you_mean(option, known, otherwise="see --help")


def _run_file(path: Path, variant: str) -> Any:
    """Returns what a config file's `get_config` gives."""
    spec = importlib.util.spec_from_file_location(f"unclip_config_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(variant) if variant else module.get_config()


def _sections(config: Any) -> dict[str, type]:
    """Returns the dataclass of each section of a config."""
    from unclip_jax.data.config import DataConfig
    from unclip_jax.diffusion.config import DiffusionConfig
    from unclip_jax.models.embedding_norm import EmbeddingNorm
    from unclip_jax.models.stages import STAGES
    from unclip_jax.train.config import EvalConfig, OptimConfig, TrainConfig

    sections = {"data": DataConfig, "optim": OptimConfig, "train": TrainConfig, "eval": EvalConfig}
    sections |= {"diffusion": DiffusionConfig, "embedding_norm": EmbeddingNorm}
    stage = config.get("stage")
    if stage in STAGES:
        sections |= {"model": STAGES[stage].config, "sampling": STAGES[stage].sampling}
    return {name: cls for name, cls in sections.items() if cls is not None}


def _complete(config: Any) -> Any:
    """Fills in what the sections of a config leave out, so that a flag can change it."""
    from unclip_jax.core.config_dict import with_defaults

    with config.unlocked():
        for name, cls in _sections(config).items():
            if config.get(name) is not None:
                with_defaults(config[name], cls)
        for name in ("clip", "init_from", "pca"):
            if name not in config:
                config[name] = ""
    return config


def find_config(name: str) -> Path:
    """Finds a config file here or, missing here, among those of the package."""
    path = Path(name)
    if path.is_file():
        return path
    parts = path.parts[1:] if path.parts[:1] == ("configs",) else path.parts
    if not path.is_absolute():
        shipped = Path(str(importlib.resources.files("unclip_jax"))) / "configs" / Path(*parts)
        beside = Path(__file__).resolve().parents[2] / "configs" / Path(*parts)
        for candidate in (shipped, beside):
            if candidate.is_file():
                return candidate
    raise UserError(f"no config file {name!r}, neither here nor in the package")


def make_configs_importable() -> None:
    """Lets config files import `unclip_jax.configs`, also in a checkout that is not installed."""
    import unclip_jax

    if importlib.util.find_spec("unclip_jax.configs") is None:
        unclip_jax.__path__.append(str(Path(__file__).resolve().parents[2]))


def progress_bar(progress: Progress, done: int, steps: int) -> Any:
    """Returns a bar with rate and time left; lines, which suit a log, if stderr is no terminal.

    `progress` says what was done until now; it is silent from the first line of the loop's own.
    """
    if not sys.stderr.isatty():
        progress.phase("first steps")
        return LogLines(progress)
    from tqdm import tqdm

    progress.phase("")
    return tqdm(total=steps, initial=done, unit="step", dynamic_ncols=True, mininterval=0.5)


class LogLines:
    """Progress for a log file: what would stand beside the bar, a line each time."""

    def __init__(self, progress: Progress):
        """`progress` speaks until there is a first line."""
        self._progress = progress

    def update(self, n: int) -> None:
        """Does nothing."""

    def set_postfix_str(self, text: str, refresh: bool = True) -> None:
        """Prints the line on stderr."""
        self._progress.phase("")
        click.echo(text, err=True)

    def close(self) -> None:
        """Says no more."""
        self._progress.phase("")


def _complaint(error: BaseException, flags: Sequence[str]) -> str:
    cause = error.args[0] if error.args else type(error).__name__
    if isinstance(cause, KeyError) and cause.args:  # ml_collections': 'KEY', and perhaps a guess
        key, _, guess = str(cause.args[0]).partition("\n")
        paths = [flag.lstrip("-").partition("=")[0] for flag in flags]
        full = [path for path in paths if key.strip("'") in path.split(".")]
        return f"unknown key {full[0] if full else key}. {guess}"
    text = str(cause)
    if "Traceback (most recent call last)" in text:  # of the config file itself: what it says
        return text.strip().splitlines()[-1].strip()
    return text
