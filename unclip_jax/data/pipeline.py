"""The input pipeline: a grain MapDataset over a source, whose item k is batch k.

Batch k is a pure function of (seed, k). Its randomness (order, captions, crops) is drawn for the
whole batch and each process takes its rows of it, so 1, 2 or 4 processes see the same global
batches. The state of an iterator is that of the last batch it returned, however much has been
prefetched. An item is a whole batch because grain's cost per element would outweigh the work for
small images. A record is read once each time it is shown, and none before the first batch.
"""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple, Protocol, runtime_checkable

import grain
import numpy as np
from jaxtyping import Bool, Int32, Integer, UInt8
from PIL import Image

from unclip_jax.core.errors import UserError
from unclip_jax.data import bsr, images
from unclip_jax.data.config import DataConfig
from unclip_jax.data.sources import (
    Mixture,
    Source,
    load_source,
    select,
    split_sizes,
)

ENDLESS = 2**40  # batches; more than any run takes
SIZE_SAMPLE = 64  # examples from which the share of images below `min_side` is estimated
_TOKEN_CACHE = 100_000  # captions whose tokens are cached
_TRIES = 1000  # examples drawn to replace one below `min_side`
_KEY_MASK = 2**64 - 1
_WINDOW = 0x57494E444F57  # separates the keys of windows from those of batches
_REPLACE = 0x5245504C414345  # likewise, the keys of replacements of images below `min_side`


@runtime_checkable
class TokenBlock(Protocol):
    """What a tokenizer returns."""

    tokens: Int32[np.ndarray, "n ctx"]
    mask: Bool[np.ndarray, "n ctx"]


@runtime_checkable
class Encoder(Protocol):
    """What the pipeline needs of a tokenizer."""

    def encode(self, texts: list[str]) -> TokenBlock:
        """Tokenizes captions to one length."""
        ...


def open_source(cfg: DataConfig, section: str = "data") -> Source:
    """Opens the source that a config names, restricted to its concepts and styles.

    Args:
        section: section of the config that names the split; errors name its flags.

    Raises:
        UserError: there is no such data set, split, concept or style.
    """
    if not cfg.name:
        raise UserError(
            "config.data.name is not set: pass --config.data.name=DIR, a data set made by "
            "unclip data ingest SRC --out DIR"
        )
    source = _open_set(cfg.name, cfg, section)
    if not cfg.mix:
        return source
    part = dataclasses.replace(
        cfg, concepts=cfg.mix_concepts or cfg.concepts, styles=cfg.mix_styles or cfg.styles
    )
    prefix = "mix_" if cfg.mix_concepts or cfg.mix_styles else ""
    others = [_open_set(name, part, section, prefix) for name in cfg.mix]
    return Mixture([source, *others], cfg.mix_weights)


def _open_set(name: str, cfg: DataConfig, section: str, prefix: str = "") -> Source:
    known = list(split_sizes(name))
    if not set(cfg.split.split("+")) <= set(known):
        raise UserError(
            f"data set {name} has no split {cfg.split!r}; it has {', '.join(known)}: pass "
            f"--config.{section}.split={known[-1]}"
        )
    source = load_source(name, cfg.split)
    try:
        return select(source, concepts=cfg.concepts, styles=cfg.styles)
    except UserError as error:
        flags = f'--config.data.{prefix}concepts=all --config.data.{prefix}styles="()"'
        raise UserError(f"data set {name} split {cfg.split}: {error}; pass {flags}") from error


def batch_iterator(batches: grain.MapDataset, cfg: DataConfig) -> grain.DatasetIterator:
    """Iterates over batches, which `cfg.threads` threads prefetch.

    Its get_state() and set_state() save and restore the position.
    """
    options = grain.ReadOptions(num_threads=cfg.threads, prefetch_buffer_size=cfg.prefetch)
    return iter(batches.to_iter_dataset(options))


def endless_order(epoch: grain.MapDataset, cfg: DataConfig, seed: int) -> grain.MapDataset:
    """Repeats the examples endlessly; with `cfg.shuffle` each epoch has its own order."""
    epoch = epoch.shuffle(seed=seed % 2**32) if cfg.shuffle else epoch
    return epoch.repeat()


