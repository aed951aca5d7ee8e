"""`unclip export --format stablehlo`: its options, and the call behind them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from unclip_jax.cli import common
from unclip_jax.core.errors import UserError

OPTIONS = {"size": "--size", "num": "--num", "platforms": "--platforms", "compute": "--compute"}
OPTIONS |= {"prior": "--prior"}


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds what only --format stablehlo takes."""
    added = [
        click.option("--size", type=int, help="stablehlo: pixels, one of the bundle's sizes."),
        click.option(
            "--prior",
            type=click.Choice([*common.PRIORS, "text", "none"]),
            help="stablehlo: source of the image embedding; default: the bundle's.",
        ),
        click.option(
            "--num", type=click.IntRange(1), help="stablehlo: images of a call; default: open."
        ),
        click.option(
            "--platforms", metavar="LIST", help="stablehlo: some of cpu,cuda,tpu; default: all."
        ),
        click.option(
            "--compute",
            type=click.Choice(["float32", "bfloat16"]),
            help="stablehlo: the networks' arithmetic; default: float32.",
        ),
    ]
    for option in reversed(added):
        command = option(command)
    return command


def check_options(given: Mapping[str, Any]) -> None:
    """Fails if an option of the program is given for another format."""
    for name, spelt in OPTIONS.items():
        if given["target"] != "stablehlo" and given[name] is not None:
            raise UserError(f"{spelt} is for --format stablehlo")


def save(model: Any, out: Path, given: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Writes the program's folder; returns what it holds as a JSON object and as a line."""
    from unclip_jax.sampling.settings import SampleSettings
    from unclip_jax.workflows.stablehlo import PLATFORMS, save_program

    platforms = PLATFORMS if given["platforms"] is None else given["platforms"].split(",")
    settings = SampleSettings(
        size=given["size"], prior=given["prior"], dtype=given["compute"] or "float32"
    )
    save_program(
        model,
        out,
        settings=settings,
        num=given["num"],
        platforms=platforms,
        overwrite=given["overwrite"],
    )
    size = sum(path.stat().st_size for path in out.iterdir())
    result = {"program": str(out), "platforms": list(platforms), "bytes": size}
    return result, f"{out}  {', '.join(platforms)}  {size / 2**20:.2f} MiB"
