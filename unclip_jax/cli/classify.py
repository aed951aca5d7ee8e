"""`unclip classify`: CLIP zero-shot probabilities of labels for an image."""

from pathlib import Path

import click

from unclip_jax.cli import common
from unclip_jax.cli.progress import Progress
from unclip_jax.core.errors import UserError


@click.command()
@click.argument("image", type=click.Path(path_type=Path))
@click.argument("labels", nargs=-1, metavar="LABEL...")
@common.model_option
@common.json_option
def classify(image: Path, labels: tuple[str, ...], model: str, as_json: bool) -> None:
    """Print CLIP's zero-shot probability of each label.

    The probabilities sum to 1 over the given labels, even if none of them fits. Labels are used as
    they are, without a template.

    Example: unclip classify heart.png "a red heart" "a green apple"
    """
    if not labels:
        raise UserError("no label given")
    from unclip_jax import api
    from unclip_jax.checkpoint import bundle
    from unclip_jax.workflows import image_commands
    from unclip_jax.workflows.images import read_image

    pixels = read_image(image)
    with Progress() as progress:
        progress.phase(f"loading {model}")
        common.use_compile_cache()
        clip = bundle.load(model, stages=["clip"])
        far = image_commands.warn_of_unlike(clip, {image: pixels}, progress)
        image_commands.warn_of_words(clip, labels, progress)
        progress.phase("classifying")
        probabilities = api.classify(clip, pixels[None], list(labels))[0]
    if as_json:
        pairs = zip(labels, probabilities, strict=True)
        result = [{"label": label, "probability": float(value)} for label, value in pairs]
        common.echo_json({"labels": result, **far})
        return
    for index in (-probabilities).argsort(kind="stable"):
        click.echo(f"{probabilities[index]:8.4f}  {labels[index]}")
