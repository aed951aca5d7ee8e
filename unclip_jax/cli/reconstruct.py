"""`unclip reconstruct`: an image from the first components of its embedding (unCLIP §4)."""

from pathlib import Path
from typing import Any

import click

from unclip_jax.cli import images
from unclip_jax.core.errors import UserError

DIMS = "20,30,40,80,120,160,200,320"


@click.command()
@click.argument("image", type=click.Path(path_type=Path))
@click.option(
    "--dims",
    default=DIMS,
    show_default=True,
    help="Numbers of components; larger than the embedding are clipped.",
)
@click.option("--pca", type=click.Path(path_type=Path), help="PCA file [the bundle's].")
@images.options(inverts=False)
def reconstruct(image: Path, dims: str, pca: Path | None, **settings: Any) -> None:
    """Reconstruct an image from the first principal components of its image embedding.

    All reconstructions share one noise.

    Example: unclip reconstruct heart.png --dims 5,10,20,40,80 --out components
    """
    counts, output = parse_dims(dims), images.Output.take(settings)
    from unclip_jax.workflows.manipulations import Reconstruct

    images.run(Reconstruct(image, settings, counts, pca), output)


def parse_dims(text: str) -> list[int]:
    """Parses comma-separated numbers of components."""
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"--dims must be comma-separated whole numbers, not {text!r}") from error
    if min(counts) < 0:
        raise UserError(f"--dims must not be negative: {text!r}")
    return counts
