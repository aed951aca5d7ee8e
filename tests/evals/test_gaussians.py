"""Fréchet distance and diversity against closed forms."""

import numpy as np
import pytest
from scipy import linalg

from unclip_jax.evals.gaussians import diversity, frechet_distance


def test_distance_is_the_closed_form_with_scipys_root():
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(50, 4)) + shift for shift in (0.0, 1.0))
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b)]
    c1, c2 = (np.cov(x.T, bias=True) for x in unit)
    gap = np.square(unit[0].mean(0) - unit[1].mean(0)).sum()
    expected = gap + np.trace(c1 + c2 - 2 * linalg.sqrtm(c1 @ c2).real)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(a, 3 * a[::-1]) == pytest.approx(0.0, abs=1e-9)


def test_distance_of_points_is_that_of_their_means():
    one, two = np.tile([[1.0, 0.0]], (3, 1)), np.tile([[0.0, 5.0]], (4, 1))
    assert frechet_distance(one, two) == pytest.approx(2.0)


def test_diversity_is_the_mean_distance_of_pairs():
    """Of e1, e1, e2: cosines 1, 0, 0, hence a distance of 2/3; of equal draws 0."""
    draws = np.array([[[1.0, 0.0], [2.0, 2.0]], [[3.0, 0.0], [1.0, 1.0]], [[0.0, 2.0], [5.0, 5.0]]])
    np.testing.assert_allclose(diversity(draws), [2 / 3, 0.0], atol=1e-12)
