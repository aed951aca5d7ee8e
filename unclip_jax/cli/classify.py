"""`unclip classify`: CLIP zero-shot probabilities of labels for an image."""

from pathlib import Path

import click

from unclip_jax.cli import common, pictures
from unclip_jax.cli.progress import Progress
from unclip_jax.core.errors import UserError


@click.command(short_help="CLIP zero-shot probabilities of labels.")
@click.argument("image", type=click.Path(path_type=Path))
@click.argument("labels", nargs=-1, metavar="LABEL...")
@common.model_option
@common.json_option
def classify(image: Path, labels: tuple[str, ...], model: str, as_json: bool) -> None:
    """Prints how probable CLIP finds each label, the labels being taken as they are.

    The probabilities sum to 1 over the labels given, also where none of them is right.

    Example: unclip classify heart.png "a red heart" "a green apple"
    """
    if not labels:
        raise UserError("no label given")
    pixels = pictures.read_image(image)
    with Progress() as progress:
        progress.phase(f"loading {model}")
        common.use_compile_cache()
        from unclip_jax import api
        from unclip_jax.checkpoint import bundle

        held = bundle.load(model, stages=["clip"])
        far = pictures.warn_of_unlike(held, {image: pixels})
        pictures.warn_of_words(held, labels)
        progress.phase("classifying")
        probabilities = api.classify(held, pixels[None], list(labels))[0]
    if as_json:
        pairs = zip(labels, probabilities, strict=True)
        result = [{"label": label, "probability": float(value)} for label, value in pairs]
        common.echo_json({"labels": result, **far})
        return
    for index in (-probabilities).argsort(kind="stable"):
        click.echo(f"{probabilities[index]:8.4f}  {labels[index]}")
