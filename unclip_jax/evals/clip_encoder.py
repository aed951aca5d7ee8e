"""The CLIP of a bundle as the suites use it: raw embeddings of whole sets, with progress."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, UInt8

from unclip_jax import api
from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.batching import map_batches
from unclip_jax.core.errors import UserError
from unclip_jax.sampling.monitor import Progress

CAPTIONS, IMAGES = 512, 1024  # per call; more would only take memory


@dataclasses.dataclass(frozen=True)
class ClipEncoder:
    """Embeds images and captions with a bundle's CLIP.

    Attributes:
        report: called as report(what, done, total) before each call of the CLIP; None for no
            progress.
    """

    bundle: Bundle
    report: Progress | None = None

    @property
    def image_size(self) -> int:
        """Returns the height and width in pixels of the CLIP's input."""
        vision = self.bundle.clip.spec.model.vision
        if vision is None:
            raise UserError(f"the CLIP of bundle {self.bundle.name!r} has no image tower")
        return vision.image_size

    def images(self, images: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n d"]:
        """Returns the raw embeddings z_i of images of one shape."""
        report = counted(self.report, "embedding images", len(images))
        embed = lambda rows: api.embed_image(self.bundle, images[np.asarray(rows)])  # noqa: E731
        return map_batches(embed, range(len(images)), IMAGES, pad=False, report=report)

    def captions(self, captions: Sequence[str]) -> Float[np.ndarray, "n d"]:
        """Returns the raw embeddings z_t of captions, without their text states."""
        report = counted(self.report, "embedding captions", len(captions))
        embed = lambda batch: api.embed_text(self.bundle, batch).text_emb  # noqa: E731
        return map_batches(embed, captions, CAPTIONS, pad=False, report=report)


def counted(report: Progress | None, what: str, total: int) -> Callable[[int], None] | None:
    """Returns a callback that reports a number of `total` examples as done."""
    return None if report is None else lambda done: report(what, done, total)
