"""`unclip interpolate`: from one picture to another through both latents (unCLIP §3.2)."""

from pathlib import Path
from typing import Any

import click

from unclip_jax.cli import pictures
from unclip_jax.core.errors import UserError


@click.command(short_help="From one picture to another.")
@click.argument("image_a", type=click.Path(path_type=Path))
@click.argument("image_b", type=click.Path(path_type=Path))
@click.option("--frames", default=8, show_default=True, type=click.IntRange(2, 1000))
@click.option(
    "--noise",
    type=click.Choice(["slerp", "fixed"]),
    default="slerp",
    show_default=True,
    help="slerp: between the inverted latents, ends rebuilt; fixed: the same fresh noise.",
)
@click.option("--num", default=1, show_default=True, type=click.IntRange(1), help="Paths (fixed).")
@pictures.options(inverts=True)
def interpolate(
    image_a: Path, image_b: Path, frames: int, noise: str, num: int, **given: Any
) -> None:
    """Goes from a picture to another in equal steps; writes the frames, a strip and a GIF.

    Example: unclip interpolate heart.png star.png --frames 8 --out path
    """
    if noise == "slerp" and num != 1:
        raise UserError("--num needs --noise fixed: interpolated noise gives one path")
    pair = [pictures.read_image(path) for path in (image_a, image_b)]
    job = pictures.Job.of("interpolate", given)
    names = [f"path-{n:02d}-frame-{i:03d}.png" for n in range(num) for i in range(frames)]

    def make(model: Any, key: Any, monitor: Any) -> pictures.Made:
        from unclip_jax.core.rendering import Strip, labeled_strips
        from unclip_jax.sampling import latents, manipulate

        plan = latents.resolve_latents(
            model, pictures.latent_settings(given), inverted=noise == "slerp"
        )
        ends = ([pair[0]], [pair[1]])
        made = manipulate.interpolate(
            model, ends, key, plan, frames=frames, num=num, monitor=monitor
        )
        thetas = [i / (frames - 1) for i in range(frames)]
        shown = [pictures.fitted(model, image, plan.size) for image in pair]
        labels = ["input A", *(f"{theta:.2f}" for theta in thetas), "input B"]
        paths = [made[n * frames : (n + 1) * frames] for n in range(num)]
        titles = [f"{image_a.name} to {image_b.name}, noise {noise}", *[""] * (num - 1)]
        strips = [
            Strip(title, [shown[0], *path, shown[1]], labels)
            for title, path in zip(titles, paths, strict=True)
        ]
        facts = [{"path_number": n, "theta": theta} for n in range(num) for theta in thetas]
        return pictures.Made(
            [
                pictures.Picture(*row)
                for row in zip(names, made, [""] * len(made), facts, strict=True)
            ],
            labeled_strips(strips, columns=min(frames + 2, 12)),
            {"images": [str(image_a), str(image_b)], "noise": noise, "num": num}
            | {"frames": frames, **plan.to_json()},
            {"input-a.png": shown[0], "input-b.png": shown[1]},
            frames=list(paths[0]),
        )

    stem = f"{image_a.stem} {image_b.stem}"
    given_images = dict(zip((image_a, image_b), pair, strict=True))
    job.run(stem, [*names, "input-a.png", "input-b.png", pictures.GIF], make, given_images)
