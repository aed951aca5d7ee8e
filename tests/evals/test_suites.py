"""Every suite from end to end on a toy bundle and procedural pictures, and the command."""

import dataclasses
import json
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.toy import toy_bundle, with_prior_ar
from unclip_jax import api
from unclip_jax.checkpoint.bundle import Stage, save
from unclip_jax.cli.evaluate import evaluate, held_out_splits
from unclip_jax.core.errors import UserError
from unclip_jax.core.types import Cond, TextFeatures
from unclip_jax.data import sources
from unclip_jax.data.ingest import ingest
from unclip_jax.diffusion.schedules import make_schedule
from unclip_jax.evals import pca as pca_suite
from unclip_jax.evals.conditioning import denoising_errors, rise_figures
from unclip_jax.evals.examples import Examples
from unclip_jax.evals.pca import residual, spectrum_figures
from unclip_jax.evals.runner import run_suite
from unclip_jax.evals.settings import Settings
from unclip_jax.models.pca import Pca, fit_pca, unit_moments
from unclip_jax.models.pca_codec import (
    CodecConfig,
    codec_of,
    make_codec,
    round_trip_error,
    with_codec,
)

SETTINGS = Settings("shapes:size=32,count=24", splits=("test",), prompts=8, batch=8, limit=12)


@pytest.fixture(scope="module")
def model():
    return toy_bundle()


def check(figures):
    for figure in figures.values():
        assert np.isfinite(figure.value)
        if figure.low is not None:
            assert figure.low - 1e-9 <= figure.value <= figure.high + 1e-9
        assert figure.n > 0


def test_retrieval(model):
    said = []
    settings = dataclasses.replace(SETTINGS, report=lambda *part: said.append(part))
    figures = run_suite("retrieval", model, settings)
    assert {what for what, _, _ in said} == {
        "reading test",
        "embedding images",
        "embedding captions",
    }
    assert all(0 <= done < total for _, done, total in said)
    check(figures)
    assert {"test/recall_at_1", "test/recall_at_5"} <= set(figures)
    assert figures["test/recall_at_1"].value <= figures["test/recall_at_5"].value
    assert 0.0 < figures["test/recall_at_1"].floor < figures["test/recall_at_5"].floor <= 1.0


def test_priors(model):
    figures = run_suite("priors", model, SETTINGS)
    check(figures)
    baselines = {"unrelated_caption", "mean_embedding", "nearest_caption", "text_embedding"}
    assert {name.removeprefix("test/over_") for name in figures if "over" in name} == baselines
    assert all(abs(f.value) <= 1.0 for name, f in figures.items() if "cosine" in name)
    assert figures["test/cosine"].n == 12
    assert figures["seconds"].value > 0 and "training_petaflops" not in figures
    assert "decoded/ar/clip_score" not in figures


def test_priors_of_a_bundle_with_two(model, tmp_path):
    settings = dataclasses.replace(SETTINGS, pictures=tmp_path, limit=6)
    both = with_prior_ar(model)
    figures = run_suite("priors", both, settings)
    check(figures)
    for name in ("cosine", "over_mean_embedding", "diversity", "frechet", "cosine_to_text"):
        assert figures[f"test/{name}"].value != figures[f"test/ar/{name}"].value
    for source in ("none", "text", "diffusion", "ar"):
        assert figures[f"decoded/{source}/clip_score"].n == 6
    with Image.open(tmp_path / "priors_pictures.png") as picture:
        assert picture.height >= 5 * 16 and picture.width >= 6 * 16
    switched = dataclasses.replace(both, sampling=dataclasses.replace(both.sampling, prior="ar"))
    other = run_suite("priors", switched, dataclasses.replace(SETTINGS, limit=6))
    assert other["test/cosine"].value == pytest.approx(figures["test/ar/cosine"].value)


def test_pca(model, tmp_path):
    judge = toy_bundle(seed=1)
    settings = dataclasses.replace(SETTINGS, judge=judge, pictures=tmp_path, limit=None)
    figures = run_suite("pca", model, settings)
    check(figures)
    for prefix in ("", "judge/"):
        counts = [figures[f"{prefix}components_{share}"].value for share in (50, 90, 99)]
        assert 1 <= counts[0] <= counts[1] <= counts[2] <= 16
        assert 1.0 <= figures[f"{prefix}effective_rank"].value <= 16.0
        assert figures[f"{prefix}test/residual_99"].value < 0.5
    assert figures["components_99"].value != 0 and (tmp_path / "pca_variance.png").exists()


