"""The codec against its documented edges: monotone, within half a bucket, clamped outside."""

import hypothesis
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest

from unclip_jax.models import pca_codec
from unclip_jax.models.pca import fit_pca, unit_moments
from unclip_jax.models.pca_codec import CodecConfig

D, N = 8, 60
ROUNDED = 1e-6  # float32, of numbers up to one
CFG = CodecConfig(components=5, buckets=64, limit=3.0, dot_buckets=10)
numbers = st.lists(st.floats(-3, 3, width=32), min_size=2, max_size=8)


@pytest.fixture(scope="module")
def z():
    rng = np.random.default_rng(0)
    return (rng.normal(size=(N, D)) * np.arange(1, D + 1) + 1.0).astype(np.float32)


@pytest.fixture(scope="module")
def pca(z):
    return fit_pca(unit_moments(z))


@pytest.fixture(scope="module")
def codec(pca):
    return pca_codec.make_codec(pca, CFG, np.linspace(-0.2, 0.8, 1001))


@hypothesis.given(numbers, st.integers(2, 1024))
def test_larger_numbers_have_no_smaller_codes(values, buckets):
    codes = np.asarray(pca_codec.quantize(jnp.sort(jnp.asarray(values)), buckets))
    assert (np.diff(codes) >= 0).all() and codes.min() >= 0 and codes.max() < buckets


@hypothesis.given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=8), st.integers(2, 512))
def test_the_error_is_at_most_half_a_bucket(values, buckets):
    x = np.asarray(values, np.float32)
    back = pca_codec.dequantize(pca_codec.quantize(jnp.asarray(x), buckets), buckets)
    assert np.abs(np.asarray(back, np.float64) - x).max() <= 1 / buckets + ROUNDED


@hypothesis.given(st.floats(1, 1e6, width=32), st.integers(2, 1024))
def test_what_lies_outside_falls_into_the_outermost(value, buckets):
    codes = pca_codec.quantize(jnp.asarray([value, -value]), buckets)
    assert np.asarray(codes).tolist() == [buckets - 1, 0]


@pytest.mark.parametrize("buckets", [2, 10, 1024])
def test_centers_keep_their_codes(buckets):
    codes = jnp.arange(buckets)
    centers = pca_codec.dequantize(codes, buckets)
    np.testing.assert_array_equal(pca_codec.quantize(centers, buckets), codes)
    np.testing.assert_allclose(centers, -1 + (2 * np.arange(buckets) + 1) / buckets, atol=ROUNDED)


def test_codes_are_the_documented_buckets_of_the_coordinates(z, pca, codec):
    """In float64: floor((c / (limit sigma) + 1) B / 2), clamped."""
    unit = z / np.linalg.norm(z.astype(np.float64), axis=1, keepdims=True)
    coordinates = (unit - pca.mean) @ pca.components[:5].astype(np.float64).T
    x = coordinates / (3.0 * np.sqrt(pca.eigenvalues[:5].astype(np.float64)))
    place = (x + 1) * 32
    expected = np.clip(np.floor(place), 0, 63).astype(int)
    found = np.asarray(pca_codec.encode(codec, CFG, z))
    sure = np.abs(place - np.round(place)) > 1e-3  # not on an edge, where rounding decides
    assert sure.mean() > 0.99
    np.testing.assert_array_equal(found[sure], expected[sure])


