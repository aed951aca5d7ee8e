"""The data section of a training config."""

import dataclasses
from typing import Literal

from unclip_jax.core.checks import BELOW_ONE, COUNT, POSITIVE, check_ranges
from unclip_jax.data import bsr, images

MAX_SIDE = 2**15
"""Side of the largest image, in pixels."""


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which data set to train on, which of its examples, and how images are preprocessed.

    Attributes:
        name: A prepared data set, by name or folder, or procedural shapes: "shapes",
            "shapes:size=32,count=500". It has to be set.
        mix: Further data sets that are sampled together with `name`.
        mix_weights: Sampling weights of `name` and each of `mix`; empty means equal weights.
        mix_concepts: Which concepts of the sets in `mix` to use; empty means `concepts`. Thus a set
            can be mixed with a part of itself, which is then seen more often.
        mix_styles: Which styles of the sets in `mix` to use; empty means `styles`.
        split: Split of the data set; several are joined by "+".
        image_size: Side of the images in pixels. A prior's images have the size of its CLIP.
        min_side: Smallest shorter side in pixels (longer side with crop="pad"); smaller images are
            replaced by others of the same set. 0 upsamples them instead.
        resize: Filter for downsampling; all of them are antialiased.
        crop: How images that are not square are made square; "random" crops anew every epoch.
        concepts: Which concepts to use: "all", "common", "everyday", "no_flags", or labels joined
            by ", ". Only data sets whose examples name a concept can be filtered.
        styles: Which styles to use; empty means all.
        captions: "random" draws one of an example's captions each time, "first" takes the first.
        zoom: Largest relative zoom in or out, on a white background; 0 is off.
        shift: Largest displacement as a share of the side, on a white background; 0 is off.
        window: Side in pixels of a square cut out of the image at random; 0 takes the whole image.
        degrade: Degradation that also makes "low_res", a quarter-size version of the image
            (data/bsr.py).
        shuffle: Whether each epoch has its own random order.
        cache_bytes: Decoded and resized images are kept in memory if all of them fit.
        threads: Number of threads that build batches, in each process.
        prefetch: Number of batches built ahead.
        embeddings: Store of CLIP embeddings (`unclip embed`) to train a prior on instead of images;
            empty reads the images.
        vocab_size: Size of the vocabulary that a CLIP trains on the captions, or that is trained
            for an untrained CLIP (clip="random"); other stages use their CLIP's vocabulary.
    """

    name: str = ""
    mix: tuple[str, ...] = ()
    mix_weights: tuple[float, ...] = ()
    mix_concepts: str = ""
    mix_styles: tuple[str, ...] = ()
    split: str = "train"
    image_size: int = 64
    min_side: int = 0
    resize: images.Resize = "area"
    crop: images.Crop = "pad"
    concepts: str = "all"
    styles: tuple[str, ...] = ()
    captions: Literal["random", "first"] = "random"
    zoom: float = 0.0
    shift: float = 0.0
    window: int = 0
    degrade: bsr.Degradation = "none"
    shuffle: bool = True
    cache_bytes: int = 2 * 2**30
    threads: int = 2
    prefetch: int = 4
    embeddings: str = ""
    vocab_size: int | None = None

    def __post_init__(self):
        """Checks what can be checked without the data."""
        if self.vocab_size == 0:  # how files of earlier versions say that it is not set
            object.__setattr__(self, "vocab_size", None)
        check_ranges(
            self,
            vocab_size=COUNT,
            image_size=(1, MAX_SIDE),
            min_side=(0, MAX_SIDE),
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
        if (self.mix_concepts or self.mix_styles) and not self.mix:
            raise ValueError("mix_concepts and mix_styles are of the sets in mix, which is empty")
        side = self.window or self.image_size
        if self.degrade != "none" and side % (2 * bsr.FACTOR):
            raise ValueError(
                f"degrade={self.degrade!r} needs a window or image_size that is a multiple of "
                f"{2 * bsr.FACTOR}, not {side}"
            )