def make_batches(
    source: Source,
    cfg: DataConfig,
    *,
    tokenizer: Encoder,
    batch_size: int,
    seed: int,
    rows: Integer[np.ndarray, " b"] | None = None,
    clip_size: int | None = None,
) -> grain.MapDataset:
    """Makes the random-access data set whose item k is this process's share of batch k.

    A batch is {"image": uint8 [b, s, s, 3], "tokens": int32 [b, ctx], "mask": bool [b, ctx],
    "index": int64 [b], "example": int64 [b]} with b = len(rows). `index` numbers the examples as
    shown, `example` is the place in the source. "low_res" is added if the config degrades images,
    "clip_image" with `clip_size`.

    Args:
        source: already restricted to the concepts and styles of the config (`open_source`).
        batch_size: of all processes together.
        rows: rows of every global batch that this process needs; None means all.
        clip_size: side of a second array, "clip_image": the same crops of the same images, resized
            from the original to the input size of a CLIP.
    """
    if len(source) == 0:
        raise UserError(f"data set {cfg.name!r} split {cfg.split!r} is empty")
    sizes = (cfg.image_size,) if clip_size is None else (cfg.image_size, clip_size)
    return grain.MapDataset.source(
        _Batches(
            order=_order(source, cfg, seed),
            images=_ImageLoader(source, cfg, sizes),
            tokens=_TokenCache(tokenizer),
            cfg=cfg,
            batch_size=batch_size,
            seed=seed,
            rows=np.arange(batch_size) if rows is None else rows,
        )
    )


def ordered_images(source: Source, cfg: DataConfig) -> Iterator[UInt8[np.ndarray, "s s 3"]]:
    """Yields all images of a source in order, preprocessed without random augmentation."""
    cfg = dataclasses.replace(cfg, min_side=0, cache_bytes=0)
    loader, middle = _ImageLoader(source, cfg, (cfg.image_size,)), np.full(4, 0.5)
    return (loader.load(example, middle).images[0] for example in range(len(source)))


def count_too_small(source: Source, cfg: DataConfig) -> tuple[int, int]:
    """Returns how many of a sample of examples are below `min_side`, and the sample's size."""
    indices = np.unique(np.linspace(0, len(source) - 1, SIZE_SAMPLE).astype(np.int64))
    small = sum(_is_small(source[int(index)]["image"], cfg) for index in indices)
    return small, len(indices)


def _is_small(image: np.ndarray, cfg: DataConfig) -> bool:
    height, width = image.shape[:2]
    return (max(height, width) if cfg.crop == "pad" else min(height, width)) < cfg.min_side


def _order(source: Source, cfg: DataConfig, seed: int) -> grain.MapDataset:
    """Returns the endless order of examples; a mixture's sources take turns by their weights."""
    if not isinstance(source, Mixture):
        return endless_order(grain.MapDataset.range(len(source)), cfg, seed)
    parts = [
        endless_order(grain.MapDataset.range(part.start, part.stop), cfg, seed + number)
        for number, part in enumerate(source.parts)
    ]
    return grain.MapDataset.mix(parts, weights=source.weights)


class _Preprocessed(NamedTuple):
    """An example after preprocessing: the same crop at every size."""

    images: list[np.ndarray]
    captions: tuple[str, ...]


@dataclasses.dataclass
class _Batches:
    """Random access to batches."""

    order: grain.MapDataset
    images: "_ImageLoader"
    tokens: "_TokenCache"
    cfg: DataConfig
    batch_size: int
    seed: int
    rows: np.ndarray

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, batch: int) -> dict[str, np.ndarray]:
        index = np.arange(batch * self.batch_size, (batch + 1) * self.batch_size, dtype=np.int64)
        rng = np.random.Generator(np.random.Philox(key=[self.seed & _KEY_MASK, int(batch)]))
        draws = rng.random((self.batch_size, 5))[self.rows]
        index = index[self.rows]
        pairs = [self._example(int(i), draw[1:]) for i, draw in zip(index, draws, strict=True)]
        example = np.asarray([number for number, _ in pairs], np.int64)
        shown = [one for _, one in pairs]
        pick = draws[:, 0] if self.cfg.captions == "random" else np.zeros(len(shown))
        captions = [
            one.captions[int(p * len(one.captions))] for one, p in zip(shown, pick, strict=True)
        ]
        tokens, mask = self.tokens.encode(captions)
        image = np.stack([one.images[0] for one in shown])
        batch = {"image": image, "tokens": tokens, "mask": mask, "index": index, "example": example}
        if len(shown[0].images) > 1:
            batch["clip_image"] = np.stack([one.images[1] for one in shown])
        return batch | self._windows(image, index)

    def _example(self, number: int, draw: np.ndarray) -> tuple[int, _Preprocessed]:
        """Returns the example shown at `number`, replaced by another if it is below `min_side`.

        The replacement is of the same source and depends on the seed and the number alone.
        """
        example = int(self.order[number])
        shown = self.images.load(example, draw)
        if shown is not None:
            return example, shown
        rng = np.random.Generator(
            np.random.Philox(key=[(self.seed ^ _REPLACE) & _KEY_MASK, number])
        )
        part = self.images.part_of(example)
        for _ in range(_TRIES):
            example = int(rng.integers(part.start, part.stop))
            shown = self.images.load(example, draw)
            if shown is not None:
                return example, shown
        raise UserError(
            f"{_TRIES} images in a row are smaller than config.data.min_side={self.cfg.min_side} "
            "pixels: lower it, or choose another data set"
        )

    def _windows(self, image: np.ndarray, index: np.ndarray) -> dict[str, np.ndarray]:
        """Cuts the windows out and degrades them, with a generator for each image."""
        cfg = self.cfg
        if not cfg.window and cfg.degrade == "none":
            return {}
        side = cfg.window or cfg.image_size
        cut, low_res = [], []
        for shown, number in zip(image, index, strict=True):
            key = [(self.seed ^ _WINDOW) & _KEY_MASK, int(number)]
            rng = np.random.Generator(np.random.Philox(key=key))
            top, left = rng.integers(0, cfg.image_size - side + 1, size=2)
            cut.append(shown[top : top + side, left : left + side])
            if cfg.degrade != "none":
                low_res.append(bsr.degrade(cut[-1], cfg.degrade, rng))
        return {"image": np.stack(cut)} | ({"low_res": np.stack(low_res)} if low_res else {})


