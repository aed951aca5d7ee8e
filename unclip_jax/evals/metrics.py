"""Metrics in pure NumPy: cosine, recall, PSNR and bootstrap confidence intervals.

Everything is float64. A metric is a mean over examples with a percentile bootstrap interval;
examples that share a concept are resampled together, because their errors are not independent.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Integer, Shaped

from unclip_jax.core.renamed import with_old_keys
from unclip_jax.core.vectors import unit64

DRAWS = 2000
LEVEL = 0.95
GROUPS = 20  # of rows, of which the jackknife leaves one out
NORMAL_95 = 1.959964  # standard deviations of a normal distribution on either side


@dataclasses.dataclass(frozen=True)
class Metric:
    """A measured number.

    Attributes:
        value: the mean.
        low, high: its 95% interval; None where nothing was resampled.
        n: number of examples.
        baseline: what chance or the baseline method gives; None where there is no baseline.
        recipe: how it is computed, where several ways go by one name; "" for the only way.
        reference: the images it compares with, e.g. "emoji train, 2,000 images"; "" for none.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    baseline: float | None = None
    recipe: str = ""
    reference: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form, in which `baseline` also has its former name `floor`."""
        return with_old_keys(dataclasses.asdict(self))


def bootstrap_interval(
    values: Float[np.ndarray, " n"],
    *,
    groups: Shaped[np.ndarray, " n"] | None = None,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float]:
    """Returns the percentile bootstrap interval of the mean (Efron 1979).

    With groups, whole groups are drawn: a draw's mean is sum(sums[g]) / sum(counts[g]) over as many
    groups as there are.

    Args:
        groups: a label per value, e.g. its concept; None, or the label "", makes a value its own
            group.
    """
    labels = group_labels(groups, len(values))
    _, member = np.unique(labels, return_inverse=True)
    sums = np.bincount(member, weights=values)
    counts = np.bincount(member).astype(np.float64)
    rng = np.random.default_rng(seed)
    means = np.empty(draws)
    for i in range(draws):
        weight = np.bincount(rng.integers(len(sums), size=len(sums)), minlength=len(sums))
        means[i] = (weight @ sums) / (weight @ counts)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def unanimous_interval(
    value: float, n: int, bounds: tuple[float, float], level: float = LEVEL
) -> tuple[float, float]:
    """Returns the interval of a mean where all of n values are one and the same.

        [v - r (v - low), v + r (high - v)],  r = 1 - ((1 - level) / 2)^(1 / n)

    r is the most of all values that may be others, of which n show none (Clopper & Pearson 1934):
    the mean lies where these were all at a bound. The exact interval of a rate of none or all.

    Args:
        bounds: low and high, what a value can be.
    """
    reach = 1.0 - ((1.0 - level) / 2.0) ** (1.0 / n)
    low, high = bounds
    return value - reach * (value - low), value + reach * (high - value)


def group_labels(groups: Shaped[np.ndarray, " n"] | None, n: int) -> Shaped[np.ndarray, " n"]:
    """Returns the label of each value's group; without groups, or with "", each has its own."""
    return np.arange(n) if groups is None else each_named(groups)


def each_named(labels: Shaped[np.ndarray, " n"]) -> Shaped[np.ndarray, " n"]:
    """Returns labels in which each empty one is a label of its own."""
    if labels.dtype.kind != "U" or (labels != "").all():
        return labels
    return np.array([label or f"#{i}" for i, label in enumerate(labels)])


def jackknife_groups(
    labels: Shaped[np.ndarray, " n"], count: int = GROUPS
) -> Integer[np.ndarray, " n"] | None:
    """Returns each row's group, 0 … count - 1; rows of one label are in one group.

    The labels with the most rows come first, each to the group with the fewest, so that the groups
    are of about equal size.

    Returns:
        None where there are fewer than two rows a group, or fewer labels than groups: an interval
        of so little means nothing.
    """
    names, member = np.unique(each_named(labels), return_inverse=True)
    if len(names) < count or len(labels) < 2 * count:
        return None
    sizes, total = np.bincount(member), np.zeros(count, np.int64)
    group = np.empty(len(names), np.int64)
    for label in np.argsort(-sizes, kind="stable"):
        group[label] = total.argmin()
        total[group[label]] += sizes[label]
    return group[member]


def jackknife_interval(value: float, left_out: Float[np.ndarray, " g"]) -> tuple[float, float]:
    """Returns the 95% interval of a statistic by the delete-a-group jackknife (Tukey 1958).

        value +- 1.96 sqrt((g - 1) / g sum_i (s_i - mean(s))^2)

    It serves where a bootstrap does not: rows that are drawn twice bring two sets closer.

    Args:
        value: the statistic of all rows.
        left_out: s_i, that of all but the i-th of g groups of about equal size.
    """
    count = len(left_out)
    spread = np.square(left_out - np.mean(left_out)).sum()
    reach = NORMAL_95 * np.sqrt((count - 1) / count * spread)
    return float(value - reach), float(value + reach)


