"""The edits suite on a toy bundle and procedural images."""

import dataclasses

import numpy as np
import pytest

from tests.evals.suites import SETTINGS as WHOLE
from tests.toy import toy_bundle
from unclip_jax.evals import edits, examples
from unclip_jax.evals.clip_encoder import ClipEncoder
from unclip_jax.evals.runner import run_suite

SETTINGS = dataclasses.replace(WHOLE, limit=4)


def test_edits_name_the_clip_that_scores(model, monkeypatch, tmp_path):
    monkeypatch.setattr(edits, "LEVELS", 4)
    monkeypatch.setattr(edits, "THETAS", 3)
    own = run_suite("edits", model, dataclasses.replace(SETTINGS, image_folder=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["edits_images.png"]
    assert all("/own_clip_" in name for name in own)
    other = run_suite("edits", model, dataclasses.replace(SETTINGS, eval_clip=toy_bundle(seed=1)))
    assert all("/eval_clip_" in name for name in other)
    first = {other[f"from_{x}/eval_clip_cosine_0.0"].value for x in ("caption", "dummy", "nothing")}
    assert np.ptp(list(first)) < 1e-3  # theta 0 is the reconstructed image, whatever the texts


def test_rises_are_differences_of_the_cosines():
    cosine = np.asarray([[0.1, 0.3, 0.2], [0.3, 0.3, 0.6]])
    results = edits.theta_metrics("x", cosine, np.array(["a", "b"]))
    assert results["x_cosine_0.5"].value == pytest.approx(0.4)
    assert results["x_rise_to_0.2"].value == pytest.approx(0.1)
    assert results["x_rise_to_0.5"].value == pytest.approx(0.1)
    assert results["x_rise_to_0.5"].baseline == 0.0


def test_an_edit_is_scored_with_its_target_text(model, monkeypatch):
    """By construction: image i at the j-th theta has the cosine j / 10 with its target."""
    images = np.zeros((2, 16, 16, 3), np.uint8)
    held = examples.Examples(images, (("a sun",), ("a car",)), ("sun", "car"), ("", ""))
    unit = dict(zip(["a sun", "a car"], np.eye(4), strict=False))
    cosines, asked = np.arange(edits.THETAS) / 10, []

    def edit(model, images, to, *, source, frames, max_theta, **settings):
        asked.append((to, source, frames, max_theta))
        return np.zeros((2 * frames, 16, 16, 3), np.uint8)

    def embed(self, images):
        across = np.sqrt(1 - cosines**2)[:, None] * np.eye(4)[3]
        return np.concatenate([cosines[:, None] * unit[to] + across for to in ("a car", "a sun")])

    monkeypatch.setattr(edits, "load_splits", lambda *args, **settings: held)
    monkeypatch.setattr(ClipEncoder, "images", embed)
    monkeypatch.setattr(edits.api, "edit", edit)
    text = lambda self, texts: np.stack([unit[t] for t in texts])  # noqa: E731
    monkeypatch.setattr(ClipEncoder, "captions", text)
    results = edits.edits(model, SETTINGS)
    targets = ["a car", "a sun"]  # each goes to the other concept
    sources = (["a sun", "a car"], "a picture", None)
    assert asked == [(targets, source, 6, 0.5) for source in sources]
    for name in ("caption", "dummy", "nothing"):
        found = [results[f"from_{name}/own_clip_cosine_{k / 10}"].value for k in range(6)]
        np.testing.assert_allclose(found, cosines, atol=1e-12)


def test_edits_of_one_concept_are_resampled_together():
    cosine = np.repeat([[0.1, 0.2], [0.5, 0.8]], 8, axis=0)
    one = edits.theta_metrics("x", cosine, np.repeat(["a", "b"], 8))["x_cosine_0.5"]
    alone = edits.theta_metrics("x", cosine, np.arange(16))["x_cosine_0.5"]
    assert one.high - one.low > 1.5 * (alone.high - alone.low)