class _ImageLoader:
    """Preprocesses images; they are decoded and resized once if all of them fit in memory."""

    def __init__(self, source: Source, cfg: DataConfig, sizes: tuple[int, ...]):
        self._source, self._cfg, self._sizes = source, cfg, sizes
        self._moves = cfg.zoom > 0 or cfg.shift > 0
        # Moving an image resamples it: it is cached at twice the size, so that it stays sharp.
        self._sides = [size * (2 if self._moves else 1) for size in sizes]
        needed = len(source) * sum(side**2 * 3 for side in self._sides)
        self._caches = cfg.crop != "random" and needed <= cfg.cache_bytes
        self._cache: dict[int, _Preprocessed | None] = {}

    def load(self, example: int, draw: np.ndarray) -> _Preprocessed | None:
        """Returns a preprocessed example, None if its image is below `min_side`.

        Args:
            draw: four numbers in [0, 1): zoom, shift x, shift y, crop.
        """
        squares = self._squares(example, draw[3])
        if squares is None or not self._moves:
            return squares
        moved = zip(squares.images, self._sizes, strict=True)
        return squares._replace(images=[self._moved(image, size, draw) for image, size in moved])

    def part_of(self, example: int) -> range:
        """Returns the indices of the source that an example comes from."""
        if isinstance(self._source, Mixture):
            return next(part for part in self._source.parts if example in part)
        return range(len(self._source))

    def _squares(self, example: int, offset: float) -> _Preprocessed | None:
        if example in self._cache:
            return self._cache[example]
        cfg, record = self._cfg, self._source[example]
        if not record["captions"]:
            raise UserError(f"example {example} has no caption")
        fit = {"crop": cfg.crop, "resize": cfg.resize, "offset": float(offset)}
        loaded = None
        if not _is_small(record["image"], cfg):
            squares = [images.to_square(record["image"], side, **fit) for side in self._sides]
            loaded = _Preprocessed(squares, tuple(record["captions"]))
        if self._caches:
            self._cache[example] = loaded
        return loaded

    def _moved(self, image: np.ndarray, size: int, draw: np.ndarray) -> UInt8[np.ndarray, "s s 3"]:
        """Zooms and shifts the image on an endless white background."""
        cfg, side = self._cfg, image.shape[0]
        zoom = 1.0 + cfg.zoom * (2 * draw[0] - 1)
        shift = cfg.shift * side * (2 * draw[1:3] - 1)
        window = side / zoom
        margin = int(np.ceil(max(0.0, (window - side) / 2) + abs(shift).max())) + 1
        canvas = Image.new("RGB", (side + 2 * margin,) * 2, images.WHITE)
        canvas.paste(Image.fromarray(image), (margin, margin))
        left, top = margin + (side - window) / 2 - shift
        box = (left, top, left + window, top + window)
        return np.asarray(canvas.resize((size, size), images.FILTERS[cfg.resize], box=box))


class _TokenCache:
    """Tokenizes captions; the tokens of the first _TOKEN_CACHE captions are cached."""

    def __init__(self, tokenizer: Encoder):
        self._tokenizer = tokenizer
        self._rows: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def encode(
        self, captions: list[str]
    ) -> tuple[Int32[np.ndarray, "b ctx"], Bool[np.ndarray, "b ctx"]]:
        """Returns tokens and mask of captions."""
        rows = {caption: self._rows.get(caption) for caption in captions}
        missing = [caption for caption, row in rows.items() if row is None]
        if missing:
            block = self._tokenizer.encode(missing)
            tokens, mask = np.asarray(block.tokens, np.int32), np.asarray(block.mask, bool)
            new = dict(zip(missing, zip(tokens, mask, strict=True), strict=True))
            rows |= new
            if len(self._rows) + len(new) <= _TOKEN_CACHE:
                self._rows.update(new)
        ordered = [rows[caption] for caption in captions]
        return np.stack([row[0] for row in ordered]), np.stack([row[1] for row in ordered])
