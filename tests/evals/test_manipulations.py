"""The suites of manipulations on a toy bundle and procedural pictures."""

import dataclasses
import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.toy import DIM, toy_bundle
from unclip_jax import api
from unclip_jax.checkpoint.bundle import save
from unclip_jax.cli.evaluate import evaluate
from unclip_jax.core.types import TextFeatures
from unclip_jax.evals import edits, examples, gallery, inversion
from unclip_jax.evals.runner import run_suite
from unclip_jax.evals.settings import Settings
from unclip_jax.models.pca import fit_pca, unit_moments
from unclip_jax.sampling import manipulate

SETTINGS = Settings("shapes:size=32,count=24", splits=("test",), prompts=8, batch=8, limit=4)


@pytest.fixture(scope="module")
def model():
    rows = np.random.default_rng(0).standard_normal((50, DIM))
    return dataclasses.replace(toy_bundle(), pca=fit_pca(unit_moments(rows)))


def test_inversion_reports_the_psnr_of_what_is_rebuilt(model, monkeypatch, tmp_path):
    monkeypatch.setattr(inversion, "LEVELS", (4, 8))
    figures = run_suite("inversion", model, SETTINGS)
    assert list(figures) == ["psnr_4", "latent_std_4", "psnr_8", "latent_std_8"]
    held_out = examples.load_splits(SETTINGS, ("test",), size=16, limit=4)
    made = api.vary(model, held_out.images, eta=0.0, size=16, invert_steps=8)
    error = (made.astype(np.float64) - held_out.images) ** 2
    expected = (10 * np.log10(255.0**2 / error.mean((1, 2, 3)))).mean()
    assert figures["psnr_8"].value == pytest.approx(expected, abs=0.05)
    assert figures["psnr_8"].n == 4
    inversion.plot_curve(tmp_path / "curve.png", "inversion", figures)
    with Image.open(tmp_path / "curve.png") as image:
        assert image.width > 300


def test_edits_say_who_judges(model, monkeypatch):
    monkeypatch.setattr(edits, "LEVELS", 4)
    monkeypatch.setattr(edits, "THETAS", 3)
    own = run_suite("edits", model, SETTINGS)
    assert all("/own_clip_" in name for name in own)
    other = run_suite("edits", model, dataclasses.replace(SETTINGS, judge=toy_bundle(seed=1)))
    assert all("/judge_" in name for name in other)
    first = {other[f"from_{x}/judge_cosine_0.0"].value for x in ("caption", "dummy", "nothing")}
    assert np.ptp(list(first)) < 1e-3  # theta 0 is the rebuilt picture, whatever the texts


def test_rises_are_differences_of_the_cosines():
    cosine = np.asarray([[0.1, 0.3, 0.2], [0.3, 0.3, 0.6]])
    figures = edits.theta_figures("x", cosine)
    assert figures["x_cosine_0.5"].value == pytest.approx(0.4)
    assert figures["x_rise_to_0.2"].value == pytest.approx(0.1)
    assert figures["x_rise_to_0.5"].value == pytest.approx(0.1)
    assert figures["x_rise_to_0.5"].floor == 0.0