def mean_metric(
    values: Shaped[np.ndarray, " n"],
    *,
    groups: Shaped[np.ndarray, " n"] | None = None,
    baseline: float | None = None,
    bounds: tuple[float, float] | None = None,
    seed: int = 0,
) -> Metric:
    """Returns the mean of `values` as a metric; booleans give a rate.

    Args:
        bounds: what the values can be: (0, 1) for booleans, (-1, 1) for a difference of two rates.
            Where all values are the same, the interval is `unanimous_interval`, as a bootstrap's
            would have no width.
    """
    if len(values) == 0:
        raise ValueError("a metric needs at least one value")
    numbers = np.asarray(values, np.float64)
    if np.asarray(values).dtype == bool:
        bounds = (0.0, 1.0)
    if bounds is not None and (numbers == numbers[0]).all():
        count = len(np.unique(group_labels(groups, len(numbers))))
        low, high = unanimous_interval(float(numbers[0]), count, bounds)
    else:
        low, high = bootstrap_interval(numbers, groups=groups, seed=seed)
    return Metric(float(numbers.mean()), low, high, len(numbers), baseline)


def cosine(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
    """Returns the cosine of each row of `a` with the same row of `b`."""
    return np.sum(unit64(a) * unit64(b), axis=-1)


def similarity(
    queries: Float[np.ndarray, "q d"], gallery: Float[np.ndarray, "g d"]
) -> Float[np.ndarray, "q g"]:
    """Returns the cosine of every query with every gallery row."""
    return unit64(queries) @ unit64(gallery).T


def ranks(
    scores: Float[np.ndarray, "q g"], relevant: Bool[np.ndarray, "q g"]
) -> Integer[np.ndarray, " q"]:
    """Returns for each query the rank, from 1, of its best relevant item.

    Ties count against the model: an irrelevant item ranks above a relevant one of the same score.
    Without a relevant item the rank is beyond the last.
    """
    best = np.where(relevant, scores, -np.inf).max(axis=1)
    others = (scores >= best[:, None]) & ~relevant
    return 1 + others.sum(axis=1)


def hits_at(
    scores: Float[np.ndarray, "q g"], relevant: Bool[np.ndarray, "q g"], k: int
) -> Bool[np.ndarray, " q"]:
    """Returns for each query whether a relevant item is among its top k; see `ranks`."""
    return (ranks(scores, relevant) <= k) & relevant.any(axis=1)


def chance_at(relevant: Bool[np.ndarray, "q g"], k: int) -> float:
    """Returns the recall at k of a random ranking, averaged over the queries.

        1 - C(g - r, k) / C(g, k) = 1 - prod_{i<k} (g - r - i) / (g - i)

    with r relevant items of g.
    """
    size = relevant.shape[1]
    misses = size - relevant.sum(axis=1)
    steps = np.arange(min(k, size))
    ratios = np.clip(misses[:, None] - steps, 0, None) / (size - steps)
    return float(np.mean(1.0 - np.prod(ratios, axis=1)))


def psnr(
    a: Integer[np.ndarray, "n h w c"], b: Integer[np.ndarray, "n h w c"]
) -> Float[np.ndarray, " n"]:
    """Returns the peak signal-to-noise ratio of each pair of 8-bit images, in decibel.

    10 log10(255^2 / mse), capped at the ratio of one gray level in one value
    """
    error = (a.astype(np.float64) - b.astype(np.float64)) ** 2
    least = 1.0 / error[0].size
    return 10.0 * np.log10(255.0**2 / np.maximum(error.mean(axis=(1, 2, 3)), least))


def nearest(
    queries: Float[np.ndarray, "q d"], gallery: Float[np.ndarray, "g d"]
) -> tuple[Integer[np.ndarray, " q"], Float[np.ndarray, " q"]]:
    """Returns for each query the gallery row with the highest cosine, and that cosine."""
    scores = similarity(queries, gallery)
    best = scores.argmax(axis=1)
    return best, scores[np.arange(len(scores)), best]


def group_best(
    scores: Float[np.ndarray, "q g"], groups: Sequence[str]
) -> tuple[Float[np.ndarray, "q m"], list[str]]:
    """Reduces the scores of a gallery to the best score of each group, e.g. of each concept."""
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    best = np.full((len(scores), len(names)), -np.inf)
    np.maximum.at(best.T, member, scores.T)
    return best, [str(name) for name in names]


def derangement(labels: Sequence[str], *, seed: int = 0) -> Integer[np.ndarray, " n"]:
    """Returns a permutation that maps no example to one with the same label; "" is no label.

    Examples are sorted by label, in random label order, and rotated by the size of the largest
    label. That suffices unless one label has more than half of the examples; then some of them
    keep their label.
    """
    rng = np.random.default_rng(seed)
    _, member = np.unique(each_named(np.asarray(labels)), return_inverse=True)
    order = np.argsort(rng.permutation(member.max() + 1)[member], kind="stable")
    shift = int(np.bincount(member).max())
    result = np.empty(len(order), np.int64)
    result[order] = np.roll(order, -shift)
    return result
