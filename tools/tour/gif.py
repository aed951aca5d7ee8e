"""Draws docs/assets/tour.gif from the shipped bundle: `python -m tools.tour.gif`.

A minute in three parts: captions become images, step by step from noise; a text edits an image; one
image turns into another.
"""

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Array, UInt8
from PIL import Image, ImageDraw, ImageFont

import unclip_jax
from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.prng import image_keys
from unclip_jax.core.rendering import INK, PAPER
from unclip_jax.core.types import Cond
from unclip_jax.data.images import to_uint8
from unclip_jax.diffusion.samplers import init_state, make_plan, run_steps
from unclip_jax.diffusion.schedules import make_schedule
from unclip_jax.sampling.single_stage import x0_denoiser

OUT = Path(__file__).resolve().parents[2] / "docs" / "assets" / "tour.gif"
MOST_BYTES = 1_000_000
TILE, GAP, TOP, FOOT = 128, 16, 44, 34
ACROSS = 4
SOFT = (110, 110, 110)
SHOWN_STEPS = 7  # of the decoder's, in a denoising
COLORS, NOISE_COLORS = (96, 64, 48, 32), 24  # the first number with which it is small enough
STEP, FRAME, HOLD = 650, 500, 4000  # milliseconds

PROMPTS = (
    ("a red heart", "a dog face", "a rocket", "a house"),
    ("a panda", "a strawberry", "the sun", "a butterfly"),
    ("a soccer ball", "a frog", "a birthday cake", "a green apple"),
)
EDITS = (
    ("a red heart", "a blue heart"),
    ("a green apple", "a red apple"),
    ("a red heart", "a broken heart"),
    ("a tree", "a christmas tree"),
)
PAIRS = (
    ("a dog face", "a panda"),
    ("the sun", "a smiling face"),
    ("a strawberry", "a red heart"),
    ("a frog", "a cat face"),
)


@dataclasses.dataclass(frozen=True)
class Frame:
    """A picture of the GIF: a title, tiles with captions, and for how long it is shown.

    Attributes:
        is_smooth: how tiles are enlarged; noise in whole pixels takes a quarter of the bytes.
    """

    title: str
    tiles: Sequence[UInt8[np.ndarray, "h w 3"]]
    captions: Sequence[str]
    milliseconds: int
    is_smooth: bool = True


def denoised(model: Bundle, prompts: Sequence[str]) -> UInt8[np.ndarray, "n b h w 3"]:
    """Returns x_t of every step of the decoder, as `sample` takes them; the last is the image."""
    keys = image_keys(jax.random.key(0), range(len(prompts)), [0] * len(prompts))
    text = unclip_jax.embed_text(model, prompts)
    image_emb = unclip_jax.run_stage(model, "prior", Cond(text=text), key=keys)
    text = unclip_jax.embed_text(model, prompts, stage="decoder")
    spec = model.stage("decoder").spec
    schedule = make_schedule(spec.diffusion.schedule, spec.diffusion.num_steps)
    plan = make_plan(schedule, spec.sampling, spec.diffusion)
    denoise = x0_denoiser(model, "decoder", Cond(image_emb=image_emb, text=text))
    shape = (len(prompts), *spec.model.sample_shape)
    start = jax.random.normal(jax.random.key(1), shape)

    def run(x: Array) -> Array:
        return run_steps(denoise, init_state(x), plan, lambda step, shape: start, keep=True)[1]

    steps = jax.jit(run)(start)
    return to_uint8(np.concatenate([np.asarray(start)[None], np.asarray(steps)]))


def denoising(model: Bundle) -> Iterator[Frame]:
    """Yields the frames of each row of prompts."""
    for prompts in PROMPTS:
        steps = denoised(model, prompts)
        last = len(steps) - 1
        for at in np.unique(np.linspace(0, last, SHOWN_STEPS).round().astype(int)):
            title = f"Captions become images: step {at} of {last}"
            is_last = at == last
            yield Frame(title, steps[at], prompts, HOLD if is_last else STEP, is_smooth=is_last)


def samples(model: Bundle, prompts: Sequence[str]) -> UInt8[np.ndarray, "n h w 3"]:
    """Returns an image of each prompt, at the decoder's size."""
    size = model.stage("decoder").spec.model.sample_shape[0]
    return unclip_jax.sample(model, prompts, size=size)


