"""Statistics of samples against real images, each next to that of other real images.

A number is called FID only if its features are those of Inception; with those of a CLIP or of
DINOv2 it has their name.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Shaped

from unclip_jax.evals import distributions, metrics
from unclip_jax.evals.image_sets import Gathered
from unclip_jax.evals.metrics import GROUPS, Metric

Measure = Callable[[Gathered, int | None], float]
"""A statistic of a set without one of its groups, or of all of it for None."""

JACKKNIFE_PAIRS = 20_000_000  # pairs of vectors up to which a pairwise statistic is repeated
LEAST = 2 * distributions.DC_NEIGHBORS  # images of a set whose neighborhoods are compared
LEAST_FRECHET = 200  # embeddings of a suite that has one number for them, not a suite of distances
SCORE_SPLITS = 10  # of the Inception score, which fewer images do not have
JACKKNIFE = f"interval: jackknife over {GROUPS} groups of whole concepts"
NAMES = {"CLIP": "_clip", "DINOv2": "_dinov2", "Inception": ""}
"""What follows "frechet" and "kid" in the names of metrics; Inception's Fréchet distance is FID."""
SHARES = {
    "precision": distributions.PR_NEIGHBORS,
    "recall": distributions.PR_NEIGHBORS,
    "density": distributions.DC_NEIGHBORS,
    "coverage": distributions.DC_NEIGHBORS,
}
"""The fields of `distributions.Neighborhoods`, and their number of neighbors."""


