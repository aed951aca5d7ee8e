"""`unclip edit`: an image edited toward a text (text diffs, unCLIP §3.3)."""

from pathlib import Path
from typing import Any

import click

from unclip_jax.cli import images
from unclip_jax.core.errors import UserError


@click.command()
@click.argument("image", type=click.Path(path_type=Path))
@click.option("--to", "target", required=True, metavar="TEXT", help="Target caption.")
@click.option(
    "--from",
    "source",
    metavar="TEXT",
    help='Source caption: of the image, or a generic one ("a photo") [none].',
)
@click.option(
    "--frames",
    default=6,
    show_default=True,
    type=click.IntRange(2, 1000),
    help="Number of images, from theta 0 to --max-theta.",
)
@click.option(
    "--max-theta", default=0.5, show_default=True, help="Strength of the last image, in 0 … 1."
)
@images.options(inverts=True)
def edit(
    image: Path,
    target: str,
    source: str | None,
    frames: int,
    max_theta: float,
    **settings: Any,
) -> None:
    """Edit an image toward a text: rotate its embedding toward a text difference.

    The inverted noise stays fixed; theta 0 reconstructs the image.

    Example: unclip edit heart.png --from "a red heart" --to "a blue heart" --out edited
    """
    if not target.strip():
        raise UserError("--to is empty; give the target caption")
    output = images.Output.take(settings)
    from unclip_jax.workflows.manipulations import Edit

    command = Edit(image, settings, target, source, frames=frames, max_theta=max_theta)
    images.run(command, output)
