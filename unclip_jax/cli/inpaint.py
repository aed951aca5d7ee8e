"""`unclip inpaint`: fills a masked part of a picture from a caption."""

from pathlib import Path
from typing import Any

import click

from unclip_jax.cli import pictures
from unclip_jax.core.errors import UserError


@click.command(short_help="Fills a part of a picture from a caption.")
@click.argument("image", type=click.Path(path_type=Path))
@click.argument("prompt")
@click.option(
    "--mask",
    required=True,
    type=click.Path(path_type=Path),
    help="Picture of the image's size; white, or transparent, is filled.",
)
@click.option("--num", default=4, show_default=True, type=click.IntRange(1), help="Fillings.")
@click.option(
    "--resamples",
    default=5,
    show_default=True,
    type=click.IntRange(1, 100),
    help="Times each stretch of levels is gone through, so that the parts agree.",
)
@pictures.options(inverts=False)
def inpaint(image: Path, prompt: str, mask: Path, num: int, resamples: int, **given: Any) -> None:
    """Fills the masked part; PROMPT says what the whole picture shall show. The rest is kept.

    Example: unclip inpaint heart.png "a blue heart" --mask half.png --out filled
    """
    if not prompt.strip():
        raise UserError("the prompt is empty; say what the picture shall show")
    pixels, where = pictures.read_image(image), pictures.read_mask(mask)
    job = pictures.Job.of("inpaint", given)
    names = [f"filled-{i:02d}.png" for i in range(num)]

    def make(model: Any, key: Any, monitor: Any) -> pictures.Made:
        from unclip_jax.core.rendering import Strip, labeled_strips
        from unclip_jax.sampling import inpaint as filling
        from unclip_jax.sampling.latents import image_fit
        from unclip_jax.sampling.settings import SampleSettings, resolve

        plan = resolve(model, SampleSettings(**given))
        canvas = filling.make_canvas([pixels], [where], plan.size, image_fit(model))
        made = filling.inpaint(
            model, canvas, [prompt], key, plan, num=num, resamples=resamples, monitor=monitor
        )
        shown = [canvas.images[0], canvas.hidden()[0]]
        labels = ["input", "to be filled", *(f"filling {i}" for i in range(num))]
        settings = {**plan.to_json(), "sampler": "ddim", "eta": 1.0, "resamples": resamples}
        return pictures.Made(
            [pictures.Picture(n, m, prompt) for n, m in zip(names, made, strict=True)],
            labeled_strips([Strip(prompt, [*shown, *made], labels)]),
            {"image": str(image), "mask": str(mask), "num": num, **settings},
            {"input.png": shown[0]},
        )

    job.run(f"{image.stem} {prompt}", [*names, "input.png"], make, {image: pixels}, [prompt])
