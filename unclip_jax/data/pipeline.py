"""From a source to batches: a grain MapDataset whose item k is batch k.

Batch k is a pure function of (seed, k). Its randomness (order, captions, crops) is drawn for the
whole batch and each process takes its rows of it, so 1, 2 or 4 see the same global batches. The
state of an iterator is that of the batch last handed out, however much has been prefetched. Whole
batches are built per item because grain's cost per element would outweigh the work for small
pictures.
"""

import dataclasses
from typing import Protocol, runtime_checkable

import grain
import numpy as np
from jaxtyping import Bool, Int32, Int64, Integer, UInt8
from PIL import Image

from unclip_jax.core.errors import UserError
from unclip_jax.data import bsr, images
from unclip_jax.data.config import DataConfig
from unclip_jax.data.sources import Source, load_source, matching, select

ENDLESS = 2**40  # batches; more than any run
_TABLE_LIMIT = 500_000  # examples up to which all captions are tokenised beforehand
_KEY_MASK = 2**64 - 1
_WINDOW = 0x57494E444F57  # sets the windows' keys apart from the batches'


<<<<<<< HEAD
@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What to train on and how it is shown.

    Attributes:
        name: prepared set (name or folder), or "shapes", "shapes:size=32,count=500".
        split: split of it; several joined by "+".
        image_size: side of the pictures, in pixels.
        resize: filter for shrinking; both prevent aliasing.
        crop: how pictures that are not square become so; "random" differs from epoch to epoch.
        concepts: "all", "common", "no_flags", or labels joined by ", ".
        styles: styles to keep; empty keeps all.
        focus_concepts, focus_styles: of what is kept, what is shown more often; written as above.
        focus_times: how often an epoch shows those examples, the others once.
        captions: "random" draws one of an example's captions each time, "first" takes the first.
        zoom: largest relative zoom in or out, on white ground; 0 is off.
        shift: largest displacement as a share of the side, on white ground; 0 is off.
        window: side in pixels of the square cut out of a picture at random; 0 is all of it.
        degrade: also make the picture's quarter-size low-res version, "low_res" ("bsr",
            "bsr_light"; data/bsr.py).
        shuffle: whether each epoch has its own order.
        cache_bytes: pictures are kept resized in memory if all of them fit into this.
        threads: threads that build batches.
        prefetch: batches built ahead.
        embeddings: store of embeddings (`unclip embed`) to train a prior on in place of the
            pictures (store_pipeline.py); empty reads the pictures.
    """

    name: str = "emoji"
    split: str = "train"
    image_size: int = 64
    resize: images.Resize = "area"
    crop: images.Crop = "pad"
    concepts: str = "all"
    styles: tuple[str, ...] = ()
    focus_concepts: str = "all"
    focus_styles: tuple[str, ...] = ()
    focus_times: int = 1
    captions: str = "random"
    zoom: float = 0.0
    shift: float = 0.0
    window: int = 0
    degrade: bsr.Degradation = "none"
    shuffle: bool = True
    cache_bytes: int = 2 * 2**30
    threads: int = 2
    prefetch: int = 4
    embeddings: str = ""

    def __post_init__(self):
        """Checks what can be checked without the data."""
        if self.captions not in ("random", "first"):
            raise ValueError(f'captions={self.captions!r} must be "random" or "first"')
        if not (0 <= self.zoom < 1 and 0 <= self.shift < 1 and self.image_size > 0):
            raise ValueError(
                f"zoom={self.zoom} and shift={self.shift} lie in [0, 1), "
                f"image_size={self.image_size} > 0"
            )
        if self.focus_times < 1:
            raise ValueError(f"focus_times={self.focus_times} must be at least 1")
        if not 0 <= self.window <= self.image_size:
            raise ValueError(f"window={self.window} must lie in 0..image_size={self.image_size}")
        if self.degrade != "none" and (self.window or self.image_size) % (2 * bsr.FACTOR):
            raise ValueError(
                f"degrade={self.degrade!r} needs a window or image_size that is a multiple of "
                f"{2 * bsr.FACTOR}"
            )


=======
>>>>>>> 4a841de (SAM's temperature can leave its ceiling; a smooth variance table; defaults of configs from the dataclasses; no states planned that nobody reads)
@runtime_checkable
class TokenBlock(Protocol):
    """What a tokenizer returns."""

    tokens: Int32[np.ndarray, "n ctx"]
    mask: Bool[np.ndarray, "n ctx"]


@runtime_checkable
class Encoder(Protocol):
    """What the pipeline needs of a tokenizer."""

    def encode(self, texts: list[str]) -> TokenBlock:
        """Tokenises captions to one length."""
        ...


def open_source(cfg: DataConfig) -> Source:
    """Opens the source a config names, restricted to its concepts and styles."""
    return select(load_source(cfg.name, cfg.split), concepts=cfg.concepts, styles=cfg.styles)


def make_pipeline(
    source: Source,
    cfg: DataConfig,
    *,
    tokenizer: Encoder,
    batch_size: int,
    seed: int,
    rows: Integer[np.ndarray, " b"] | None = None,
) -> grain.DatasetIterator:
    """Makes the endless iterator of this process's share of the batches.

    It yields {"image": uint8 [b, s, s, 3], "tokens": int32 [b, ctx], "mask": bool [b, ctx],
    "index": int64 [b], "example": int64 [b]} with b = len(rows); `index` counts
    what was shown, `example` is the place in the source; "low_res" comes beside them if the config
    degrades. It has get_state() and set_state().
    """
    batches = make_batches(
        source,
        cfg,
        tokenizer=tokenizer,
        batch_size=batch_size,
        seed=seed,
        rows=rows,
    )
    return start_iterator(batches, cfg)


def start_iterator(batches: grain.MapDataset, cfg: DataConfig) -> grain.DatasetIterator:
    """Returns the iterator over batches, built ahead by threads; its state is its place."""
    options = grain.ReadOptions(num_threads=cfg.threads, prefetch_buffer_size=cfg.prefetch)
    return iter(batches.to_iter_dataset(options))


def endless_order(epoch: grain.MapDataset, cfg: DataConfig, seed: int) -> grain.MapDataset:
    """Repeats an epoch's examples without end, each epoch in an order of its own if so wished."""
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
) -> grain.MapDataset:
    """Makes the random-access data set whose item k is this process's share of batch k.

    Args:
        source: already restricted to what is wanted (`open_source`).
        batch_size: of all processes together.
        rows: those of every global batch that are wanted here; None is all of them.
    """
    if len(source) == 0:
        raise UserError(f"data set {cfg.name!r} split {cfg.split!r} is empty")
    return grain.MapDataset.source(
        _Batches(
            order=endless_order(grain.MapDataset.source(_epoch(source, cfg)), cfg, seed),
            pictures=_Pictures(source, cfg),
            texts=_Texts(source, tokenizer),
            cfg=cfg,
            batch_size=batch_size,
            seed=seed,
            rows=np.arange(batch_size) if rows is None else rows,
        )
    )


