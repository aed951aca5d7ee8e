"""`unclip interpolate`: between two images through both latents (unCLIP §3.2)."""

from pathlib import Path
from typing import Any

import click

from unclip_jax.cli import images
from unclip_jax.core.errors import UserError


@click.command()
@click.argument("image_a", type=click.Path(path_type=Path))
@click.argument("image_b", type=click.Path(path_type=Path))
@click.option(
    "--frames",
    default=8,
    show_default=True,
    type=click.IntRange(2, 1000),
    help="Number of images, ends included.",
)
@click.option(
    "--noise",
    type=click.Choice(["slerp", "fixed"]),
    default="slerp",
    show_default=True,
    help="slerp: interpolate the inverted noise, which reconstructs both ends; fixed: one fresh "
    "noise for all frames.",
)
@click.option(
    "--num",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="Number of paths, with --noise fixed.",
)
@images.options(inverts=True)
def interpolate(
    image_a: Path, image_b: Path, frames: int, noise: str, num: int, **settings: Any
) -> None:
    """Interpolate between two images in equal steps; write the frames, a strip and a GIF.

    Example: unclip interpolate heart.png star.png --frames 8 --out path
    """
    if noise == "slerp" and num != 1:
        raise UserError("--num needs --noise fixed; interpolated noise gives one path")
    output = images.Output.take(settings)
    from unclip_jax.workflows.manipulations import Interpolate

    command = Interpolate(image_a, settings, image_b, frames=frames, noise=noise, num=num)
    images.run(command, output)