def test_decoded_coordinates_are_within_half_a_bucket_and_the_vector_is_unit(z, pca, codec):
    codes = pca_codec.encode(codec, CFG, z)
    back = np.asarray(pca_codec.decode(codec, CFG, codes), np.float64)
    np.testing.assert_allclose(np.linalg.norm(back, axis=1), 1.0, atol=1e-5)
    center = (2 * np.asarray(codes) + 1) / 64 - 1
    raw = pca.mean + (center * 3 * np.sqrt(pca.eigenvalues[:5])) @ pca.components[:5]
    np.testing.assert_allclose(back, raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize("components", [1, 3, D])
def test_round_trip_error_is_that_of_the_decoded_vectors(z, pca, components):
    """In float64 from the definition; all components in fine buckets lose nothing."""
    cfg = CodecConfig(components, buckets=4096, limit=6.0)
    codec = pca_codec.make_codec(pca, cfg, np.zeros(3))
    unit = z / np.linalg.norm(z.astype(np.float64), axis=1, keepdims=True)
    rows = pca.components[:components].astype(np.float64)
    back = pca.mean + (unit - pca.mean) @ rows.T @ rows
    back /= np.linalg.norm(back, axis=1, keepdims=True)
    share = np.square(unit - back).sum() / np.square(unit - unit.mean(0)).sum()
    found = pca_codec.round_trip(codec, cfg, z).lost.sum() / np.square(unit - unit.mean(0)).sum()
    assert found == pytest.approx(share, abs=2e-3)
    assert components < D or found < 1e-4


@pytest.mark.parametrize("limit", [2.0, 3.0])
def test_what_a_round_trip_loses_is_dropped_or_bucketed(z, pca, limit):
    """In float64 from the definition; a coordinate inside the edges is within half a bucket."""
    cfg = CodecConfig(components=5, buckets=16, limit=limit)
    codec = pca_codec.make_codec(pca, cfg, np.zeros(3))
    trip = pca_codec.round_trip(codec, cfg, z)
    unit = z / np.linalg.norm(z.astype(np.float64), axis=1, keepdims=True)
    rows, scale = pca.components[:5].astype(np.float64), limit * np.sqrt(pca.eigenvalues[:5])
    given = (unit - pca.mean) @ rows.T
    place = np.clip(np.floor((given / scale + 1) * 8), 0, 15)
    back = ((2 * place + 1) / 16 - 1) * scale
    raw = pca.mean + back @ rows
    made = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    expected = {
        "lost": np.square(unit - made).sum(1),
        "dropped": np.square(unit - pca.mean - given @ rows).sum(1),
        "bucketed": np.square(given - back).sum(1),
        "outside": (np.abs(given) > scale).mean(1),
        "cosine": (unit * made).sum(1),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(trip, name), value, atol=1e-5, err_msg=name)
    before = np.square(unit - raw).sum(1)  # the two parts are at right angles
    np.testing.assert_allclose(trip.dropped + trip.bucketed, before, atol=1e-5)
    inside = np.asarray(trip.outside) == 0
    assert np.asarray(trip.bucketed)[inside].max() <= np.square(scale / 16).sum() * (1 + 1e-4)
    assert inside.all() == (limit == 3.0)


def test_dot_codes_are_buckets_of_the_cosine():
    image, text = jnp.array([[2.0, 0.0], [0.0, 3.0]]), jnp.array([[5.0, 0.0], [0.0, -1.0]])
    codes = pca_codec.dot_codes(CFG, image, text)
    assert np.asarray(codes).tolist() == [9, 0]
    assert np.asarray(pca_codec.dot_codes(CFG, image, text[::-1])).tolist() == [5, 5]
    slanted = jnp.array([[1.0, 2.0], [2.0, 1.0]])  # cosines 0.447 and -0.447: 7.2 and 2.8 of 10
    assert np.asarray(pca_codec.dot_codes(CFG, slanted, text)).tolist() == [7, 2]


def test_dots_are_drawn_above_the_percentile(codec):
    """The quantiles are those of the even grid -0.2 … 0.8: quantile q is q - 0.2."""
    fine = CodecConfig(1, dot_buckets=2**16)
    u = jnp.linspace(0, 1, 101)
    for percentile in (0.0, 50.0, 95.0):
        low = percentile / 100
        drawn = pca_codec.dequantize(
            pca_codec.draw_dots(codec, fine, u, percentile), fine.dot_buckets
        )
        np.testing.assert_allclose(drawn, low + (1 - low) * u - 0.2, atol=1e-4)


def test_a_codec_that_does_not_fit_is_refused(pca):
    with pytest.raises(ValueError, match="the PCA has 8"):
        pca_codec.make_codec(pca, CodecConfig(9), np.zeros(3))
    with pytest.raises(ValueError, match="buckets=1"):
        CodecConfig(4, buckets=1)
