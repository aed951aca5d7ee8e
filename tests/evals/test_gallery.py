"""The gallery on a toy bundle and procedural images."""

import dataclasses
import json

import numpy as np
import pytest
from click.testing import CliRunner

from tests.evals.suites import SETTINGS as WHOLE
from tests.toy import DIM, toy_bundle
from unclip_jax.checkpoint.bundle import save
from unclip_jax.cli.evaluate import evaluate
from unclip_jax.evals import gallery
from unclip_jax.models.pca import fit_pca, unit_moments

SETTINGS = dataclasses.replace(WHOLE, limit=4)


@pytest.fixture(scope="module")
def model():
    rows = np.random.default_rng(0).standard_normal((50, DIM))
    return dataclasses.replace(toy_bundle(), pca=fit_pca(unit_moments(rows)))


def test_gallery_command(model, monkeypatch, tmp_path):
    for name, value in {
        "VARIED": ("x/y",),
        "ETAS": ((0.0, 1), (1.0, 2)),
        "PAIRS": (("x/y", "x/y"),),
        "EDITS": (("x/y", None, "the sun"),),
        "COMPONENTS": ("x/y",),
        "DIMS": (1, 40),
        "GUIDED": ("the sun",),
        "SCALES": (1.0, 2.0),
        "FILLED": (("x/y", "the sun"),),
    }.items():
        monkeypatch.setattr(gallery, name, value)
    save(model, tmp_path / "toy")
    args = ["--model", str(tmp_path / "toy"), "--data", SETTINGS.data, "--suite", "gallery"]
    args += ["--size", "16", "--out", str(tmp_path / "out"), "--json"]
    run = CliRunner().invoke(evaluate, args, catch_exceptions=False)
    result = json.loads(run.stdout)
    assert set(result["figures"]) == set(gallery.FIGURES)
    assert "pca" in result["settings"] and "scales" not in result["settings"]  # it reads the former
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {*gallery.FIGURES, "README.md", "gallery.json"}
    probe = result["figures"]["fig6_typographic.png"]
    for says in (value for key, value in probe.items() if key != "about"):
        assert sum(says.values()) == pytest.approx(1.0, abs=1e-4)
    readme = (tmp_path / "out" / "README.md").read_text()
    assert all(f"]({name})" in readme for name in gallery.FIGURES)


def test_a_gallery_without_a_pca_says_so(model, tmp_path, monkeypatch):
    figures = {n: f for n, f in gallery.FIGURES.items() if n == "fig7_components.png"}
    monkeypatch.setattr(gallery, "FIGURES", figures)
    gallery.write_gallery(tmp_path, dataclasses.replace(model, pca=None), SETTINGS, {})
    assert "has no PCA" in (tmp_path / "README.md").read_text()


def test_a_word_is_written_within_the_image():
    green = np.full((64, 64, 3), (0, 200, 0), np.uint8)
    made = gallery.written_on(green, "BANANA")
    changed = (made != green).any(-1)
    assert changed[:30].sum() == 0 and not changed[:, :4].any() and not changed[:, 60:].any()
    assert 0.05 < changed.mean() < 0.4