def edits(model: Bundle) -> Iterator[Frame]:
    """Yields the frames of the edits, side by side."""
    sources, targets = zip(*EDITS, strict=True)
    images = samples(model, sources)
    size = images.shape[1]
    frames = unclip_jax.edit(
        model, images, targets, source=sources, frames=11, size=size, invert_steps=60
    )
    steps = frames.reshape(len(EDITS), -1, *images.shape[1:]).swapaxes(0, 1)
    yield Frame("Words edit an image", steps[0], sources, HOLD)
    for at, tiles in enumerate(steps):
        theta, is_last = 0.5 * at / (len(steps) - 1), at == len(steps) - 1
        title = f"Words edit an image: theta {theta:.2f}"
        yield Frame(title, tiles, [f"to {t}" for t in targets], HOLD if is_last else FRAME)


def interpolations(model: Bundle) -> Iterator[Frame]:
    """Yields the frames from the first images of the pairs to the second ones, and back."""
    first, second = (samples(model, prompts) for prompts in zip(*PAIRS, strict=True))
    size = first.shape[1]
    frames = unclip_jax.interpolate(model, first, second, frames=11, size=size, invert_steps=60)
    steps = list(frames.reshape(len(PAIRS), -1, *first.shape[1:]).swapaxes(0, 1))
    ends = [[pair[0] for pair in PAIRS], [pair[1] for pair in PAIRS]]
    for at, tiles in enumerate([*steps, *steps[-2::-1]]):
        is_end = at % (len(steps) - 1) == 0
        captions = ends[at // (len(steps) - 1) % 2] if is_end else [""] * len(PAIRS)
        title = "One image turns into another"
        yield Frame(title, tiles, captions, HOLD if is_end else FRAME)


def drawn(frame: Frame) -> Image.Image:
    """Returns a frame as an image."""
    width, height = ACROSS * (TILE + GAP) + GAP, TOP + TILE + FOOT
    image = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(image)
    large, small = (ImageFont.load_default(size=size) for size in (18, 15))
    draw.text((GAP, 14), frame.title, INK, large)
    for number, (tile, caption) in enumerate(zip(frame.tiles, frame.captions, strict=True)):
        left = GAP + number * (TILE + GAP)
        how = Image.Resampling.BICUBIC if frame.is_smooth else Image.Resampling.NEAREST
        shown = Image.fromarray(np.asarray(tile)).resize((TILE, TILE), how)
        image.paste(shown, (left, TOP))
        draw.text((left + TILE // 2, TOP + TILE + 8), caption, SOFT, small, anchor="ma")
    return image


def palette_of(images: Sequence[Image.Image], colors: int) -> Image.Image:
    """Returns an image whose palette suits images of one size."""
    sheet = Image.new("RGB", (images[0].width, sum(image.height for image in images)))
    for number, image in enumerate(images):
        sheet.paste(image, (0, number * image.height))
    return sheet.quantize(colors, method=Image.Quantize.MEDIANCUT)


def save(path: Path, frames: Sequence[Frame], colors: int = COLORS[0]) -> None:
    """Writes the frames in two palettes: one of the images, and a smaller one of the noise."""
    images = [drawn(frame) for frame in frames]
    palettes = {}
    for is_smooth, count in ((True, colors), (False, NOISE_COLORS)):
        shown = [i for i, frame in zip(images, frames, strict=True) if frame.is_smooth == is_smooth]
        palettes[is_smooth] = palette_of(shown, count) if shown else None
    first, *others = [
        image.quantize(palette=palettes[frame.is_smooth], dither=Image.Dither.NONE)
        for image, frame in zip(images, frames, strict=True)
    ]
    times = [frame.milliseconds for frame in frames]
    path.parent.mkdir(parents=True, exist_ok=True)
    first.save(path, save_all=True, append_images=others, duration=times, loop=0, optimize=True)


def main() -> None:
    """Draws the GIF and fails if it is too large for a README."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT, help="where to write it")
    out = parser.parse_args().out
    model = unclip_jax.load("emoji")
    frames = [*denoising(model), *edits(model), *interpolations(model)]
    for colors in COLORS:
        save(out, frames, colors)
        if out.stat().st_size <= MOST_BYTES:
            return
    raise SystemExit(f"{out} has {out.stat().st_size:,} bytes; the most is {MOST_BYTES:,}")


if __name__ == "__main__":
    main()
