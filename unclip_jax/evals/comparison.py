"""Statistics of samples against real images, each next to that of other real images.

A number is called FID only if its features are those of Inception; with those of a CLIP or of
DINOv2 it has their name.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from unclip_jax.evals import distributions, metrics
from unclip_jax.evals.image_sets import GROUPS, Gathered
from unclip_jax.evals.metrics import Metric

Measure = Callable[[Gathered, int | None], float]
"""A statistic of a set without one of its groups, or of all of it for None."""

JACKKNIFE_PAIRS = 20_000_000  # pairs of vectors up to which a pairwise statistic is repeated
LEAST = 2 * distributions.DC_NEIGHBORS  # images of a set whose neighborhoods are compared
NAMES = {"CLIP": "_clip", "DINOv2": "_dinov2", "Inception": ""}
"""What follows "frechet" and "kid" in the names of metrics; Inception's Fréchet distance is FID."""
SHARES = {
    "precision": distributions.PR_NEIGHBORS,
    "recall": distributions.PR_NEIGHBORS,
    "density": distributions.DC_NEIGHBORS,
    "coverage": distributions.DC_NEIGHBORS,
}
"""The fields of `distributions.Neighborhoods`, and their number of neighbors."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Sampled and real images, as numbers.

    Attributes:
        real: what the samples are compared with.
        other, against: two sets of real images, for the baseline: as `sampled` with `real`.
        recipe, reference: for `Metric`.
    """

    sampled: Gathered
    real: Gathered
    other: Gathered
    against: Gathered
    recipe: str
    reference: str

    def metric(
        self, how: str, statistic: Callable[[Gathered], Measure], *, repeats: bool = True
    ) -> Metric:
        """Returns a statistic of the samples with its jackknife interval.

        Args:
            how: the statistic's recipe.
            statistic: returns the measure of a set against a set of real images.
            repeats: whether the statistic is cheap enough for an interval.
        """
        measure = statistic(self.real)
        baseline = statistic(self.against)(self.other, None)
        value, low, high = measure(self.sampled, None), None, None
        recipe = f"{how}; {self.recipe}"
        if repeats and len(self.sampled) >= 2 * GROUPS:
            left_out = np.array([measure(self.sampled, group) for group in range(GROUPS)])
            low, high = metrics.jackknife_interval(value, left_out)
            recipe += f"; interval: jackknife over {GROUPS} groups of samples"
        return Metric(value, low, high, len(self.sampled), baseline, recipe, self.reference)

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
    how = "Fréchet distance of Gaussians, sample covariances in float64"
    results = {
        name: found.metric(how, lambda real, kind=kind: _frechet(real, kind))
        for kind, name in names.items()
        if kind in found.real.groups
    }
    how = "unbiased cubic MMD^2, mean of 100 subsets of at most 1,000"
    results[f"kid{suffix}"] = found.metric(how, _kid, repeats=False)
    how = "1000 x MMD^2 of unit CLIP embeddings, sigma 10"
    results["cmmd"] = found.metric(how, _cmmd, repeats=found.is_small)
    if "logits" in found.sampled.rows:
        how = "mean of 10 splits in the order of the prompts"
        results["inception_score"] = found.metric(how, _inception_score, repeats=False)
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
            f"balls to neighbor {k}",
            lambda real, name=name: share(real, name),
            repeats=found.is_small,
        )
        for name, k in SHARES.items()
    }


def _frechet(real: Gathered, kind: str) -> Measure:
    distance = distributions.frechet_from(real.moments(kind))
    return lambda images, group: distance(images.moments(kind, group))


def _kid(real: Gathered) -> Measure:
    rows = real.rows["pool"]
    return lambda images, group: distributions.kernel_distance(rows, images.without(group))[0]


def _cmmd(real: Gathered) -> Measure:
    rows = real.rows["clip"]
    return lambda images, group: distributions.cmmd(rows, images.without(group, "clip"))


def _inception_score(real: Gathered) -> Measure:
    """Of the samples alone."""
    return lambda images, group: distributions.inception_score(
        softmax(images.without(group, "logits"))
    )[0]


def softmax(logits: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    """Returns the probabilities of logits, in float64."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
