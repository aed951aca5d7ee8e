"""`unclip vary`: variations of an image (unCLIP §3.1)."""

from pathlib import Path
from typing import Any

import click

from unclip_jax.cli import images


@click.command()
@click.argument("image", type=click.Path(path_type=Path))
@click.option(
    "--eta",
    default=1.0,
    show_default=True,
    help="Noise of DDIM: 0 reconstructs the image, 1 varies it most.",
)
@click.option(
    "--num", default=8, show_default=True, type=click.IntRange(1), help="Number of variations."
)
@images.options(inverts=True)
def vary(image: Path, eta: float, num: int, **settings: Any) -> None:
    """Draw variations of an image: images with the same image embedding.

    The image is inverted with DDIM and decoded again with noise.

    Example: unclip vary heart.png --eta 0.7 --num 8 --out variations
    """
    output = images.Output.take(settings)
    from unclip_jax.workflows.manipulations import Vary

    images.run(Vary(image, settings, eta=eta, num=num), output)
