"""What a run trains on and how it is shown."""

import dataclasses

from unclip_jax.core.checks import BELOW_ONE, POSITIVE, check_ranges
from unclip_jax.data import bsr, images

LARGEST = 2**15
"""Side of the largest image, in pixels."""


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What to train on and how it is shown.

    Attributes:
        name: prepared set (name or folder), or "shapes", "shapes:size=32,count=500".
        mix: further sets that are shown in turn with it (the paper's CLIP: two, equally often).
        mix_weights: how often `name` and each of `mix` is shown; empty: all equally often.
        split: split of it; several joined by "+".
        image_size: side of the images, in pixels; a prior's are of its CLIP's size anyway.
        min_side: images whose shorter side (padded ones: longer) has fewer pixels are not shown,
            others are drawn in their place; 0 enlarges them.
        resize: filter for shrinking; both prevent aliasing.
        crop: how images that are not square are made square; "random" differs from epoch to epoch.
        concepts: "all", "common", "no_flags", or labels joined by ", ".
        styles: styles to keep; empty keeps all.
        captions: "random" draws one of an example's captions each time, "first" takes the first.
        zoom: largest relative zoom in or out, on a white background; 0 is off.
        shift: largest displacement as a share of the side, on a white background; 0 is off.
        window: side in pixels of the square cut out of an image at random; 0 is all of it.
        degrade: also make the image's quarter-size low-res version, "low_res" ("bsr",
            "bsr_light"; data/bsr.py).
        shuffle: whether each epoch has its own order.
        cache_bytes: images are kept resized in memory if all of them fit into this.
        threads: threads that build batches.
        prefetch: batches built ahead.
        embeddings: store of embeddings (`unclip embed`) to train a prior on in place of the
            images (store_pipeline.py); empty reads the images.
    """

    name: str = "emoji"
    mix: tuple[str, ...] = ()
    mix_weights: tuple[float, ...] = ()
    split: str = "train"
    image_size: int = 64
    min_side: int = 0
    resize: images.Resize = "area"
    crop: images.Crop = "pad"
    concepts: str = "all"
    styles: tuple[str, ...] = ()
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
        check_ranges(
            self,
            image_size=(1, LARGEST),
            min_side=(0, LARGEST),
            zoom=BELOW_ONE,
            shift=BELOW_ONE,
            window=(0, self.image_size),
            cache_bytes=(0, 2**63 - 1),
            threads=(0, 1024),
            prefetch=(1, 4096),
            mix_weights=POSITIVE,
        )
        count = 1 + len(self.mix)
        if self.mix_weights and len(self.mix_weights) != count:
            raise ValueError(
                f"mix_weights={self.mix_weights} must be {count} numbers, of name and each of mix"
            )
        side = self.window or self.image_size
        if self.degrade != "none" and side % (2 * bsr.FACTOR):
            raise ValueError(
                f"degrade={self.degrade!r} needs a window or image_size that is a multiple of "
                f"{2 * bsr.FACTOR}, not {side}"
            )
