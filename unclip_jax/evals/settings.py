"""What a suite measures with: data, effort, the evaluation CLIP, progress."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Int

from unclip_jax.checkpoint.bundle import Bundle, clip_digests
from unclip_jax.core.batching import map_batches
from unclip_jax.core.errors import UserError
from unclip_jax.evals.clip_encoder import ClipEncoder, counted
from unclip_jax.sampling.monitor import Progress

JUDGING = (
    *("samples", "combinations", "prompts", "priors", "edits", "reconstruction", "aesthetics"),
    *("fidelity", "guidance"),
)
"""Suites that judge images by the evaluation CLIP."""
OWN_BY_DEFAULT = ("priors", "edits", "fidelity", "guidance")
"""Those that take the model's own CLIP where no other is given."""
OWN_CLIP = (
    "the evaluation CLIP is the model's own: metrics of a CLIP that judges its own model favor it; "
    "pass another as --eval-clip"
)
SMOKE_IMAGES = 8  # of every split, in a smoke run
SMOKE_LEVELS = 3  # of every inversion
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Data and effort of a suite.

    Attributes:
        data: name or folder of the data set.
        concepts, styles: the selected subset, as in a training config's data section; a model
            trained on a subset is measured on that subset.
        splits: held-out splits; suites that use only one take the last.
        eval_clip: bundle of an independently trained CLIP; required by `samples`,
            `combinations`, `prompts`, `reconstruction` and `aesthetics`, recommended for `edits`.
        baseline: bundle that the model is compared with; None for none.
        lpips: network of LPIPS and its files, for `reconstruction`; None to leave it out.
        scales: guidance scales of a sweep.
        ratings: table of images and ratings of the suite `aesthetics`.
        answers: files of raters' answers to the page of `preference`.
        limit: maximum number of images per split; None for all.
        prompts: number of prompts to sample.
        prompts_file: list of prompts of the suite `prompts`.
        batch: examples per call of a network.
        sample_size: height and width in pixels of the samples; None for the bundle's default, or
            the decoder's size where embeddings are decoded.
        image_folder: where a suite writes its images; None to write none.
        guidance: of the samples of `fidelity`; None for the bundle's.
        prior: where the model's samples have their z_i from, as in `SampleSettings`; a baseline has
            its own.
        features: in which `fidelity` and `guidance` compare sets of images; see `load_features`.
        cache: folder in which a suite keeps what a rerun needs not make again; None for memory.
        pca: PCA file for the gallery; None for the bundle's.
        smoke: whether the least is done that still runs a suite's code; see smoke.py.
        report: called as report(what, done, total) while a suite works.
        count: called as count(done, total, unit) with how much of all samples is done.
        note: called with what a reader of the report has to know, in one line.
    """

    data: str
    concepts: str = "all"
    styles: tuple[str, ...] = ()
    splits: tuple[str, ...] = ("test_concepts", "test_combinations")
    eval_clip: Bundle | None = None
    baseline: Bundle | None = None
    lpips: str | None = None
    scales: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0)
    ratings: Path | str | None = None
    answers: tuple[Path | str, ...] = ()
    limit: int | None = None
    prompts: int = 200
    prompts_file: Path | str | None = None
    batch: int = 32
    seed: int = 0
    sample_size: int | None = None
    guidance: float | None = None
    prior: str | None = None
    features: str = "clip"
    cache: Path | None = None
    pca: str | None = None
    image_folder: Path | None = None
    smoke: bool = False
    report: Progress | None = None
    count: Callable[[int, int, str], None] | None = None
    note: Callable[[str], None] | None = None

    def say(self, text: str) -> None:
        """Notes something for the reader of the report, if there is one."""
        if self.note is not None:
            self.note(text)

    def say_fewer(self, found: int, where: str) -> None:
        """Notes that there are fewer prompts than were asked for, where that is so."""
        if found < self.prompts:
            self.say(f"{where}: {found:,} captions, fewer than --prompts, {self.prompts:,}")

    def swept(self, values: Sequence[T], count: int = 2) -> Sequence[T]:
        """Returns the values that a suite goes through; of a smoke run the first `count`."""
        return values[:count] if self.smoke else values

    @property
    def inverting(self) -> dict[str, int]:
        """The levels of an inversion as options of a call: none, but few in a smoke run."""
        return {"invert_steps": SMOKE_LEVELS} if self.smoke else {}

    def judged_by_itself(self, suite: str, model: Bundle) -> bool:
        """Whether a suite that judges images does so by the CLIP that the model was trained with.

        It is the same CLIP if its parameters are, whatever its bundle is called.
        """
        if suite not in JUDGING or "clip" not in model.stages:
            return False
        if self.eval_clip is None:
            return suite in OWN_BY_DEFAULT
        if "clip" not in self.eval_clip.stages:
            return False
        return not clip_digests(model).isdisjoint(clip_digests(self.eval_clip))

    def comparing(self, suite: str, models: Sequence[Bundle]) -> "Settings":
        """Returns settings by which one CLIP judges all models: the first's where none is given.

        Distances in the spaces of different networks are no row of a table.
        """
        if len(models) < 2 or self.eval_clip is not None or suite not in OWN_BY_DEFAULT:
            return self
        return dataclasses.replace(self, eval_clip=models[0])

    def judging_notes(self, suite: str, models: Sequence[tuple[str, Bundle]]) -> list[str]:
        """Returns a line for each model, by its name, that its own CLIP judges."""
        own = [name for name, model in models if self.judged_by_itself(suite, model)]
        return [OWN_CLIP if len(models) == 1 else f"{name}: {OWN_CLIP}" for name in own]

    def judge(self, suite: str) -> ClipEncoder:
        """Returns the evaluation CLIP of a suite that cannot do without an independent one."""
        if self.eval_clip is None:
            raise UserError(f"suite {suite} needs an independent CLIP; pass --eval-clip BUNDLE")
        return self.clip(self.eval_clip)

    def clip(self, bundle: Bundle) -> ClipEncoder:
        """Returns the CLIP of a bundle, reporting as these settings say."""
        return ClipEncoder(bundle, self.report)

    def map_batches(
        self, function: Callable[[Int[np.ndarray, " b"]], Any], total: int, what: str
    ) -> Any:
        """Concatenates function(rows) over batches of the rows 0 … total - 1, reporting progress.

        The last batch is filled by repeating its last row, whose results are cut off.
        """
        report = counted(self.report, what, total)
        rows = lambda batch: function(np.asarray(batch))  # noqa: E731
        return map_batches(rows, range(total), self.batch, report=report)