def test_an_edit_is_judged_by_the_text_it_goes_to(model, monkeypatch):
    """By construction: picture i at the j-th theta has the cosine j / 10 with its target."""
    pictures = np.zeros((2, 16, 16, 3), np.uint8)
    held = examples.Examples(pictures, (("a sun",), ("a car",)), ("sun", "car"), ("", ""))
    unit = dict(zip(["a sun", "a car"], np.eye(4), strict=False))
    cosines, asked = np.arange(edits.THETAS) / 10, []

    def edit(model, images, to, *, source, frames, max_theta, **settings):
        asked.append((to, source, frames, max_theta))
        return np.zeros((2 * frames, 16, 16, 3), np.uint8)

    def embed(judge, images, report):
        across = np.sqrt(1 - cosines**2)[:, None] * np.eye(4)[3]
        return np.concatenate([cosines[:, None] * unit[to] + across for to in ("a car", "a sun")])

    monkeypatch.setattr(edits, "load_splits", lambda *args, **settings: held)
    monkeypatch.setattr(edits, "embed_images", embed)
    monkeypatch.setattr(edits.api, "edit", edit)
    text = lambda judge, texts: TextFeatures(np.stack([unit[t] for t in texts]))  # noqa: E731
    monkeypatch.setattr(edits.api, "embed_text", text)
    figures = edits.edits(model, SETTINGS)
    targets = ["a car", "a sun"]  # each goes to the other concept
    sources = (["a sun", "a car"], "a picture", None)
    assert asked == [(targets, source, 6, 0.5) for source in sources]
    for name in ("caption", "dummy", "nothing"):
        found = [figures[f"from_{name}/own_clip_cosine_{k / 10}"].value for k in range(6)]
        np.testing.assert_allclose(found, cosines, atol=1e-12)


def test_a_latents_deviation_is_taken_within_each_picture(model, monkeypatch):
    """+-2 about a mean of the picture's own; what is decoded is five grey levels off."""
    monkeypatch.setattr(inversion, "LEVELS", (4,))
    signs = np.tile([[-2.0, 2.0]], (16, 8))[None, :, :, None]
    latent = (signs + np.arange(4)[:, None, None, None] * np.ones(3)).astype(np.float32)
    shown, z = [], np.ones((4, DIM), np.float32)

    def encode(model, images, plan, runner):
        shown.append(np.minimum(images, 250))
        return manipulate.Inverted(z, latent)

    def decode(model, image_emb, keys, plan, *, latent, runner):
        return shown[-1] + np.uint8(5)

    squares = lambda images, size, fit: np.minimum(images, 250)  # noqa: E731
    monkeypatch.setattr(inversion.manipulate, "encode", encode)
    monkeypatch.setattr(inversion.latents, "decode", decode)
    monkeypatch.setattr(inversion.latents, "squares", squares)
    figures = inversion.inversion(model, SETTINGS)
    assert figures["latent_std_4"].value == pytest.approx(2.0)
    assert figures["psnr_4"].value == pytest.approx(20 * np.log10(255 / 5))


def test_a_limit_draws_by_the_seed(model):
    whole = examples.load_examples(SETTINGS, "test", size=8)
    drawn = []
    for seed in range(4):
        settings = dataclasses.replace(SETTINGS, seed=seed)
        few = examples.load_examples(settings, "test", size=8, limit=3)
        same = (few.images[:, None] == whole.images[None]).all((2, 3, 4))
        drawn.append(tuple(same.argmax(1)))
        assert same.any(1).all() and list(drawn[-1]) == sorted(set(drawn[-1]))
    assert len(set(drawn)) > 1 and max(map(max, drawn)) >= 3


def test_splits_together_are_drawn_from_all():
    data = "shapes:size=32,count=24"
    apart = [examples.load_examples(SETTINGS, s, size=8) for s in ("train", "test")]
    both = examples.load_splits(Settings(data), ("train", "test"), size=8)
    assert len(both) == sum(map(len, apart))
    np.testing.assert_array_equal(both.images[-len(apart[1]) :], apart[1].images)
    few = examples.load_splits(Settings(data), ("train", "test"), size=8, limit=5)
    assert len(few) == 5


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
    gallery.write(tmp_path, dataclasses.replace(model, pca=None), SETTINGS, {})
    assert "has no PCA" in (tmp_path / "README.md").read_text()


def test_a_word_is_written_within_the_picture():
    green = np.full((64, 64, 3), (0, 200, 0), np.uint8)
    made = gallery.written_on(green, "BANANA")
    changed = (made != green).any(-1)
    assert changed[:30].sum() == 0 and not changed[:, :4].any() and not changed[:, 60:].any()
    assert 0.05 < changed.mean() < 0.4
