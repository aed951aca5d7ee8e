"""Metrics against closed forms, scipy and small cases worked by hand."""

import numpy as np
import pytest
from scipy import stats

from unclip_jax.evals import metrics


def test_bootstrap_interval_matches_scipy():
    values = np.random.default_rng(1).gamma(2.0, size=80)
    low, high = metrics.bootstrap_interval(values, draws=6000)
    reference = stats.bootstrap(
        (values,), np.mean, n_resamples=6000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    # Both are Monte Carlo quantiles: 6000 draws place them within about 0.05 standard errors.
    tolerance = 0.1 * values.std() / np.sqrt(len(values))
    np.testing.assert_allclose([low, high], [reference.low, reference.high], atol=tolerance)


def test_grouped_bootstrap_of_copies_is_that_of_the_originals():
    values = np.random.default_rng(3).normal(size=60)
    groups = np.arange(60)
    alone = metrics.bootstrap_interval(values, groups=groups)
    copied = metrics.bootstrap_interval(np.repeat(values, 4), groups=np.repeat(groups, 4))
    np.testing.assert_allclose(copied, alone, rtol=1e-12)
    naive = metrics.bootstrap_interval(np.repeat(values, 4))
    assert naive[1] - naive[0] < 0.6 * (copied[1] - copied[0])  # copies are no new evidence


def test_a_group_weighs_as_many_values_as_it_has():
    """Of one 0 and three 1, half of the draws hold both groups: 3/4, and not 1/2."""
    values, groups = np.array([0.0, 1.0, 1.0, 1.0]), np.array(["a", "b", "b", "b"])
    assert metrics.bootstrap_interval(values, groups=groups, level=0.2) == (0.75, 0.75)
    assert metrics.bootstrap_interval(values, groups=groups, level=0.98) == (0.0, 1.0)


def test_an_empty_label_is_no_group():
    values = np.random.default_rng(3).normal(size=40)
    alone = metrics.bootstrap_interval(values)
    unnamed = metrics.bootstrap_interval(values, groups=np.array([""] * 40))
    np.testing.assert_allclose(
        np.subtract(*unnamed), np.subtract(*alone), rtol=0.1
    )  # and not an interval of one group, which has no width
    assert metrics.derangement([""] * 4, seed=0).tolist() != list(range(4))


def test_groups_of_the_jackknife_hold_whole_labels():
    """21 labels in 20 groups: the largest alone, the two smallest together."""
    sizes = [1, 2, *[3] * 18, 9]
    labels = np.array([f"c{i}" for i, size in enumerate(sizes) for _ in range(size)])
    member = metrics.jackknife_groups(labels)
    of_label = {label: set(member[labels == label]) for label in labels}
    assert all(len(groups) == 1 for groups in of_label.values())
    assert sorted(np.bincount(member).tolist()) == [*[3] * 19, 9]
    assert of_label["c0"] == of_label["c1"]
    assert metrics.jackknife_groups(labels[labels < "c3"]) is None  # too few labels
    assert metrics.jackknife_groups(np.arange(39)) is None  # too few rows
    assert len(metrics.jackknife_groups(np.array([""] * 40))) == 40


def test_mean_metric_of_a_rate():
    metric = metrics.mean_metric(np.array([True, False, True, True]), baseline=0.25)
    assert metric.value == 0.75
    assert metric.low <= 0.75 <= metric.high
    assert metric.to_dict() == {
        "value": 0.75,
        "low": metric.low,
        "high": metric.high,
        "n": 4,
        "baseline": 0.25,
        "floor": 0.25,
        "recipe": "",
        "reference": "",
    }
    with pytest.raises(ValueError, match="at least one"):
        metrics.mean_metric(np.array([]))


@pytest.mark.parametrize(("value", "n"), [(0, 30), (1, 30), (0, 3), (1, 1)])
def test_a_rate_of_none_or_all_has_the_exact_interval(value, n):
    exact = stats.binomtest(value * n, n).proportion_ci(0.95, method="exact")
    for values, bounds in ((np.full(n, value == 1), None), (np.full(n, float(value)), (0.0, 1.0))):
        metric = metrics.mean_metric(values, bounds=bounds)
        np.testing.assert_allclose((metric.low, metric.high), exact, rtol=1e-12)


def test_pairs_that_never_differ_may_differ_as_often_as_none_of_so_many():
    """Of 30 pairs none differ; those that do, at most `exact.high` of all, do so by up to 1."""
    exact = stats.binomtest(0, 30).proportion_ci(0.95, method="exact")
    metric = metrics.mean_metric(np.zeros(30), bounds=(-1.0, 1.0))
    np.testing.assert_allclose((metric.low, metric.high), (-exact.high, exact.high), rtol=1e-12)
    metric = metrics.mean_metric(np.full(30, 0.75), bounds=(0.0, 1.0))
    wanted = (0.75 * (1 - exact.high), 0.75 + 0.25 * exact.high)
    np.testing.assert_allclose((metric.low, metric.high), wanted, rtol=1e-12)


def test_none_of_few_groups_is_none_of_few():
    copies = metrics.mean_metric(np.zeros(30, bool), groups=np.repeat(np.arange(3), 10))
    assert copies.high == metrics.mean_metric(np.zeros(3, bool)).high
    assert metrics.mean_metric(np.zeros(30)).high == 0.0  # of no known bounds


def test_cosine():
    a = np.array([[1.0, 0.0], [3.0, 4.0], [1.0, 1.0]])
    b = np.array([[0.0, 2.0], [3.0, 4.0], [-2.0, -2.0]])
    np.testing.assert_allclose(metrics.cosine(a, b), [0.0, 1.0, -1.0], atol=1e-15)


def test_hits_at():
    scores = np.array([[0.9, 0.5, 0.1], [0.9, 0.5, 0.1], [0.5, 0.5, 0.1]])
    relevant = np.array([[True, False, False], [False, True, True], [True, False, False]])
    np.testing.assert_array_equal(metrics.hits_at(scores, relevant, 1), [True, False, False])
    np.testing.assert_array_equal(metrics.hits_at(scores, relevant, 2), [True, True, True])
    none = np.zeros_like(relevant)
    assert not metrics.hits_at(scores, none, 3).any()


@pytest.mark.parametrize("k", [1, 3, 5, 9])
def test_chance_is_hypergeometric(k):
    counts = [0, 1, 3, 9]
    relevant = np.array([[i < r for i in range(9)] for r in counts])
    expected = np.mean([1.0 - stats.hypergeom(9, r, k).pmf(0) for r in counts])
    np.testing.assert_allclose(metrics.chance_at(relevant, k), expected, rtol=1e-12)


def test_psnr():
    image = np.full((2, 4, 4, 3), 100, np.uint8)
    other = image.copy()
    other[0] += 5  # mse 25
    other[1, 0, 0, 0] = 101  # one gray level in one of 48 values: the cap
    expected = [20 * np.log10(255 / 5), 10 * np.log10(255**2 * 48)]
    np.testing.assert_allclose(metrics.psnr(image, other), expected, rtol=1e-12)
    np.testing.assert_allclose(metrics.psnr(image, image), [expected[1]] * 2, rtol=1e-12)


def test_nearest_and_group_best():
    gallery = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    index, score = metrics.nearest(np.array([[2.0, 0.1], [-0.1, 3.0]]), gallery)
    np.testing.assert_array_equal(index, [0, 1])
    np.testing.assert_allclose(score, [2 / np.sqrt(4.01), 3 / np.sqrt(9.01)])
    best, names = metrics.group_best(np.array([[0.1, 0.7, 0.3, 0.2]]), ["b", "a", "b", "c"])
    assert names == ["a", "b", "c"]
    np.testing.assert_array_equal(best, [[0.7, 0.3, 0.2]])


@pytest.mark.parametrize("labels", ["abcd", "aabbcc", "aaabbb", "aabcdde"])
def test_derangement_changes_every_label(labels):
    for seed in range(20):
        order = metrics.derangement(list(labels), seed=seed)
        assert sorted(order) == list(range(len(labels)))
        assert all(labels[i] != labels[j] for i, j in enumerate(order))
