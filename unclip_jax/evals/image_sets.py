"""Sets of images, real and sampled, as features: made in chunks, gathered in float64.

A set of any size is never in memory as images. What stays of an image is its features, its CLIP
embedding and a thumbnail; what is summed is summed chunk by chunk, in order.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.errors import UserError
from unclip_jax.core.prng import root_key
from unclip_jax.data.images import to_square
from unclip_jax.data.sources import load_source, select
from unclip_jax.evals.chunks import Arrays, Chunks
from unclip_jax.evals.clip_encoder import ClipEncoder
from unclip_jax.evals.features import Features, clip_recipe
from unclip_jax.evals.metrics import GROUPS
from unclip_jax.evals.settings import Settings
from unclip_jax.models.pca import Moments
from unclip_jax.sampling import parallel
from unclip_jax.sampling.latents import squares
from unclip_jax.sampling.monitor import Monitor
from unclip_jax.sampling.pipeline import Request, generate
from unclip_jax.sampling.settings import Plan

CHUNK = 64  # images
THUMBNAIL = 32  # pixels
SHOWN = 64  # images that are kept whole, for grids


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Images by number, which can be made a few at a time.

    Attributes:
        name: of its chunks.
        count: number of images.
        make: returns the images of a range of numbers.
    """

    name: str
    count: int
    make: Callable[[range], UInt8[np.ndarray, "n s s 3"]]

    @property
    def chunks(self) -> int:
        """Returns the number of chunks."""
        return -(-self.count // CHUNK)


@dataclasses.dataclass(frozen=True)
class RealImages:
    """Real images of some splits: the images, and what is known of each.

    Attributes:
        label: which they are, for `Metric.reference`.
        captions, concepts, styles: of each image.
    """

    images: ImageSet
    label: str
    captions: tuple[tuple[str, ...], ...]
    concepts: tuple[str, ...]
    styles: tuple[str, ...]

    def subset(self, rows: Sequence[int] | np.ndarray, name: str) -> ImageSet:
        """Returns the images at `rows`, in that order, as a set of its own."""
        rows = [int(row) for row in rows]
        pick = lambda numbers: np.concatenate(  # noqa: E731
            [self.images.make(range(rows[i], rows[i] + 1)) for i in numbers]
        )
        return ImageSet(name, len(rows), pick)


def real_images(
    settings: Settings, splits: Sequence[str], model: Bundle, size: int, name: str
) -> RealImages:
    """Opens the selected images of some splits, as squares of `size` pixels.

    An image that is not square is cut to its middle, as COCO's are in the paper's protocol, unless
    the bundle's own images are padded.
    """
    known, where, counts = [], [], []
    sources = []
    for split in splits:
        source = select(
            load_source(settings.data, split), concepts=settings.concepts, styles=settings.styles
        )
        indices = np.arange(len(source))
        if settings.limit is not None and settings.limit < len(source):
            order = np.random.default_rng(settings.seed).permutation(len(source))
            indices = np.sort(order[: settings.limit])
        where += [(len(sources), int(index)) for index in indices]
        known += [source.info(int(index)) for index in indices]
        counts.append(len(indices))
        sources.append(source)
    if not known:
        raise UserError(f"data set {settings.data!r} has no images in {' and '.join(splits)}")
    fit = "pad" if model.clip.spec.model.resize == "pad" else "center_crop"

    def make(numbers: range) -> UInt8[np.ndarray, "n s s 3"]:
        found = [sources[where[i][0]][where[i][1]]["image"] for i in numbers]
        return squares(found, size, fit)

    return RealImages(
        ImageSet(name, len(known), make),
        f"{settings.data} {'+'.join(splits)}, {len(known):,} images",
        captions=tuple(tuple(info["captions"]) for info in known),
        concepts=tuple(info["concept"] for info in known),
        styles=tuple(info["style"] for info in known),
    )


def sampled_images(
    model: Bundle, requests: Sequence[Request], plan: Plan, settings: Settings, name: str
) -> ImageSet:
    """Returns the images of requests as a set; each depends on its request and the seed only."""
    batch = parallel.device_batch(min(CHUNK, len(requests)))

    def make(numbers: range) -> UInt8[np.ndarray, "n s s 3"]:
        if settings.count is not None:
            settings.count(numbers.start, len(requests), "samples")
        chosen, monitor = [requests[i] for i in numbers], Monitor(settings.report)
        root = root_key(settings.seed)
        return np.concatenate(list(generate(model, chosen, root, plan, monitor, batch=batch)))

    return ImageSet(name, len(requests), make)


@dataclasses.dataclass(frozen=True)
class Extractor:
    """What is kept of images: features, the embeddings of a CLIP, thumbnails, the first whole."""

    features: Features
    clip: ClipEncoder

    @property
    def clip_recipe(self) -> str:
        """Returns how images become embeddings, in words for `Metric.recipe`."""
        return clip_recipe(self.clip.bundle)

    def __call__(self, images: UInt8[np.ndarray, "n s s 3"]) -> Arrays:
        """Returns the features by kind, "clip" [n, d] and "small" [n, t, t, 3]."""
        found = {kind: np.asarray(rows) for kind, rows in self.features.extract(images).items()}
        is_same = self.features.name == "CLIP"  # load_features was given this very bundle
        found["clip"] = found["pool"] if is_same else self.clip.images(images)
        return {**found, "small": thumbnails(images)}


def thumbnails(images: UInt8[np.ndarray, "n h w 3"]) -> UInt8[np.ndarray, "n t t 3"]:
    """Returns images of THUMBNAIL pixels, for distances in pixels."""
    return np.stack([to_square(image, THUMBNAIL) for image in images])


def fill(
    chunks: Chunks,
    images: ImageSet,
    extract: Callable[[UInt8[np.ndarray, "n s s 3"]], Arrays],
    settings: Settings,
) -> None:
    """Makes this process's missing chunks of a set; the first SHOWN images are kept whole."""

    def make(number: int) -> Arrays:
        numbers = range(number * CHUNK, min((number + 1) * CHUNK, images.count))
        if settings.report is not None:
            settings.report(f"{images.name} images", numbers.start, images.count)
        pixels = images.make(numbers)
        shown = max(0, min(SHOWN - numbers.start, len(pixels)))
        return {**extract(pixels), "shown": pixels[:shown]}

    chunks.fill(images.name, images.chunks, make)


@dataclasses.dataclass(frozen=True)
class Gathered:
    """A set as numbers.

    Attributes:
        rows: by kind, all rows in order, float32 features and uint8 images.
        groups: of "pool" and of "spatial", where there is one: the moments of GROUPS groups of
            rows.
        member: of each row, its group; None: i % GROUPS, and no group is left out.
    """

    rows: Arrays
    groups: dict[str, list[Moments]]
    member: Int[np.ndarray, " n"] | None = None

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self.rows["small"])

    def moments(self, kind: str = "pool", without: int | None = None) -> Moments:
        """Returns the moments of all rows, or of all but one group's."""
        parts = self.groups[kind]
        return sum_moments(part for group, part in enumerate(parts) if group != without)

    def without(self, group: int | None, kind: str = "pool") -> Float[np.ndarray, "m d"]:
        """Returns the rows of all but one group, or all rows."""
        rows = self.rows[kind]
        return rows if group is None else rows[self.member != group]

    def half(self, parity: int) -> "Gathered":
        """Returns the even rows or the odd ones, of a set whose groups are not left out."""
        if self.member is not None:
            raise ValueError("a set in groups has no halves")
        rows = {kind: rows[parity::2] for kind, rows in self.rows.items()}
        return Gathered(rows, {kind: parts[parity::2] for kind, parts in self.groups.items()})