def test_pca_says_what_the_codes_of_a_prior_lose(model):
    """Of codes that keep every component in fine buckets next to nothing, else by its parts."""
    both = with_prior_ar(model)
    settings = dataclasses.replace(SETTINGS, judge=model, limit=None)
    figures = run_suite("pca", both, settings)
    check(figures)
    names = {"error", "error_dropped", "error_buckets", "cosine", "outside"}
    for split in ("train", "test"):
        found = {n.rpartition("/")[2] for n in figures if n.startswith(f"codec/{split}/")}
        assert found == names
    assert not [name for name in figures if name.startswith("judge/codec")]
    stage, source = both.stage("prior_ar"), sources.load_source(SETTINGS.data, "test")
    images = np.stack([source[i]["image"] for i in range(len(source))])
    z = api.embed_image(both, images)
    cfg, codec = stage.spec.model.codec, codec_of(stage.params)
    error = round_trip_error(codec, cfg, z)
    assert figures["codec/test/error"].value == pytest.approx(error, rel=1e-4)
    fitted = fit_pca(unit_moments(z))
    fine = CodecConfig(components=16, buckets=4096, limit=8.0)
    params = with_codec(stage.params, make_codec(fitted, fine, np.zeros(2)))
    spec = dataclasses.replace(stage.spec.model, codec=fine, positions=18)
    stages = {**both.stages, "prior_ar": Stage(dataclasses.replace(stage.spec, model=spec), params)}
    whole = run_suite("pca", dataclasses.replace(both, stages=stages), SETTINGS)
    assert whole["codec/test/error"].value < 1e-3 < figures["codec/test/error"].value
    assert whole["codec/test/cosine"].value > 0.9999


def test_spectrum_of_known_eigenvalues():
    """Four equal ones have rank 4 and half of the variance in two."""
    fitted = Pca(np.zeros(5), np.eye(5), np.array([1.0, 1.0, 1.0, 1.0, 0.0]))
    figures = spectrum_figures(fitted, 9)
    assert figures["effective_rank"].value == pytest.approx(4.0)
    assert figures["components_50"].value == 2 and figures["components_99"].value == 4


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
    figures = pca_suite.codec_figures(with_prior_ar(model), "test", held, 3 * np.eye(4))
    expected = {"error": 0.4, "error_dropped": 0.2, "error_buckets": 0.1}
    expected |= {"cosine": 0.9, "outside": 0.5}
    found = {name.removeprefix("codec/test/"): f.value for name, f in figures.items()}
    assert found == pytest.approx(expected)


def test_the_rise_is_the_error_that_an_exchanged_input_makes(model, monkeypatch):
    """By construction: a network that answers v of an image of one grey, which its z_i names.

    With its own z_i the error is 0. With another's the estimate of x_0 is off by the difference d
    of the greys, so that v = alpha eps - sigma x_0 is off by sigma d + alpha (eps' - eps), and eps'
    - eps = -alpha d / sigma: v is off by d / sigma, and the error rises by d^2 / sigma^2. A caption
    that it does not read changes nothing.
    """
    spec = model.stage("decoder").spec
    schedule = make_schedule("cosine", 1000)
    grey = np.array([-0.8, -0.1, 0.3, 0.9])
    x0 = np.broadcast_to(grey[:, None, None, None], (4, 16, 16, 3)).astype(np.float32)

    def network(params, x_t, t, cond):
        level = schedule.level(t, x_t.dtype).expand(4)
        clean = cond.image_emb[:, :1, None, None] * jnp.ones_like(x_t)
        eps = (x_t - level.alpha * clean) / level.sigma
        v = level.alpha * eps - level.sigma * clean
        return jnp.concatenate([v, jnp.zeros_like(v)], axis=-1)

    monkeypatch.setattr(api, "denoise_fn", lambda model, stage: network)
    z, swap = grey[:, None].astype(np.float32), np.array([2, 3, 1, 0])
    text = TextFeatures(text_emb=np.eye(4, dtype=np.float32))
    other = TextFeatures(text_emb=np.eye(4, dtype=np.float32)[swap])
    conds = {
        "true": Cond(image_emb=z, text=text),
        "image_emb": Cond(image_emb=z[swap], text=text),
        "caption": Cond(image_emb=z, text=other),
    }
    assert spec.diffusion.prediction == "v"
    errors = denoising_errors(model, "decoder", x0, conds, SETTINGS)
    figures = rise_figures("decoder", errors, np.arange(4))
    # Nichol & Dhariwal 2021, eq. 17: sigma^2 of the cosine schedule at the five levels.
    level = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
    alpha_bar = np.cumprod(1 - np.minimum(1 - level[1:] / level[:-1], 0.999))
    variance = 1 - alpha_bar[[100, 300, 500, 700, 900]]
    expected = np.square(grey - grey[swap]).mean() * (1 / variance).mean()
    assert figures["decoder/rise_image_emb"].value == pytest.approx(expected, rel=1e-3)
    assert figures["decoder/rise_caption"].value == 0.0
    assert figures["decoder/mse"].value == pytest.approx(0.0, abs=1e-6)


