"""`unclip inpaint`: fills a masked part of an image from a caption."""

from pathlib import Path
from typing import Any

import click

from unclip_jax.cli import images
from unclip_jax.core.errors import UserError


@click.command()
@click.argument("image", type=click.Path(path_type=Path))
@click.argument("prompt")
@click.option(
    "--mask",
    required=True,
    type=click.Path(path_type=Path),
    help="Image of the same size; white, or transparent, is filled.",
)
@click.option(
    "--num", default=4, show_default=True, type=click.IntRange(1), help="Number of fillings."
)
@click.option(
    "--resamples",
    default=5,
    show_default=True,
    type=click.IntRange(1, 100),
    help="Repetitions of each stretch of steps, which make the parts consistent (RePaint).",
)
@images.options(inverts=False)
def inpaint(
    image: Path, prompt: str, mask: Path, num: int, resamples: int, **settings: Any
) -> None:
    """Fill the masked part of an image; the rest is kept exactly.

    PROMPT describes the whole image.

    Example: unclip inpaint heart.png "a blue heart" --mask half.png --out filled
    """
    if not prompt.strip():
        raise UserError("the prompt is empty; describe the whole image")
    output = images.Output.take(settings)
    from unclip_jax.workflows.images import read_mask
    from unclip_jax.workflows.manipulations import Inpaint

    command = Inpaint(
        *(image, settings, prompt, mask), read_mask(mask), num=num, resamples=resamples
    )
    images.run(command, output)
