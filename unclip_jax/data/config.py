"""What a run trains on and how it is shown."""

import dataclasses

from unclip_jax.data import bsr, images


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
            raise ValueError(f'{self.captions=} must be "random" or "first"')
        if not (0 <= self.zoom < 1 and 0 <= self.shift < 1 and self.image_size > 0):
            raise ValueError(
                f"{self.zoom=} and {self.shift=} lie in [0, 1), {self.image_size=} > 0"
            )
        if self.focus_times < 1:
            raise ValueError(f"{self.focus_times=} must be at least 1")
        if not 0 <= self.window <= self.image_size:
            raise ValueError(f"{self.window=} must lie in 0..{self.image_size=}")
        if self.degrade != "none" and (self.window or self.image_size) % (2 * bsr.FACTOR):
            raise ValueError(
                f"{self.degrade=} needs a window or image_size that is a multiple of "
                f"{2 * bsr.FACTOR}"
            )