def test_conditioning_measures_every_stage(model):
    figures = run_suite("conditioning", model, SETTINGS)
    check(figures)
    inputs = {"prior_diffusion": ["caption"], "upsampler_256": ["low_res"]}
    inputs["decoder"] = ["image_emb", "caption", "caption_alone"]
    rises = {f"{stage}/rise_{name}" for stage, names in inputs.items() for name in names}
    assert {name for name in figures if "/rise_" in name} == rises
    psnr = figures["upsampler_256/psnr"]
    bicubic = figures["upsampler_256/psnr_bicubic"]
    assert psnr.floor == pytest.approx(bicubic.value)
    assert bicubic.value > 12.0  # enlarged flat forms are near the truth; noise is at 8 dB
    over = figures["upsampler_256/psnr_over_bicubic"]
    assert over.value == pytest.approx(psnr.value - bicubic.value)


def test_errors_depend_on_the_example_and_not_on_the_batch(model):
    rng = np.random.default_rng(0)
    x0 = rng.uniform(-1, 1, (5, 32, 32, 3)).astype(np.float32)
    cond = Cond(low_res=rng.uniform(-1, 1, (5, 16, 16, 3)).astype(np.float32))
    conds = {"true": cond, "again": cond}
    found = [
        denoising_errors(
            model, "upsampler_256", x0, conds, dataclasses.replace(SETTINGS, batch=batch)
        )
        for batch in (2, 5)
    ]
    np.testing.assert_allclose(found[0]["true"], found[1]["true"], rtol=1e-4)
    np.testing.assert_array_equal(found[0]["true"], found[0]["again"])
    assert len(set(np.round(found[0]["true"], 6))) == 5


def test_samples_need_a_judge_and_report_chance(model):
    with pytest.raises(UserError, match="--judge"):
        run_suite("samples", model, SETTINGS)
    settings = dataclasses.replace(SETTINGS, judge=toy_bundle(seed=1), sample_size=16)
    figures = run_suite("samples", model, settings)
    check(figures)
    assert figures["top_1"].n == 8
    assert 0.0 < figures["top_1"].floor < figures["top_5"].floor < 1.0
    assert figures["nearest_training_rms"].value > 1.0


def test_command_writes_the_report(model, tmp_path):
    save(model, tmp_path / "toy")
    args = ["--model", str(tmp_path / "toy"), "--data", SETTINGS.data, "--limit", "6", "--json"]
    run = CliRunner().invoke(evaluate, [*args, "--out", str(tmp_path / "report")])
    assert run.exit_code == 0, run.output
    result = json.loads(run.stdout)
    assert result["suite"] == "retrieval"
    assert set(result["metrics"]["test/recall_at_1"]) == {"value", "low", "high", "n", "floor"}
    assert result["settings"]["splits"] == ["test"]
    written = {path.name for path in (tmp_path / "report").iterdir()}
    assert written == {"retrieval.json", "retrieval.md", "retrieval.png"}


def test_an_ingested_set_is_measured_on_its_own_split(model, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(8):
        Image.new("RGB", (16, 16), (30 * i, 0, 0)).save(pictures / f"{i}.png")
        (pictures / f"{i}.txt").write_text(f"red number {i}")
    ingest(str(pictures), tmp_path / "set", test_share=0.5)
    save(model, tmp_path / "toy")
    args = ["--model", str(tmp_path / "toy"), "--data", str(tmp_path / "set"), "--json"]
    run = CliRunner().invoke(evaluate, [*args, "--out", str(tmp_path / "report")])
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout)["settings"]["splits"] == ["test"]
    ingest(str(pictures), tmp_path / "whole", test_share=0.0)
    with pytest.raises(UserError, match="no held-out split"):
        held_out_splits(str(tmp_path / "whole"))


def test_new_combinations_come_last(monkeypatch):
    sizes = {"test_combinations": 1, "test_concepts": 1, "train": 1}
    monkeypatch.setattr(sources, "split_sizes", lambda name: sizes)
    assert held_out_splits("emoji") == ("test_concepts", "test_combinations")


def test_command_leaves_nothing_behind_on_an_error(tmp_path):
    args = ["--model", "no_such_model", "--data", "shapes", "--out", str(tmp_path / "r")]
    run = CliRunner().invoke(evaluate, args)
    assert isinstance(run.exception, UserError)
    assert list(tmp_path.iterdir()) == []
