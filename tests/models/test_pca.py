"""Principal components against NumPy's singular values in float64, and their exact identities."""

import numpy as np
import pytest

from unclip_jax.models import pca as pca_lib

D, N = 6, 40
EXACT = 1e-12  # float64 sums in another order
ROUNDED = 2e-6  # float32 products of a few terms


@pytest.fixture(scope="module")
def z():
    """Raw embeddings of uneven spread and length."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(N, D)) * np.arange(1, D + 1) + 2.0


@pytest.fixture(scope="module")
def unit(z):
    return z / np.linalg.norm(z, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def pca(z):
    return pca_lib.fit_pca(pca_lib.unit_moments(z), "abc")


def test_components_are_those_of_the_singular_value_decomposition(pca, unit):
    centered = unit - unit.mean(0)
    _, values, rows = np.linalg.svd(centered, full_matrices=False)
    np.testing.assert_allclose(pca.mean, unit.mean(0), atol=ROUNDED)
    np.testing.assert_allclose(pca.eigenvalues, values**2 / N, rtol=1e-5)
    np.testing.assert_allclose(np.abs(pca.components @ rows.T), np.eye(D), atol=1e-5)
    assert (np.diff(pca.eigenvalues) <= 0).all()
    assert (pca.components.max(1) >= -pca.components.min(1)).all()  # the stated sign


def test_moments_of_shards_merge_to_those_of_all(z):
    whole = pca_lib.unit_moments(z)
    parts = pca_lib.Moments.zero(D)
    for part in np.split(z, [0, 7, 8, 23]):
        parts = parts + pca_lib.unit_moments(part)
    assert parts.count == N
    np.testing.assert_allclose(parts.mean, whole.mean, atol=EXACT)
    np.testing.assert_allclose(parts.scatter, whole.scatter, atol=EXACT)
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    np.testing.assert_allclose(whole.covariance, np.cov(unit.T, bias=True), atol=EXACT)


def test_all_components_give_the_unit_embedding_back(pca, z, unit):
    np.testing.assert_allclose(pca_lib.keep(pca, z, D), unit, atol=ROUNDED)
    np.testing.assert_allclose(pca_lib.keep(pca, z, 0), np.tile(unit.mean(0), (N, 1)), atol=1e-6)


def test_what_is_left_out_is_the_sum_of_the_small_eigenvalues(pca, z, unit):
    for dims in range(D + 1):
        lost = np.asarray(pca_lib.keep(pca, z, dims), np.float64) - unit
        np.testing.assert_allclose(
            np.square(lost).sum(1).mean(), pca.eigenvalues[dims:].sum(dtype=np.float64), atol=1e-6
        )


def test_shares_of_the_variance():
    values = np.array([8.0, 1.0, 1.0], np.float32)
    pca = pca_lib.Pca(np.zeros(3), np.eye(3), values)
    np.testing.assert_allclose(pca_lib.explained_variance(pca), [0.8, 0.9, 1.0])
    assert [pca_lib.components_for(pca, share) for share in (0.5, 0.8, 0.81, 1.0)] == [1, 1, 2, 3]


def test_too_few_or_too_many_are_refused(pca, z):
    with pytest.raises(ValueError, match="two embeddings, not 1"):
        pca_lib.fit_pca(pca_lib.unit_moments(z[:1]))
    with pytest.raises(ValueError, match="dims=7"):
        pca_lib.keep(pca, z, 7)


def test_a_nearly_constant_direction_has_no_negative_variance(z):
    flat = z.copy()
    flat[:, 0] = 0.0
    assert pca_lib.fit_pca(pca_lib.unit_moments(flat)).eigenvalues[-1] >= 0.0
