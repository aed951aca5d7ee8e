"""The options of the commands that take images, and what these commands print."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from unclip_jax.cli import common
from unclip_jax.cli.progress import Progress
from unclip_jax.diffusion.config import SAMPLER_NAMES


def options(*, inverts: bool) -> Callable[[common.Command], common.Command]:
    """Adds the options that these commands share.

    Args:
        inverts: whether the command inverts the decoder.
    """
    own = "1 (off)" if inverts else "the bundle's"
    shared = [
        common.model_option,
        click.option("--out", type=common.OUT, help="Folder [a new one]."),
        common.seed_option,
        click.option("--size", type=click.IntRange(1), help="Pixels: one of the bundle's sizes."),
        click.option("--guidance", type=float, help=f"Guidance scale of the decoder [{own}]."),
        click.option("--steps", type=click.IntRange(1), help="Sampling steps of the decoder."),
        common.dtype_option,
        common.json_option,
        click.option("--overwrite", is_flag=True, help="Replace existing files."),
    ]
    if inverts:
        levels = click.option(
            "--invert-steps", type=click.IntRange(1), help="Steps of the DDIM inversion."
        )
        shared.insert(6, levels)

    def decorate(command: common.Command) -> common.Command:
        for option in reversed(shared):
            command = option(command)
        return command

    return decorate


def prior_options(command: common.Command) -> common.Command:
    """Adds the options of the commands that sample a prior: those of the prior, and --sampler."""
    options = [
        click.option("--prior-guidance", type=float, help="Guidance scale of the prior; 1 is off."),
        click.option("--prior-steps", type=click.IntRange(1), help="Sampling steps of the prior."),
        click.option(
            "--prior-temperature",
            type=float,
            help="Temperature of the ar prior; 0 is greedy decoding.",
        ),
        click.option("--prior-top-p", type=float, help="Nucleus (top-p) sampling of the ar prior."),
        click.option("--sampler", type=click.Choice(SAMPLER_NAMES), help="Sampler of the decoder."),
        click.option(
            "--prior",
            type=click.Choice([*common.PRIORS, "text", "none"]),
            help="Source of the image embedding; text and none are the paper's baselines.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def interval_options(command: common.Command) -> common.Command:
    """Adds the intervals of guidance, of the decoder and of the prior."""
    for prefix, whose in (("prior-", "prior"), ("", "decoder")):
        command = click.option(
            f"--{prefix}guidance-interval",
            type=float,
            nargs=2,
            metavar="LOW HIGH",
            help=f"Noise levels, sigma / alpha, between which the {whose} is guided [all].",
        )(command)
    return command


@dataclasses.dataclass(frozen=True)
class Output:
    """The bundle to use, where to write, and how to print the result."""

    model: str
    out: Path | None
    seed: int
    as_json: bool
    overwrite: bool

    @classmethod
    def take(cls, given: dict[str, Any]) -> "Output":
        """Takes these options out of those given; the rest are settings of the sampling."""
        return cls(**{field.name: given.pop(field.name) for field in dataclasses.fields(cls)})


def run(command: Any, output: Output) -> None:
    """Runs a command of workflows/manipulations and prints its result."""
    from unclip_jax.workflows.image_commands import run_command

    where = {name: getattr(output, name) for name in ("model", "out", "seed", "overwrite")}
    with Progress() as progress:
        common.use_compile_cache()
        common.use_cores([output.model], command.settings.get("size"), _count(command.files))
        result = run_command(command, **where, reporter=progress)
    echo_images(result, output.as_json)


def _count(names: Sequence[str]) -> int:
    """Returns how many of a command's files are images that it makes."""
    return sum(name.endswith(".png") and not name.startswith("input") for name in names)


def echo_images(result: Mapping[str, Any], as_json: bool) -> None:
    """Prints a result as JSON, or the paths of its images, grid and GIF."""
    if as_json:
        common.echo_json(result)
        return
    figures = [result[name] for name in ("grid", "gif") if name in result]
    for path in [*(image["path"] for image in result["images"]), *figures]:
        click.echo(path)