def _epoch(source: Source, cfg: DataConfig) -> Int64[np.ndarray, " n"]:
    """Returns the examples of an epoch before shuffling: all, then the focus once more and more."""
    every = np.arange(len(source))
    if cfg.focus_times == 1:
        return every
    focus = matching(source, concepts=cfg.focus_concepts, styles=cfg.focus_styles)
    return np.concatenate([every, np.tile(focus, cfg.focus_times - 1)])


@dataclasses.dataclass
class _Batches:
    """Random access to batches; see the module's text for what is drawn how."""

    order: grain.MapDataset
    pictures: "_Pictures"
    texts: "_Texts"
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
        examples = [int(self.order[int(i)]) for i in index]
        pick = draws[:, 0] if self.cfg.captions == "random" else np.zeros(len(examples))
        tokens, mask = self.texts.get(examples, pick)
        size = self.cfg.image_size
        image = np.empty((len(examples), size, size, 3), np.uint8)
        for row, (example, draw) in enumerate(zip(examples, draws[:, 1:], strict=True)):
            image[row] = self.pictures.get(example, draw)
        example = np.asarray(examples, np.int64)
        made = {"image": image, "tokens": tokens, "mask": mask, "index": index, "example": example}
        return made | self._windows(image, index)

    def _windows(self, image: np.ndarray, index: np.ndarray) -> dict[str, np.ndarray]:
        """Cuts the windows out and degrades them, by a generator for each picture shown."""
        cfg = self.cfg
        if not cfg.window and cfg.degrade == "none":
            return {}
        side = cfg.window or cfg.image_size
        cut, low_res = [], []
        for picture, number in zip(image, index, strict=True):
            key = [(self.seed ^ _WINDOW) & _KEY_MASK, int(number)]
            rng = np.random.Generator(np.random.Philox(key=key))
            top, left = rng.integers(0, cfg.image_size - side + 1, size=2)
            cut.append(picture[top : top + side, left : left + side])
            if cfg.degrade != "none":
                low_res.append(bsr.degrade(cut[-1], cfg.degrade, rng))
        return {"image": np.stack(cut)} | ({"low_res": np.stack(low_res)} if low_res else {})