def gather(
    chunks: Chunks, images: ImageSet, member: Int[np.ndarray, " n"] | None = None
) -> Gathered:
    """Reads all chunks of a set, those of other processes too.

    Args:
        member: of each row, the group with which the jackknife leaves it out.
    """
    group_of = np.arange(images.count) % GROUPS if member is None else member
    parts: dict[str, list[np.ndarray]] = {}
    groups: dict[str, list[Moments]] = {}
    for number, arrays in enumerate(chunks.read_all(images.name, images.chunks)):
        for kind, rows in arrays.items():
            if kind in ("pool", "spatial"):
                known = group_of[number * CHUNK : number * CHUNK + len(rows)]
                mine = [Moments.of(rows[known == group]) for group in range(GROUPS)]
                before = groups.get(kind)
                groups[kind] = mine if before is None else list(map(_add, before, mine))
            if kind != "spatial":  # only its moments are used
                parts.setdefault(kind, []).append(rows)
    return Gathered({kind: np.concatenate(rows) for kind, rows in parts.items()}, groups, member)


def say_compared(settings: Settings) -> None:
    """Reports that all images are made and their statistics begin."""
    if settings.report is not None:
        settings.report("comparing the sets", 0, 0)


def sum_moments(parts: Iterable[Moments]) -> Moments:
    """Returns the moments of several sets together."""
    first, *others = parts
    for part in others:
        first = first + part
    return first


def _add(a: Moments, b: Moments) -> Moments:
    return a + b
