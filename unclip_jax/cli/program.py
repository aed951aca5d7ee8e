"""The options of `unclip export --format stablehlo`."""

from typing import Any

import click

from unclip_jax.cli.common import PRIORS, Command
from unclip_jax.core.errors import UserError

OPTIONS = {
    "size": click.option("--size", type=int, help="stablehlo: pixels, one of the bundle's sizes."),
    "prior": click.option(
        "--prior",
        type=click.Choice([*PRIORS, "text", "none"]),
        help="stablehlo: source of the image embedding [the bundle's].",
    ),
    "num": click.option(
        "--num", type=click.IntRange(1), help="stablehlo: images per call [a free dimension]."
    ),
    "platforms": click.option(
        "--platforms", metavar="LIST", help="stablehlo: any of cpu,cuda,tpu [all]."
    ),
    "compute": click.option(
        "--compute",
        type=click.Choice(["float32", "bfloat16"]),
        help="stablehlo: dtype of the networks' arithmetic [float32].",
    ),
}


def options(command: Command) -> Command:
    """Adds the options of --format stablehlo."""
    for option in reversed(OPTIONS.values()):
        command = option(command)
    return command


def take_options(target: str, given: dict[str, Any]) -> dict[str, Any]:
    """Takes the options of --format stablehlo out of `given`; refuses them for other formats."""
    taken = {name: given.pop(name) for name in OPTIONS}
    for name, value in taken.items():
        if target != "stablehlo" and value is not None:
            raise UserError(f"--{name} is for --format stablehlo")
    return taken