class _Pictures:
    """Pictures at the training size; decoded and resized once where all of them fit in memory."""

    def __init__(self, source: Source, cfg: DataConfig):
        self._source, self._cfg = source, cfg
        self._moves = cfg.zoom > 0 or cfg.shift > 0
        # Moving a picture resamples it: it is kept at twice the size, so that it stays sharp.
        self._side = cfg.image_size * (2 if self._moves else 1)
        wanted = len(source) * self._side**2 * 3
        self._cache, self._filled = None, None
        if cfg.crop != "random" and wanted <= cfg.cache_bytes:
            self._cache = np.empty((len(source), self._side, self._side, 3), np.uint8)
            self._filled = np.zeros(len(source), bool)

    def get(self, example: int, draw: np.ndarray) -> UInt8[np.ndarray, "s s 3"]:
        """Returns a picture; `draw` holds four numbers in [0, 1): zoom, shift x, shift y, crop."""
        picture = self._square(example, draw[3])
        return self._moved(picture, draw) if self._moves else picture

    def _square(self, example: int, offset: float) -> UInt8[np.ndarray, "s s 3"]:
        if self._cache is not None and self._filled[example]:
            return self._cache[example]
        cfg = self._cfg
        image = self._source[example]["image"]
        picture = images.to_square(
            image, self._side, crop=cfg.crop, resize=cfg.resize, offset=float(offset)
        )
        if self._cache is not None:
            self._cache[example] = picture
            self._filled[example] = True  # after the pixels: another thread may look meanwhile
        return picture

    def _moved(self, picture: np.ndarray, draw: np.ndarray) -> UInt8[np.ndarray, "s s 3"]:
        """Shows a window of the picture on endless white, zoomed and shifted."""
        cfg, side = self._cfg, self._side
        zoom = 1.0 + cfg.zoom * (2 * draw[0] - 1)
        shift = cfg.shift * side * (2 * draw[1:3] - 1)
        window = side / zoom
        margin = int(np.ceil(max(0.0, (window - side) / 2) + abs(shift).max())) + 1
        ground = Image.new("RGB", (side + 2 * margin,) * 2, images.WHITE)
        ground.paste(Image.fromarray(picture), (margin, margin))
        left, top = margin + (side - window) / 2 - shift
        box = (left, top, left + window, top + window)
        size = (cfg.image_size, cfg.image_size)
        return np.asarray(ground.resize(size, images.FILTERS[cfg.resize], box=box))


class _Texts:
    """Tokenised captions: all of them beforehand, or batch by batch for very large sets."""

    def __init__(self, source: Source, tokenizer: Encoder):
        self._source, self._tokenizer, self._table = source, tokenizer, None
        if len(source) <= _TABLE_LIMIT:
            self._table = self._tokenise()

    def get(
        self, examples: list[int], pick: np.ndarray
    ) -> tuple[Int32[np.ndarray, "b ctx"], Bool[np.ndarray, "b ctx"]]:
        """Returns tokens and mask of one caption an example, at `pick` in [0, 1) of its list."""
        if self._table is None:
            lists = [self._source.info(e)["captions"] for e in examples]
            chosen = [c[int(p * len(c))] for c, p in zip(lists, pick, strict=True)]
            block = self._tokenizer.encode(chosen)
            return np.asarray(block.tokens, np.int32), np.asarray(block.mask, bool)
        tokens, mask, ids, starts = self._table
        first = starts[examples]
        count = starts[np.asarray(examples) + 1] - first
        rows = ids[first + (pick * count).astype(np.int64)]
        return tokens[rows], mask[rows]

    def _tokenise(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, Int64[np.ndarray, " n"]]:
        """Builds tokens, mask, the caption ids of all examples in a row, and where each starts."""
        known: dict[str, int] = {}
        ids, starts = [], [0]
        for example in range(len(self._source)):
            captions = self._source.info(example)["captions"]
            if not captions:
                raise UserError(f"example {example} has no caption")
            ids += [known.setdefault(caption, len(known)) for caption in captions]
            starts.append(len(ids))
        block = self._tokenizer.encode(list(known))
        tokens, mask = np.asarray(block.tokens, np.int32), np.asarray(block.mask, bool)
        return tokens, mask, np.asarray(ids, np.int64), np.asarray(starts, np.int64)
