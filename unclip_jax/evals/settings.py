"""What a measurement is taken with."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.sampling.runner import Progress


@dataclasses.dataclass(frozen=True)
class Settings:
    """Data and effort of a suite.

    Attributes:
        data: name or folder of the data set.
        concepts, styles: the part of the set that counts, as in a training config's data section;
            a model trained on a part is measured on that part.
        splits: held-out splits; suites that use one take the last.
        judge: an independently trained CLIP, which the `samples` suite needs and `edits` should
            have.
        limit: at most this many pictures a split; None = all.
        prompts: how many prompts are sampled.
        batch: examples a call of a network.
        sample_size: pixels of the samples; None = the bundle's default, of decoded embeddings the
            decoder's own.
        pictures: folder for what a suite draws; None draws nothing.
        pca: file of a PCA for the gallery; None = the bundle's.
        report: told what is done and how much of it, while a suite works.
    """

    data: str
    concepts: str = "all"
    styles: tuple[str, ...] = ()
    splits: tuple[str, ...] = ("test_concepts", "test_combinations")
    judge: Bundle | None = None
    limit: int | None = None
    prompts: int = 200
    batch: int = 32
    seed: int = 0
    sample_size: int | None = None
    pca: str | None = None
    pictures: Path | None = None
    report: Progress | None = None

    def starts(self, total: int, what: str) -> Iterator[int]:
        """Yields where each batch of `total` examples begins, and reports the examples done."""
        return starts(total, self.batch, what, self.report)


def starts(total: int, size: int, what: str, report: Progress | None) -> Iterator[int]:
    """Yields where each part of at most `size` examples begins, and reports the examples done."""
    for start in range(0, total, size):
        if report is not None:
            report(what, start, total)
        yield start
