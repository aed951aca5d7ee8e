"""`unclip vary`: variations of a picture (unCLIP §3.1)."""

from pathlib import Path
from typing import Any

import click

from unclip_jax.cli import pictures


@click.command(short_help="Variations of a picture.")
@click.argument("image", type=click.Path(path_type=Path))
@click.option(
    "--eta", default=1.0, show_default=True, help="0 rebuilds the picture, 1 drifts furthest."
)
@click.option("--num", default=8, show_default=True, type=click.IntRange(1), help="Variations.")
@pictures.options(inverts=True)
def vary(image: Path, eta: float, num: int, **given: Any) -> None:
    """Draws pictures that share the input's image embedding: inversion, then DDIM with noise.

    Example: unclip vary heart.png --eta 0.7 --num 8 --out variations
    """
    pixels = pictures.read_image(image)
    job = pictures.Job.of("vary", given)
    names = [f"variation-{i:02d}.png" for i in range(num)]

    def make(model: Any, key: Any, monitor: Any) -> pictures.Made:
        from unclip_jax.core.rendering import Strip, labeled_strips
        from unclip_jax.sampling import latents, manipulate

        plan = latents.resolve_latents(model, pictures.latent_settings(given), eta=eta)
        made = manipulate.vary(model, [pixels], key, plan, num=num, monitor=monitor)
        shown = pictures.fitted(model, pixels, plan.size)
        labels = ["input", *(f"variation {i}" for i in range(num))]
        strip = Strip(f"{image.name}, eta {eta:g}", [shown, *made], labels)
        return pictures.Made(
            [pictures.Picture(n, m) for n, m in zip(names, made, strict=True)],
            labeled_strips([strip], columns=9 if num <= 8 else 8),
            {"image": str(image), "num": num, **plan.to_json()},
            {"input.png": shown},
        )

    job.run(image.stem, [*names, "input.png"], make, {image: pixels})
