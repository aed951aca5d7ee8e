"""`unclip edit`: a picture moved toward a text (text diffs, unCLIP §3.3)."""

from pathlib import Path
from typing import Any

import click

from unclip_jax.cli import pictures
from unclip_jax.core.errors import UserError


@click.command(short_help="A picture moved toward a text.")
@click.argument("image", type=click.Path(path_type=Path))
@click.option("--to", "target", required=True, metavar="TEXT", help="What to go toward.")
@click.option(
    "--from",
    "source",
    metavar="TEXT",
    help='What to go from: the picture\'s caption or a dummy ("a photo"); default: left out.',
)
@click.option("--frames", default=6, show_default=True, type=click.IntRange(2, 1000))
@click.option("--max-theta", default=0.5, show_default=True, help="How far the last frame goes.")
@pictures.options(inverts=True)
def edit(
    image: Path,
    target: str,
    source: str | None,
    frames: int,
    max_theta: float,
    **given: Any,
) -> None:
    """Turns the picture's embedding toward a text, its noise held fixed; theta 0 rebuilds it.

    Example: unclip edit heart.png --from "a red heart" --to "a blue heart" --out edited
    """
    if not target.strip():
        raise UserError("--to is empty; say what to go toward")
    pixels = pictures.read_image(image)
    job = pictures.Job.of("edit", given)
    names = [f"edit-{i:03d}.png" for i in range(frames)]

    def make(model: Any, key: Any, monitor: Any) -> pictures.Made:
        from unclip_jax.core.rendering import Strip, labeled_strips
        from unclip_jax.sampling import latents, manipulate

        plan = latents.resolve_latents(model, pictures.latent_settings(given))
        thetas = manipulate.edit_thetas(frames, max_theta)
        texts = ([target], None if source is None else [source])
        made = manipulate.edit(model, [pixels], *texts, key, plan, thetas=thetas, monitor=monitor)
        shown = pictures.fitted(model, pixels, plan.size)
        way = f"to: {target}" if source is None else f"from: {source}   to: {target}"
        labels = ["input", *(f"theta {theta:.2f}" for theta in thetas)]
        facts = [{"theta": round(float(theta), 6), "from": source or ""} for theta in thetas]
        return pictures.Made(
            [
                pictures.Picture(*row)
                for row in zip(names, made, [target] * frames, facts, strict=True)
            ],
            labeled_strips([Strip(way, [shown, *made], labels)], columns=min(frames + 1, 12)),
            {"image": str(image), "to": target, "from": source, "frames": frames}
            | {"max_theta": max_theta, **plan.to_json()},
            {"input.png": shown},
            frames=list(made),
        )

    written = [*names, "input.png", pictures.GIF]
    texts = [target] if source is None else [target, source]
    job.run(f"{image.stem} {target}", written, make, {image: pixels}, texts)
