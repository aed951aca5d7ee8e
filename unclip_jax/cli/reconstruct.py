"""`unclip reconstruct`: what the first components of an image embedding hold (unCLIP §4)."""

from pathlib import Path
from typing import Any

import click

from unclip_jax.cli import pictures
from unclip_jax.core.errors import UserError

DIMS = "20,30,40,80,120,160,200,320"


@click.command(short_help="A picture from the first components of its embedding.")
@click.argument("image", type=click.Path(path_type=Path))
@click.option("--dims", default=DIMS, show_default=True, help="Numbers of components.")
@click.option(
    "--pca", type=click.Path(path_type=Path), help="PCA file; default: that of the bundle."
)
@pictures.options(inverts=False)
def reconstruct(image: Path, dims: str, pca: Path | None, **given: Any) -> None:
    """Decodes the picture from the first components of its image embedding, with one noise.

    Example: unclip reconstruct heart.png --dims 5,10,20,40,80 --out components
    """
    counts = parse_dims(dims)
    pixels = pictures.read_image(image)
    job = pictures.Job.of("reconstruct", given)
    names = [f"dims-{count:04d}.png" for count in dict.fromkeys(counts)]

    def make(model: Any, key: Any, monitor: Any) -> pictures.Made:
        from unclip_jax.checkpoint.bundle import require_pca
        from unclip_jax.core.rendering import Strip, labeled_strips
        from unclip_jax.sampling import latents, manipulate

        basis = require_pca(model, pca)
        held = manipulate.usable_dims(counts, basis)
        plan = latents.resolve_latents(model, pictures.latent_settings(given), inverted=False)
        made = manipulate.reconstruct(
            model, [pixels], key, plan, pca=basis, dims=held, monitor=monitor
        )
        shown = pictures.fitted(model, pixels, plan.size)
        labels = ["input", *(f"{count} dims" for count in held)]
        own = [f"dims-{count:04d}.png" for count in held]
        facts = [{"dims": count} for count in held]
        notes = []
        if max(counts) > max(held):
            notes.append(f"the embedding has {max(held)} components; larger --dims are clipped")
        return pictures.Made(
            [
                pictures.Picture(*row)
                for row in zip(own, made, [""] * len(made), facts, strict=True)
            ],
            labeled_strips([Strip(image.name, [shown, *made], labels)], columns=12),
            {"image": str(image), "dims": list(held), "pca": None if pca is None else str(pca)}
            | plan.to_json(),
            {"input.png": shown},
            notes=notes,
        )

    job.run(image.stem, [*names, "input.png"], make, {image: pixels})


def parse_dims(text: str) -> list[int]:
    """Reads numbers joined by commas."""
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"--dims must be whole numbers joined by commas, not {text!r}") from error
    if min(counts) < 0:
        raise UserError(f"--dims must be numbers of components from 0 on, not {text!r}")
    return counts