def halves(real: Gathered) -> tuple[Gathered, Gathered, str]:
    """Returns the baseline's sets where there are no other real images, and what they are."""
    one, two = real.half(0), real.half(1)
    label = (
        f"one half of them against the other, {len(two):,} images each; these are not the numbers "
        "of the samples' figure, and of fewer images a Fréchet distance is biased further upward"
    )
    return one, two, label


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Sampled and real images, as numbers.

    Attributes:
        real: what the samples are compared with.
        other, against: two sets of real images, for the baseline: as `sampled` with `real`.
        recipe, reference: for `Metric`.
        clip_recipe: in place of `recipe`, of what is measured with the evaluation CLIP.
        score_run: see `Features`.
    """

    sampled: Gathered
    real: Gathered
    other: Gathered
    against: Gathered
    recipe: str
    reference: str
    clip_recipe: str = ""
    score_run: int | None = None

    def metric(
        self, how: str, statistic: Callable[[Gathered], Measure], *, repeats: bool = True
    ) -> Metric:
        """Returns a statistic of the samples with its jackknife interval.

        Args:
            how: the statistic's whole recipe.
            statistic: returns the measure of a set against a set of real images.
            repeats: whether the statistic is cheap enough for an interval.
        """
        measure = statistic(self.real)
        baseline = statistic(self.against)(self.other, None)
        value, low, high = measure(self.sampled, None), None, None
        if repeats and self.sampled.member is not None:
            left_out = np.array([measure(self.sampled, group) for group in range(GROUPS)])
            low, high = metrics.jackknife_interval(value, left_out)
            how += f"; {JACKKNIFE}"
        return Metric(value, low, high, len(self.sampled), baseline, how, self.reference)

    @property
    def is_small(self) -> bool:
        """Whether a statistic of all pairs of vectors is repeated for an interval."""
        return (len(self.sampled) + len(self.real)) ** 2 <= JACKKNIFE_PAIRS


def compare(found: Comparison, features: str) -> dict[str, Metric]:
    """Returns all statistics that the features allow.

    Args:
        features: name of the network.
    """
    return {**distances(found, features), **shares(found)}


def distances(found: Comparison, features: str) -> dict[str, Metric]:
    """Returns Fréchet and kernel distances and CMMD; with Inception, sFID and its score too."""
    suffix = NAMES[features]
    names = {"pool": f"frechet{suffix}" if suffix else "fid", "spatial": "sfid"}
    how = f"Fréchet distance of Gaussians, sample covariances in float64; {found.recipe}"
    results = {
        name: found.metric(how, lambda real, kind=kind: _frechet(real, kind))
        for kind, name in names.items()
        if kind in found.real.groups
    }
    how = f"unbiased cubic MMD^2, mean of 100 subsets of at most 1,000; {found.recipe}"
    results[f"kid{suffix}"] = found.metric(how, _kid, repeats=False)
    how = f"1000 x MMD^2 of unit embeddings, sigma 10; {found.clip_recipe}"
    results["cmmd"] = found.metric(how, _cmmd, repeats=found.is_small)
    sets = (found.sampled, found.other)
    if "logits" in found.sampled.rows and min(map(len, sets)) >= SCORE_SPLITS:
        runs = f"runs of {found.score_run:,} images" if found.score_run else f"{SCORE_SPLITS} runs"
        how = f"mean of {runs} in the order of the prompts; {found.recipe}"
        score = lambda real: lambda images, group: _inception_score(images, found.score_run)  # noqa: E731
        results["inception_score"] = found.metric(how, score, repeats=False)
    return results


def shares(found: Comparison) -> dict[str, Metric]:
    """Returns precision and recall, density and coverage; none for sets that are too small."""
    if min(map(len, (found.sampled, found.real, found.other, found.against))) <= LEAST:
        return {}
    known: dict[tuple[int, int, int | None], distributions.Neighborhoods] = {}

    def share(real: Gathered, name: str) -> Measure:
        def measure(images: Gathered, group: int | None) -> float:
            key = (id(real), id(images), group)
            if key not in known:
                rows = images.without(group)
                known[key] = distributions.neighborhoods(real.rows["pool"], rows)
            return getattr(known[key], name)

        return measure

    return {
        name: found.metric(
            f"balls to neighbor {k}; {found.recipe}",
            lambda real, name=name: share(real, name),
            repeats=found.is_small,
        )
        for name, k in SHARES.items()
    }


def unit_frechet_metric(
    fake: Float[np.ndarray, "n d"],
    real: Float[np.ndarray, "m d"],
    other: Float[np.ndarray, "k d"],
    labels: Shaped[np.ndarray, " n"],
) -> Metric:
    """Returns the Fréchet distance of embeddings scaled to unit length.

    Args:
        other: real embeddings of the baseline, as many as there are fake ones.
        labels: what each fake embedding is of; those of one label are left out together.
    """
    distance = distributions.unit_frechet_from(real)
    value, low, high = distance(fake), None, None
    recipe = f"Fréchet distance of {len(fake):,} unit embeddings"
    member = metrics.jackknife_groups(labels)
    if member is not None:
        left_out = np.array([distance(fake[member != group]) for group in range(GROUPS)])
        low, high = metrics.jackknife_interval(value, left_out)
        recipe += f"; {JACKKNIFE}"
    reference = f"{len(real):,} held-out images; baseline: {len(other):,} images of train"
    return Metric(value, low, high, len(fake), distance(other), recipe, reference)


def _frechet(real: Gathered, kind: str) -> Measure:
    distance = distributions.frechet_from(real.moments(kind))
    return lambda images, group: distance(images.moments(kind, group))


def _kid(real: Gathered) -> Measure:
    rows = real.rows["pool"]
    return lambda images, group: distributions.kernel_distance(rows, images.without(group))[0]


def _cmmd(real: Gathered) -> Measure:
    rows = real.rows["clip"]
    return lambda images, group: distributions.cmmd(rows, images.without(group, "clip"))


def _inception_score(images: Gathered, run: int | None) -> float:
    """Returns the score, which is of one set alone."""
    probabilities = softmax(images.rows["logits"])
    return distributions.inception_score(probabilities, splits=SCORE_SPLITS, run=run)[0]


def softmax(logits: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    """Returns the probabilities of logits, in float64."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
