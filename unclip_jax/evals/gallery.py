"""The paper's figures 3, 4, 5, 6, 7 and 9, and inpainting, reproduced with any bundle.

The input images come from the data set: those named below where it has them, else its first ones.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from unclip_jax import api
from unclip_jax.checkpoint.bundle import Bundle, require_pca
from unclip_jax.core.errors import UserError
from unclip_jax.core.prng import root_key
from unclip_jax.core.rendering import Strip, labeled_strips
from unclip_jax.data.sources import split_sizes
from unclip_jax.evals.examples import Examples, load_examples, main_captions, merge
from unclip_jax.evals.settings import Settings
from unclip_jax.evals.smoke import WARNING
from unclip_jax.sampling.latents import image_fit, squares
from unclip_jax.sampling.settings import decoder_size

VARIED = ("hot beverage/3d", "bus/flat", "cactus/3d", "alien/flat", "red heart/3d", "banana/3d")
ETAS = ((0.0, 1), (0.25, 1), (0.5, 1), (0.75, 1), (1.0, 3))
PAIRS = (("red apple/3d", "banana/3d"), ("bus/flat", "alien/flat"), ("sun/3d", "red heart/3d"))
EDITS = (
    ("red heart/3d", "a red heart", "a blue heart"),
    ("red heart/3d", "a red heart", "a broken heart"),
    ("green apple/3d", "a green apple", "a red apple"),
    ("cactus/3d", None, "a christmas tree"),
    ("bus/flat", None, "a red car"),
)
TYPOGRAPHIC = ("green apple/3d", "BANANA", ("a green apple", "a banana", "a red heart"))
COMPONENTS = ("red heart/3d", "banana/3d", "bus/flat", "cactus/3d")
DIMS = (0, 2, 4, 8, 12, 16, 24, 40, 128)
GUIDED = ("a red heart", "a banana", "a green apple")
SCALES = (1.0, 2.0, 3.0, 4.0)
FILLED = (("red heart/3d", "a red heart"), ("red apple/3d", "a green apple"))
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class ImagePool:
    """The input images to choose from, of one size, by "concept/style"."""

    examples: Examples
    splits: tuple[str, ...]

    def find(self, name: str, fallback: int = 0) -> int:
        """Returns the row of a named image, else row `fallback`."""
        concept, _, style = name.partition("/")
        named = zip(self.examples.concepts, self.examples.styles, strict=True)
        rows = [row for row, pair in enumerate(named) if pair == (concept, style)]
        return rows[0] if rows else fallback % len(self.examples)

    def pick(self, names: Sequence[str], first: int = 0) -> tuple[np.ndarray, list[str]]:
        """Returns the named images and their titles."""
        rows = [self.find(name, first + place) for place, name in enumerate(names)]
        return self.examples.images[np.asarray(rows)], [self.title(row) for row in rows]

    def title(self, row: int) -> str:
        """Returns the concept and style of an image, and whether it was held out."""
        seen = "" if self.splits[row] == "train" else " (held out)"
        return f"{self.examples.concepts[row]}, {self.examples.styles[row] or 'plain'}{seen}"


def load_pool(settings: Settings, model: Bundle, size: int) -> ImagePool:
    """Loads the images of the training split and of the last held-out split."""
    names = [s for s in split_sizes(settings.data) if s == "train" or s == settings.splits[-1]]
    parts = [load_examples(settings, name, model=model, size=size) for name in names]
    splits = sum(((n,) * len(p) for n, p in zip(names, parts, strict=True)), ())
    return ImagePool(merge(parts), splits)


@dataclasses.dataclass(frozen=True)
class GalleryContext:
    """What every figure needs."""

    model: Bundle
    settings: Settings
    pool: ImagePool
    size: int

    def shown(self, images: np.ndarray) -> np.ndarray:
        """Returns images as the squares that the bundle sees."""
        return squares(images, self.size, image_fit(self.model))

    @property
    def options(self) -> dict[str, Any]:
        """Key, size and progress callback of every call."""
        seed, report = self.settings.seed, self.settings.report
        return {"key": root_key(seed), "size": self.size, "progress": report}

    @property
    def inverting(self) -> dict[str, Any]:
        """Those options, for a call that inverts images."""
        return self.options | self.settings.inverting

    def swept(self, values: Sequence[T]) -> Sequence[T]:
        """Returns a figure's rows or columns; of a smoke run the first two."""
        return self.settings.swept(values)


