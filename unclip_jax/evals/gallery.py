"""The form of the paper's figures 3, 4, 5, 6, 7 and 9, and of inpainting, with any bundle.

The pictures are those of the data set; where it has those that are asked for by name they are
taken, else its first ones.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from unclip_jax import api
from unclip_jax.checkpoint.bundle import Bundle, require_pca
from unclip_jax.core.errors import UserError
from unclip_jax.core.prng import root_key
from unclip_jax.core.rendering import Strip, labelled_strips
from unclip_jax.data.sources import split_sizes
from unclip_jax.evals.examples import Examples, load_examples, main_captions, merge
from unclip_jax.evals.retrieval import clip_size
from unclip_jax.evals.settings import Settings
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


@dataclasses.dataclass(frozen=True)
class ImagePool:
    """The pictures to choose from, of one size, by "concept/style"."""

    examples: Examples
    splits: tuple[str, ...]

    def find(self, name: str, fallback: int = 0) -> int:
        """Returns the row of a picture by name, else row `fallback`."""
        concept, _, style = name.partition("/")
        named = zip(self.examples.concepts, self.examples.styles, strict=True)
        rows = [row for row, pair in enumerate(named) if pair == (concept, style)]
        return rows[0] if rows else fallback % len(self.examples)

    def pick(self, names: Sequence[str], first: int = 0) -> tuple[np.ndarray, list[str]]:
        """Returns pictures and what to write beside them."""
        rows = [self.find(name, first + place) for place, name in enumerate(names)]
        return self.examples.images[np.asarray(rows)], [self.title(row) for row in rows]

    def title(self, row: int) -> str:
        """Says what a picture is and whether the model was trained on it."""
        seen = "" if self.splits[row] == "train" else " (held out)"
        return f"{self.examples.concepts[row]}, {self.examples.styles[row] or 'plain'}{seen}"


def load_shelf(settings: Settings, model: Bundle, size: int) -> ImagePool:
    """Loads the training pictures and the held-out ones of new combinations."""
    names = [s for s in split_sizes(settings.data) if s == "train" or s == settings.splits[-1]]
    parts = [load_examples(settings, name, model=model, size=size) for name in names]
    splits = sum(((n,) * len(p) for n, p in zip(names, parts, strict=True)), ())
    return ImagePool(merge(parts), splits)


@dataclasses.dataclass(frozen=True)
class GalleryContext:
    """What every figure is drawn with."""

    model: Bundle
    settings: Settings
    shelf: ImagePool
    size: int

    def shown(self, images: np.ndarray) -> np.ndarray:
        """Returns images as the squares that the bundle sees."""
        return squares(images, self.size, image_fit(self.model))

    @property
    def options(self) -> dict[str, Any]:
        """Key, size and progress of every call."""
        seed, report = self.settings.seed, self.settings.report
        return {"key": root_key(seed), "size": self.size, "progress": report}


def variations(room: GalleryContext) -> Image.Image:
    """Figure 3: what the image embedding keeps, and what it leaves open."""
    images, titles = room.shelf.pick(VARIED)
    made = [
        api.vary(room.model, images, eta=eta, num=num, **room.options).reshape(
            len(images), num, room.size, room.size, 3
        )
        for eta, num in ETAS
    ]
    labels = ["input", *(f"eta {eta:g}" for eta, num in ETAS for _ in range(num))]
    rows = zip(titles, room.shown(images), np.concatenate(made, axis=1), strict=True)
    return labelled_strips([Strip(title, [shown, *row], labels) for title, shown, row in rows])


def interpolations(room: GalleryContext) -> Image.Image:
    """Figure 4: between two pictures, along the inverted noise and along fixed noises."""
    strips, frames = [], 8
    for number, pair in enumerate(PAIRS):
        images, titles = room.shelf.pick(pair, first=2 * number)
        ends = room.shown(images)
        labels = ["input A", *(f"{i / (frames - 1):.2f}" for i in range(frames)), "input B"]
        call = functools.partial(
            api.interpolate, room.model, images[:1], images[1:], frames=frames, **room.options
        )
        for title, made in (
            (f"{titles[0]} to {titles[1]}: both latents", call()),
            ("the same with one fixed noise", call(noise="fixed")),
        ):
            strips.append(Strip(title, [ends[0], *made, ends[1]], labels))
    return labelled_strips(strips)


def text_diffs(room: GalleryContext) -> Image.Image:
    """Figure 5: pictures moved toward a text."""
    strips, frames = [], 6
    captions = main_captions(room.shelf.examples)
    for number, (name, source, target) in enumerate(EDITS):
        row = room.shelf.find(name, number)
        if room.shelf.title(row).split(",")[0] != name.split("/")[0]:
            source, target = captions[row], captions[(row + 1) % len(captions)]
        image = room.shelf.examples.images[row][None]
        made = api.edit(room.model, image, target, source=source, frames=frames, **room.options)
        labels = ["input", *(f"theta {i / (frames - 1) / 2:.1f}" for i in range(frames))]
        way = f"to: {target}" if source is None else f"from: {source}   to: {target}"
        shown = room.shown(image)[0]
        strips.append(Strip(f"{room.shelf.title(row)}. {way}", [shown, *made], labels))
    return labelled_strips(strips)


def written_on(image: np.ndarray, word: str) -> np.ndarray:
    """Returns the picture with a white paper on it that bears a word."""
    side = image.shape[0]
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    width = 0.8 * side
    size = 4
    while ImageFont.load_default(size=size + 1).getlength(word) < width - 4:
        size += 1
    font = ImageFont.load_default(size=size)
    box = (0.1 * side, 0.5 * side, 0.9 * side, 0.5 * side + size + 4)
    draw.rectangle(box, fill=(255, 255, 255), outline=(60, 60, 60))
    draw.text((side / 2, (box[1] + box[3]) / 2), word, (20, 20, 20), font, anchor="mm")
    return np.asarray(picture)


def typographic(room: GalleryContext) -> tuple[Image.Image, dict[str, Any]]:
    """Figure 6: does a written word deceive CLIP, and what does the decoder make of it?"""
    name, word, labels = TYPOGRAPHIC
    images, titles = room.shelf.pick([name])
    pair = np.stack([images[0], written_on(images[0], word)])
    probabilities = api.classify(room.model, pair, labels)
    varied = api.vary(room.model, pair, eta=1.0, num=5, **room.options)
    strips, facts = [], {}
    for i, what in enumerate(("plain", f'"{word}" written on it')):
        says = ", ".join(f"{x} {p:.1%}" for x, p in zip(labels, probabilities[i], strict=True))
        facts[what] = {x: float(p) for x, p in zip(labels, probabilities[i], strict=True)}
        row = [room.shown(pair[i : i + 1])[0], *varied[5 * i : 5 * i + 5]]
        strips.append(Strip(f"{titles[0]}, {what}. {says}", row, ["input", *["variation"] * 5]))
    return labelled_strips(strips), facts


def components(room: GalleryContext) -> Image.Image:
    """Figure 7: from the first principal components of the image embedding alone."""
    images, titles = room.shelf.pick(COMPONENTS)
    width = require_pca(room.model, room.settings.pca).width
    dims = tuple(dict.fromkeys(min(count, width) for count in DIMS))
    made = api.reconstruct(room.model, images, dims=dims, pca=room.settings.pca, **room.options)
    rows = made.reshape(len(images), len(dims), *made.shape[1:])
    labels = ["input", *(f"{count} dims" for count in dims)]
    shown = room.shown(images)
    return labelled_strips(
        [Strip(t, [a, *b], labels) for t, a, b in zip(titles, shown, rows, strict=True)]
    )


def guidance(room: GalleryContext) -> Image.Image:
    """Figure 9: guidance scales of unCLIP, and of the caption alone (GLIDE's way)."""
    strips = []
    for prior, title in ((None, "unCLIP"), ("none", "caption only")):
        for prompt in GUIDED:
            row = []
            for scale in SCALES:
                made = api.sample(
                    room.model, prompt, num=2, guidance=scale, prior=prior, **room.options
                )
                row += list(made)
            labels = [f"scale {scale:g}" for scale in SCALES for _ in range(2)]
            strips.append(Strip(f"{title}: {prompt}", row, labels))
    return labelled_strips(strips)


def fillings(room: GalleryContext) -> Image.Image:
    """Inpainting, which the paper's production model had: the right half is made anew."""
    strips = []
    for number, (name, prompt) in enumerate(FILLED):
        images, titles = room.shelf.pick([name], first=number)
        shown = room.shown(images)
        mask = np.zeros(shown.shape[:3], bool)
        mask[:, :, room.size // 2 :] = True
        made = api.inpaint(room.model, shown, mask, prompt, num=5, **room.options)
        hidden = np.where(mask[0][..., None], np.uint8(190), shown[0])
        labels = ["input", "kept", *["filled"] * 5]
        strips.append(Strip(f"{titles[0]}, filled as: {prompt}", [shown[0], hidden, *made], labels))
    return labelled_strips(strips)


FIGURES: Mapping[str, tuple[str, Callable[[GalleryContext], Any]]] = {
    "fig3_variations.png": (
        "Variations (paper, figure 3): the input, rebuilt by DDIM from its inverted latent "
        "(eta 0), and variations that share its image embedding, the freer the larger eta. What "
        "eta 1 shows is what the decoder reads out of the embedding alone.",
        variations,
    ),
    "fig4_interpolations.png": (
        "Interpolations (figure 4): both latents interpolated, so that the ends rebuild the "
        "inputs; and the embeddings alone with one fixed noise.",
        interpolations,
    ),
    "fig5_text_diffs.png": (
        "Text diffs (figure 5): the embedding turned toward the difference of two texts, the "
        "inverted noise held fixed; theta 0 rebuilds the input.",
        text_diffs,
    ),
    "fig6_typographic.png": (
        "The typographic probe (figure 6): zero-shot probabilities of the CLIP without and with a "
        "written word, and the decoder's variations.",
        typographic,
    ),
    "fig7_components.png": (
        "Reconstructions from the first principal components of the embedding (figure 7), one "
        "noise.",
        components,
    ),
    "fig9_guidance.png": (
        "Guidance scales (figure 9) of the whole model, and of the decoder with the caption alone.",
        guidance,
    ),
    "inpainting.png": (
        "Inpainting: kept pixels are the input's own; the caption is of the whole picture.",
        fillings,
    ),
}


def write(
    folder: Path, model: Bundle, settings: Settings, stated: Mapping[str, Any]
) -> dict[str, Any]:
    """Draws all figures into `folder`, with a README.md and gallery.json."""
    size = settings.sample_size or decoder_size(model)
    room = GalleryContext(
        model, settings, load_shelf(settings, model, max(size, clip_size(model), 64)), size
    )
    result = {"suite": "gallery", "figures": {}, "settings": dict(stated)}
    lines = [f"# What the bundle {model.name} makes of pictures", ""]
    lines += [f"`unclip eval --suite gallery`, {size} pixels, seed {settings.seed}.", ""]
    for name, (text, draw) in FIGURES.items():
        try:
            made = draw(room)
        except UserError as error:
            if draw is not components:
                raise
            lines += [f"No {name}: {error}.", ""]
            continue
        picture, facts = made if isinstance(made, tuple) else (made, {})
        picture.save(folder / name, optimize=True)
        result["figures"][name] = {"about": text, **facts}
        lines += [text, "", f"![{name.split('.')[0]}]({name})", ""]
    (folder / "README.md").write_text("\n".join(lines), encoding="utf-8")
    text = json.dumps(result, ensure_ascii=False, indent=1)
    (folder / "gallery.json").write_text(text + "\n", encoding="utf-8")
    return result
