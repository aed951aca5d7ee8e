"""Distances of feature sets: closed forms, plain loops, scipy."""

import numpy as np
import pytest
from scipy import linalg

from unclip_jax.evals import distributions as found
from unclip_jax.models.pca import Moments

RNG = np.random.default_rng(0)
REAL = RNG.normal(size=(60, 5)) * [1, 2, 3, 1, 1] + [0, 1, 0, 0, 2]
FAKE = RNG.normal(size=(45, 5)) * [2, 1, 1, 1, 3] + [1, 0, 0, 1, 0]


def gaussian(mean, variances, count=11):
    """Moments of a set with these exact sample moments."""
    return Moments(count, np.asarray(mean, float), np.diag(variances) * float(count - 1))


def test_frechet_distance_of_axis_aligned_gaussians():
    """|m1 - m2|^2 + sum (s1 - s2)^2: 9 + 16 + (1 - 2)^2 + (3 - 5)^2."""
    one, two = gaussian([0, 0], [1, 9]), gaussian([3, 4], [4, 25])
    assert found.frechet_distance(one, two) == pytest.approx(30.0)
    assert found.frechet_distance(one, one) == pytest.approx(0.0, abs=1e-12)


def test_frechet_distance_is_that_of_the_matrix_root():
    one, two = np.cov(REAL, rowvar=False), np.cov(FAKE, rowvar=False)
    gap = np.square(REAL.mean(0) - FAKE.mean(0)).sum()
    wanted = gap + np.trace(one + two - 2 * linalg.sqrtm(one @ two).real)
    assert found.frechet_distance(Moments.of(REAL), Moments.of(FAKE)) == pytest.approx(wanted)
    parts = Moments.of(FAKE[:7]) + Moments.of(FAKE[7:30]) + Moments.of(FAKE[30:])
    assert found.frechet_distance(Moments.of(REAL), parts) == pytest.approx(wanted)


def test_frechet_distance_of_singular_sets_is_finite():
    few = Moments.of(REAL[:3])
    assert 0.0 <= found.frechet_distance(few, few) < 1e-6
    points = Moments.of(np.zeros((1, 2))), Moments.of(np.array([[3.0, 4.0]]))
    assert found.frechet_distance(*points) == pytest.approx(25.0)


def test_frechet_distance_of_unit_vectors():
    """Lengths do not count. All along one axis against another: the means alone, 1 + 1."""
    rows = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (REAL, FAKE)]
    wanted = found.frechet_distance(*map(Moments.of, rows))
    assert found.unit_frechet_distance(3 * REAL, FAKE) == pytest.approx(wanted)
    one, two = np.tile([[1.0, 0.0]], (3, 1)), np.tile([[0.0, 5.0]], (4, 1))
    assert found.unit_frechet_distance(one, two) == pytest.approx(2.0)


def test_diversity_is_the_mean_distance_of_pairs():
    """Of e1, e1, e2: cosines 1, 0, 0, hence a distance of 2/3; of equal draws 0."""
    draws = np.array([[[1.0, 0.0], [2.0, 2.0]], [[3.0, 0.0], [1.0, 1.0]], [[0.0, 2.0], [5.0, 5.0]]])
    np.testing.assert_allclose(found.diversity(draws), [2 / 3, 0.0], atol=1e-12)


def test_inception_score_of_sure_and_of_blind_networks():
    """Sure of k balanced classes: k. The same answer for every image: 1."""
    sure = np.eye(4)[np.tile(np.arange(4), 10)]
    assert found.inception_score(sure, splits=10) == pytest.approx((4.0, 0.0))
    blind = np.tile([0.7, 0.2, 0.1], (20, 1))
    assert found.inception_score(blind, splits=2) == pytest.approx((1.0, 0.0))
    mixed = np.concatenate([sure[:4], np.tile([1.0, 0, 0, 0], (4, 1))])  # splits score 4 and 1
    assert found.inception_score(mixed, splits=2) == pytest.approx((2.5, 1.5))
    with pytest.raises(ValueError, match="fewer than 10"):
        found.inception_score(sure[:9])
    five = np.concatenate([sure[:4], sure[:1]])  # runs of four images: one of 4, and what remains
    assert found.inception_score(five, run=4) == pytest.approx((2.5, 1.5))


