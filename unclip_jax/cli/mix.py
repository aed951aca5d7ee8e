"""`unclip mix`: captions and images mixed by weight in CLIP's image-embedding space."""

from typing import Any

import click

from unclip_jax.cli import images
from unclip_jax.cli.completion import files


@click.command()
@click.argument("items", nargs=-1, required=True, metavar="ITEM[:WEIGHT]...", shell_complete=files)
@click.option(
    "--negative",
    multiple=True,
    metavar="ITEM[:WEIGHT]",
    shell_complete=files,
    help="Item that guidance moves away from; may be repeated, and the mean counts.",
)
@click.option(
    "--grid",
    type=click.IntRange(2, 32),
    help="Images on a side of a grid of weights: a row for two items, a triangle for three.",
)
@click.option(
    "--linear", is_flag=True, help="Arithmetic mean of the directions, not that on the sphere."
)
@click.option(
    "--num", default=1, show_default=True, type=click.IntRange(1), help="Number of draws."
)
@images.interval_options
@images.prior_options
@images.options(inverts=False)
def mix(
    items: tuple[str, ...],
    negative: tuple[str, ...],
    grid: int | None,
    linear: bool,
    num: int,
    **settings: Any,
) -> None:
    """Mix captions and images: decode the weighted mean of their image embeddings.

    ITEM is a caption or an image file. The weight is 1 if it is not given; only the proportions
    count. A caption that ends in a colon and a number needs its weight written: "10:30:1" is the
    caption "10:30".

    The prior makes a caption's embedding. The decoder gets the mixture and the empty caption.

    Example: unclip mix "a red heart:0.7" apple.png:0.3 --out mixed

    Example: unclip mix "a red heart" "a green apple" --grid 5 --out path
    """
    output = images.Output.take(settings)
    from unclip_jax.workflows.mix import Mix, parse_item

    parsed = [[parse_item(text) for text in group] for group in (items, negative)]
    images.run(Mix(*parsed, settings, grid=grid, num=num, linear=linear), output)
