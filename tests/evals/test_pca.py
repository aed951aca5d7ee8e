"""The pca suite: known eigenvalues, residuals in closed form, parts of the codec's error."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from tests.evals.suites import SETTINGS, check_metrics
from tests.toy import toy_bundle, with_prior_ar
from unclip_jax import api
from unclip_jax.checkpoint.bundle import Stage
from unclip_jax.data import sources
from unclip_jax.evals import pca as pca_suite
from unclip_jax.evals.examples import Examples
from unclip_jax.evals.pca import residual, spectrum_metrics
from unclip_jax.evals.runner import run_suite
from unclip_jax.models.pca import Pca, fit_pca, unit_moments
from unclip_jax.models.pca_codec import (
    CodecConfig,
    codec_of,
    make_codec,
    round_trip,
    with_codec,
)


def test_pca(model, tmp_path):
    eval_clip = toy_bundle(seed=1)
    settings = dataclasses.replace(SETTINGS, eval_clip=eval_clip, image_folder=tmp_path, limit=None)
    results = run_suite("pca", model, settings)
    check_metrics(results)
    for prefix in ("", "eval_clip/"):
        counts = [results[f"{prefix}components_{share}"].value for share in (50, 90, 99)]
        assert 1 <= counts[0] <= counts[1] <= counts[2] <= 16
        assert 1.0 <= results[f"{prefix}effective_rank"].value <= 16.0
        assert results[f"{prefix}test/residual_99"].value < 0.5
    assert results["components_99"].value != 0 and (tmp_path / "pca_variance.png").exists()


def test_pca_says_what_the_codes_of_a_prior_lose(model):
    """Of codes that keep every component in fine buckets next to nothing, else by its parts."""
    both = with_prior_ar(model)
    settings = dataclasses.replace(SETTINGS, eval_clip=model, limit=None)
    results = run_suite("pca", both, settings)
    check_metrics(results)
    names = {"error", "error_dropped", "error_buckets", "cosine", "outside"}
    for split in ("train", "test"):
        found = {n.rpartition("/")[2] for n in results if n.startswith(f"codec/{split}/")}
        assert found == names
    assert not [name for name in results if name.startswith("eval_clip/codec")]
    stage, source = both.stage("prior_ar"), sources.load_source(SETTINGS.data, "test")
    images = np.stack([source[i]["image"] for i in range(len(source))])
    z = api.embed_image(both, images)
    cfg, codec = stage.spec.model.codec, codec_of(stage.params)
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    lost = np.square(unit - unit.mean(0)).sum(1).mean()
    error = float(round_trip(codec, cfg, z).lost.mean()) / lost
    assert results["codec/test/error"].value == pytest.approx(error, rel=1e-4)
    fitted = fit_pca(unit_moments(z))
    fine = CodecConfig(components=16, buckets=4096, limit=8.0)
    params = with_codec(stage.params, make_codec(fitted, fine, np.zeros(2)))
    spec = dataclasses.replace(stage.spec.model, codec=fine, positions=18)
    stages = {**both.stages, "prior_ar": Stage(dataclasses.replace(stage.spec, model=spec), params)}
    whole = run_suite("pca", dataclasses.replace(both, stages=stages), SETTINGS)
    assert whole["codec/test/error"].value < 1e-3 < results["codec/test/error"].value
    assert whole["codec/test/cosine"].value > 0.9999


def test_spectrum_of_known_eigenvalues():
    """Four equal ones have rank 4 and half of the variance in two."""
    fitted = Pca(np.zeros(5), np.eye(5), np.array([1.0, 1.0, 1.0, 1.0, 0.0]))
    results = spectrum_metrics(fitted, 9)
    assert results["effective_rank"].value == pytest.approx(4.0)
    assert results["components_50"].value == 2 and results["components_99"].value == 4


def test_what_components_leave_out_is_a_share_of_the_spread():
    """Of the embeddings that a PCA was fitted to, the share of the eigenvalues that are left."""
    z = np.random.default_rng(0).normal(size=(50, 6)) * np.arange(1, 7) + 3.0
    fitted = fit_pca(unit_moments(z))
    values = np.asarray(fitted.eigenvalues, np.float64)
    for dims in (0, 2, 5):
        share = values[dims:].sum() / values.sum()
        assert residual(fitted, z, dims).mean() == pytest.approx(share, rel=1e-4)


def test_the_codecs_loss_is_named_by_its_parts(model, monkeypatch):
    """Four orthogonal unit vectors spread by 3/4 about their mean."""
    parts = {"lost": 0.3, "dropped": 0.15, "bucketed": 0.075, "cosine": 0.9, "outside": 0.5}
    trip = SimpleNamespace(**{name: np.full(4, value) for name, value in parts.items()})
    monkeypatch.setattr(pca_suite, "round_trip", lambda *args: trip)
    held = Examples(np.zeros((4, 2, 2, 3), np.uint8), ((),) * 4, tuple("abcd"), ("",) * 4)
    results = pca_suite.codec_metrics(with_prior_ar(model), "test", held, 3 * np.eye(4))
    expected = {"error": 0.4, "error_dropped": 0.2, "error_buckets": 0.1}
    expected |= {"cosine": 0.9, "outside": 0.5}
    found = {name.removeprefix("codec/test/"): f.value for name, f in results.items()}
    assert found == pytest.approx(expected)