def test_kernel_distance_is_the_unbiased_estimate():
    """Of all vectors at once, by loops over pairs (Bińkowski et al. 2018, eq. 4)."""

    def kernel(a, b):
        return (float(a @ b) / 5 + 1) ** 3

    size = 30
    one, two = REAL[:size], FAKE[:size]
    pairs = [(i, j) for i in range(size) for j in range(size)]
    within = sum(kernel(s[i], s[j]) for s in (one, two) for i, j in pairs if i != j)
    between = sum(kernel(one[i], two[j]) for i, j in pairs)
    wanted = within / (size * (size - 1)) - 2 * between / size**2
    mean, deviation = found.kernel_distance(one, two, subsets=3, size=size)
    assert mean == pytest.approx(wanted) and deviation == pytest.approx(0.0, abs=1e-9)


def test_kernel_distance_of_halves_of_one_set_is_around_zero():
    """Unbiased: it is below 0 about as often as above."""
    rows = RNG.normal(size=(400, 5))
    values = [
        found.kernel_distance(rows[order[:200]], rows[order[200:]], subsets=1, size=200)[0]
        for order in (RNG.permutation(400) for _ in range(40))
    ]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(40)
    assert 8 < sum(value > 0 for value in values) < 32


def test_cmmd_is_that_of_loops():
    one, two = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (REAL, FAKE))

    def mean(a, b):
        return np.mean([[np.exp(-((x - y) @ (x - y)) / 200) for y in b] for x in a])

    wanted = 1000 * (mean(one, one) + mean(two, two) - 2 * mean(one, two))
    assert found.cmmd(3 * REAL, FAKE) == pytest.approx(wanted)
    assert found.cmmd(REAL, REAL) == pytest.approx(0.0, abs=1e-9)


def test_neighborhoods_on_a_line():
    """Real 0, 1, 2, 10 and fake 0.5, 3.5, 10.5, 10.6 with one neighbor.

    Radii: real 1, 1, 1, 8; fake 3, 3, 0.1, 0.1. Inside a real ball: 0.5, 3.5 (10's: 6.5 away),
    10.5, 10.6. Inside a fake ball: 0, 1, 2. Balls that hold 0.5: 0's and 1's; 3.5: 10's alone;
    10.5 and 10.6: 10's. Covered: 0's, 1's and 10's.
    """
    real, fake = (np.array(x)[:, None] for x in ([0, 1, 2, 10.0], [0.5, 3.5, 10.5, 10.6]))
    overlap = found.neighborhoods(real, fake, k=1, k_density=1)
    assert (overlap.precision, overlap.recall) == (1.0, 0.75)
    assert (overlap.density, overlap.coverage) == (1.25, 0.75)
    turned = found.neighborhoods(fake, real, k=1, k_density=1)
    assert (turned.precision, turned.recall) == (0.75, 1.0)
    # With two neighbors the real radii are 2, 1, 2, 9: the fake ones are in 3, 2, 1 and 1 balls.
    wide = found.neighborhoods(real, fake, k=1, k_density=2)
    assert (wide.density, wide.coverage) == (7 / 4 / 2, 1.0)


def test_neighborhoods_do_not_depend_on_the_blocks(monkeypatch):
    whole = found.neighborhoods(REAL, FAKE)
    monkeypatch.setattr(found, "BLOCK", 7)
    assert found.neighborhoods(REAL, FAKE) == whole
    same = found.neighborhoods(REAL, REAL)
    assert (same.precision, same.recall, same.coverage) == (1.0, 1.0, 1.0)
    far = found.neighborhoods(REAL, FAKE + 100)
    assert far == found.Neighborhoods(0.0, 0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="too small"):
        found.neighborhoods(REAL[:4], FAKE)
