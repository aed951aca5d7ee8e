"""The images and captions that a suite measures on, as arrays."""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from unclip_jax import api
from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.errors import UserError
from unclip_jax.core.prng import root_key
from unclip_jax.data.images import to_square, to_uint8
from unclip_jax.data.sets.captions import STYLE_WORDS
from unclip_jax.data.sources import load_source, select
from unclip_jax.evals.settings import SMOKE_IMAGES, Settings
from unclip_jax.sampling.encode import fit_to_tower
from unclip_jax.sampling.latents import squares


@dataclasses.dataclass(frozen=True)
class Examples:
    """A split: images of one size, each with its captions, concept and style."""

    images: UInt8[np.ndarray, "n s s 3"]
    captions: tuple[tuple[str, ...], ...]
    concepts: tuple[str, ...]
    styles: tuple[str, ...]

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self.images)

    def take(self, indices: Sequence[int] | np.ndarray) -> "Examples":
        """Returns the examples at `indices`, in that order."""
        return Examples(
            images=self.images[np.asarray(indices, np.int64)],
            captions=tuple(self.captions[i] for i in indices),
            concepts=tuple(self.concepts[i] for i in indices),
            styles=tuple(self.styles[i] for i in indices),
        )


def as_seen(model: Bundle | None, image: UInt8[np.ndarray, "h w 3"], size: int) -> np.ndarray:
    """Returns an image as the square that a bundle sees; at CLIP's own size, its tower's input.

    Thus the result has the same z_i as the whole image. Without a model the image is padded.
    """
    if model is None:
        return to_square(image, size)
    cfg = model.clip.spec.model
    if cfg.vision is not None and cfg.vision.image_size == size:
        return to_uint8(fit_to_tower(cfg, image))
    return squares([image], size, cfg.resize)[0]


def load_examples(
    settings: Settings,
    split: str,
    *,
    size: int,
    model: Bundle | None = None,
    limit: int | None = None,
) -> Examples:
    """Loads the selected subset of a split, at `size` pixels.

    Args:
        model: bundle that will see the images, None for padded squares; see `as_seen`.
        limit: maximum number of images, drawn with the settings' seed; None for all.
    """
    source = load_source(settings.data, split)
    source = select(source, concepts=settings.concepts, styles=settings.styles)
    if len(source) == 0:
        raise UserError(f"data set {settings.data!r} has no images in its split {split!r}")
    if settings.smoke:  # of the training images too, which have no limit
        limit = min(limit or SMOKE_IMAGES, SMOKE_IMAGES)
    indices = np.arange(len(source))
    if limit is not None and limit < len(source):
        rng = np.random.default_rng(settings.seed)
        indices = np.sort(rng.permutation(len(source))[:limit])
    records = []
    images = np.empty((len(indices), size, size, 3), np.uint8)
    for row, index in enumerate(indices):
        if settings.report is not None and row % 100 == 0:
            settings.report(f"reading {split}", row, len(indices))
        record = source[int(index)]
        images[row] = as_seen(model, record["image"], size)
        records.append((tuple(record["captions"]), record["concept"], record["style"]))
    captions, concepts, styles = zip(*records, strict=True)
    return Examples(images, captions, concepts, styles)


def merge(parts: Sequence[Examples]) -> Examples:
    """Concatenates sets of images of one size."""
    lists = ("captions", "concepts", "styles")
    joined = {name: sum((getattr(part, name) for part in parts), ()) for name in lists}
    return Examples(np.concatenate([part.images for part in parts]), **joined)


def load_splits(
    settings: Settings,
    splits: Sequence[str],
    *,
    size: int,
    model: Bundle | None = None,
    limit: int | None = None,
) -> Examples:
    """Loads several splits, in order, as one; `limit` applies to all of them together."""
    parts = [load_examples(settings, split, model=model, size=size) for split in splits]
    whole = merge(parts)
    if limit is None or limit >= len(whole):
        return whole
    rng = np.random.default_rng(settings.seed)
    return whole.take(np.sort(rng.permutation(len(whole))[:limit]))


def sample_prompts(
    model: Bundle, prompts: Sequence[str], settings: Settings
) -> UInt8[np.ndarray, "n s s 3"]:
    """Samples one image a prompt, by the seed, with the prior and at the size of the settings."""
    images = api.sample(
        model,
        prompts,
        key=root_key(settings.seed),
        prior=settings.prior,
        size=settings.sample_size,
        progress=settings.report,
    )
    return np.asarray(images)


def names_style(caption: str, style: str) -> bool:
    """Whether a caption names the style: "a 3d emoji of fire", not "a 3d glasses case"."""
    words = STYLE_WORDS.get(style, (style,) if style else ())
    return any(re.search(rf"\b{re.escape(word)}\b", caption) for word in words)


def main_captions(examples: Examples) -> list[str]:
    """Picks one caption per image: the first that names its style, else the first."""
    chosen = []
    for captions, style in zip(examples.captions, examples.styles, strict=True):
        named = [caption for caption in captions if names_style(caption, style)]
        chosen.append((named or list(captions))[0])
    return chosen


def resized(images: UInt8[np.ndarray, "n h w 3"], size: int) -> UInt8[np.ndarray, "n s s 3"]:
    """Resizes square images to `size` pixels, shrinking by area."""
    if images.shape[1] == size:
        return images
    return np.stack([to_square(image, size) for image in images])