def variations(context: GalleryContext) -> Image.Image:
    """Figure 3: what the image embedding preserves, and what it leaves open."""
    images, titles = context.pool.pick(context.swept(VARIED))
    etas = context.swept(ETAS)
    outputs = [
        api.vary(context.model, images, eta=eta, num=num, **context.inverting).reshape(
            len(images), num, context.size, context.size, 3
        )
        for eta, num in etas
    ]
    labels = ["input", *(f"eta {eta:g}" for eta, num in etas for _ in range(num))]
    rows = zip(titles, context.shown(images), np.concatenate(outputs, axis=1), strict=True)
    return labeled_strips([Strip(title, [shown, *row], labels) for title, shown, row in rows])


def interpolations(context: GalleryContext) -> Image.Image:
    """Figure 4: between two images, with interpolated inverted noise and with fixed noise."""
    strips, frames = [], 8
    for number, pair in enumerate(context.swept(PAIRS)):
        images, titles = context.pool.pick(pair, first=2 * number)
        ends = context.shown(images)
        labels = ["input A", *(f"{i / (frames - 1):.2f}" for i in range(frames)), "input B"]
        call = functools.partial(
            api.interpolate,
            context.model,
            images[:1],
            images[1:],
            frames=frames,
            **context.inverting,
        )
        for title, outputs in (
            (f"{titles[0]} to {titles[1]}: both latents", call()),
            ("the same with one fixed noise", call(noise="fixed")),
        ):
            strips.append(Strip(title, [ends[0], *outputs, ends[1]], labels))
    return labeled_strips(strips)


def text_diffs(context: GalleryContext) -> Image.Image:
    """Figure 5: images edited toward a text."""
    strips, frames = [], 6
    captions = main_captions(context.pool.examples)
    for number, (name, source, target) in enumerate(context.swept(EDITS)):
        row = context.pool.find(name, number)
        if context.pool.title(row).split(",")[0] != name.split("/")[0]:
            source, target = captions[row], captions[(row + 1) % len(captions)]
        image = context.pool.examples.images[row][None]
        outputs = api.edit(
            context.model, image, target, source=source, frames=frames, **context.inverting
        )
        labels = ["input", *(f"theta {i / (frames - 1) / 2:.1f}" for i in range(frames))]
        way = f"to: {target}" if source is None else f"from: {source}   to: {target}"
        shown = context.shown(image)[0]
        strips.append(Strip(f"{context.pool.title(row)}. {way}", [shown, *outputs], labels))
    return labeled_strips(strips)


def written_on(image: np.ndarray, word: str) -> np.ndarray:
    """Returns the image with a word on a white sheet of paper."""
    side = image.shape[0]
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    width = 0.8 * side
    size = 4
    while ImageFont.load_default(size=size + 1).getlength(word) < width - 4:
        size += 1
    font = ImageFont.load_default(size=size)
    box = (0.1 * side, 0.5 * side, 0.9 * side, 0.5 * side + size + 4)
    draw.rectangle(box, fill=(255, 255, 255), outline=(60, 60, 60))
    draw.text((side / 2, (box[1] + box[3]) / 2), word, (20, 20, 20), font, anchor="mm")
    return np.asarray(canvas)


def typographic(context: GalleryContext) -> tuple[Image.Image, dict[str, Any]]:
    """Figure 6: does a written word fool CLIP, and what does the decoder make of it?"""
    name, word, labels = TYPOGRAPHIC
    images, titles = context.pool.pick([name])
    pair = np.stack([images[0], written_on(images[0], word)])
    probabilities = api.classify(context.model, pair, labels)
    varied = api.vary(context.model, pair, eta=1.0, num=5, **context.inverting)
    strips, facts = [], {}
    for i, what in enumerate(("plain", f'"{word}" written on it')):
        says = ", ".join(f"{x} {p:.1%}" for x, p in zip(labels, probabilities[i], strict=True))
        facts[what] = {x: float(p) for x, p in zip(labels, probabilities[i], strict=True)}
        row = [context.shown(pair[i : i + 1])[0], *varied[5 * i : 5 * i + 5]]
        strips.append(Strip(f"{titles[0]}, {what}. {says}", row, ["input", *["variation"] * 5]))
    return labeled_strips(strips), facts


def components(context: GalleryContext) -> Image.Image:
    """Figure 7: reconstructions from the first principal components of the image embedding."""
    images, titles = context.pool.pick(context.swept(COMPONENTS))
    width = require_pca(context.model, context.settings.pca).width
    dims = tuple(dict.fromkeys(min(count, width) for count in context.swept(DIMS)))
    outputs = api.reconstruct(
        context.model, images, dims=dims, pca=context.settings.pca, **context.options
    )
    rows = outputs.reshape(len(images), len(dims), *outputs.shape[1:])
    labels = ["input", *(f"{count} dims" for count in dims)]
    shown = context.shown(images)
    return labeled_strips(
        [Strip(t, [a, *b], labels) for t, a, b in zip(titles, shown, rows, strict=True)]
    )


def guidance(context: GalleryContext) -> Image.Image:
    """Figure 9: guidance scales of unCLIP, and of the decoder with the caption alone (GLIDE)."""
    strips, scales = [], context.swept(SCALES)
    for prior, title in ((None, "unCLIP"), ("none", "caption only")):
        for prompt in context.swept(GUIDED):
            row = []
            for scale in scales:
                outputs = api.sample(
                    context.model, prompt, num=2, guidance=scale, prior=prior, **context.options
                )
                row += list(outputs)
            labels = [f"scale {scale:g}" for scale in scales for _ in range(2)]
            strips.append(Strip(f"{title}: {prompt}", row, labels))
    return labeled_strips(strips)


def fillings(context: GalleryContext) -> Image.Image:
    """Inpainting, a feature of the paper's production model: the right half is filled."""
    strips = []
    for number, (name, prompt) in enumerate(context.swept(FILLED)):
        images, titles = context.pool.pick([name], first=number)
        shown = context.shown(images)
        mask = np.zeros(shown.shape[:3], bool)
        mask[:, :, context.size // 2 :] = True
        outputs = api.inpaint(context.model, shown, mask, prompt, num=5, **context.options)
        hidden = np.where(mask[0][..., None], np.uint8(190), shown[0])
        labels = ["input", "kept part", *["filled"] * 5]
        strips.append(
            Strip(f"{titles[0]}, filled as: {prompt}", [shown[0], hidden, *outputs], labels)
        )
    return labeled_strips(strips)


FIGURES: Mapping[str, tuple[str, Callable[[GalleryContext], Any]]] = {
    "fig3_variations.png": (
        "Variations (paper, figure 3): the input, its DDIM reconstruction from the inverted latent "
        "(eta 0), and variations with the same image embedding, freer as eta grows. At eta 1 they "
        "show what the decoder reads from the embedding alone.",
        variations,
    ),
    "fig4_interpolations.png": (
        "Interpolations (figure 4): of both latents, so that the ends reconstruct the inputs; and "
        "of the embeddings alone, with one fixed noise.",
        interpolations,
    ),
    "fig5_text_diffs.png": (
        "Text diffs (figure 5): the embedding is rotated toward the difference of two texts, with "
        "the inverted noise fixed; theta 0 reconstructs the input.",
        text_diffs,
    ),
    "fig6_typographic.png": (
        "The typographic attack (figure 6): CLIP's zero-shot probabilities without and with a "
        "written word, and the decoder's variations.",
        typographic,
    ),
    "fig7_components.png": (
        "Reconstructions from the first principal components of the embedding (figure 7), with one "
        "fixed noise.",
        components,
    ),
    "fig9_guidance.png": (
        "Guidance scales (figure 9) of the whole model, and of the decoder with the caption alone.",
        guidance,
    ),
    "inpainting.png": (
        "Inpainting: kept pixels are unchanged; the caption describes the whole image.",
        fillings,
    ),
}


def write_gallery(
    folder: Path, model: Bundle, settings: Settings, recorded: Mapping[str, Any]
) -> tuple[dict[str, Any], str]:
    """Writes all figures, README.md and gallery.json; returns the JSON object and the README."""
    size = settings.sample_size or decoder_size(model)
    seen = max(size, settings.clip(model).image_size, 64)
    context = GalleryContext(model, settings, load_pool(settings, model, seen), size)
    result = {"suite": "gallery", "figures": {}, "settings": dict(recorded)}
    lines = [f"# Gallery of the bundle {model.name}", ""]
    if settings.smoke:
        lines += [WARNING, ""]
    lines += [f"`unclip eval --suite gallery`, {size} pixels, seed {settings.seed}.", ""]
    for name, (text, draw) in FIGURES.items():
        try:
            drawn = draw(context)
        except UserError as error:
            if draw is not components:
                raise
            lines += [f"No {name}: {error}.", ""]
            continue
        image, facts = drawn if isinstance(drawn, tuple) else (drawn, {})
        image.save(folder / name, optimize=True)
        result["figures"][name] = {"about": text, **facts}
        lines += [text, "", f"![{name.split('.')[0]}]({name})", ""]
    readme = "\n".join(lines)
    (folder / "README.md").write_text(readme, encoding="utf-8")
    if settings.smoke:
        result["note"] = WARNING
    text = json.dumps(result, ensure_ascii=False, indent=1)
    (folder / "gallery.json").write_text(text + "\n", encoding="utf-8")
    return result, readme
