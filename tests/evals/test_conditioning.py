"""The conditioning suite: errors in closed form, swapped inputs, bicubic, the batch."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from tests.evals.suites import SETTINGS, check_metrics
from tests.toy import DIM, SIZE, toy_bundle
from unclip_jax import api
from unclip_jax.core.types import Cond, TextFeatures
from unclip_jax.data.images import to_float, to_uint8
from unclip_jax.diffusion.schedules import make_schedule
from unclip_jax.evals import conditioning
from unclip_jax.evals.conditioning import denoising_errors, rise_metrics
from unclip_jax.evals.runner import run_suite
from unclip_jax.evals.settings import Settings
from unclip_jax.sampling.encode import encode_text


def test_a_prior_is_scored_in_the_space_it_diffuses():
    """z 4 / |z|, as the toy's norm says; the swapped caption is another example's."""
    z = np.random.default_rng(4).normal(size=(3, DIM)).astype(np.float32)
    text, swap = TextFeatures(text_emb=np.eye(3, dtype=np.float32)), np.array([1, 2, 0])
    x0, conds = conditioning.prior_cases(toy_bundle(), "prior_diffusion", z, text, swap)
    np.testing.assert_allclose(x0, 4 * z / np.linalg.norm(z, axis=1, keepdims=True), rtol=1e-5)
    np.testing.assert_array_equal(conds["true"].text.text_emb, np.eye(3))
    np.testing.assert_array_equal(conds["caption"].text.text_emb, np.eye(3)[swap])


def test_one_input_of_the_decoder_is_swapped_at_a_time():
    images = np.random.default_rng(5).integers(0, 256, (3, 2 * SIZE, 2 * SIZE, 3), np.uint8)
    z, swap = np.eye(3, dtype=np.float32), np.array([1, 2, 0])
    text = TextFeatures(text_emb=10 * z)
    x0, conds = conditioning.decoder_cases(toy_bundle(), "decoder", images, z, text, swap)
    small = images.reshape(3, SIZE, 2, SIZE, 2, 3).mean((2, 4), dtype=np.float64)
    np.testing.assert_allclose((x0 + 1) * 127.5, small, atol=1.0)
    order = {"swap": swap, "own": np.arange(3)}
    expected = {
        "true": ("own", "own"),
        "image_emb": ("swap", "own"),
        "caption": ("own", "swap"),
        "true_caption_alone": (None, "own"),
        "caption_alone": (None, "swap"),
    }
    assert set(conds) == set(expected)
    for name, (image, caption) in expected.items():
        np.testing.assert_array_equal(conds[name].text.text_emb, 10 * z[order[caption]])
        if image is None:
            assert conds[name].image_emb is None
        else:
            np.testing.assert_array_equal(conds[name].image_emb, z[order[image]])


def test_rise_metrics():
    errors = {"true": np.array([0.1, 0.2, 0.3]), "caption": np.array([0.3, 0.4, 0.5])}
    results = rise_metrics("decoder", errors, np.array(["a", "b", "c"]))
    assert results["decoder/mse"].value == pytest.approx(0.2)
    assert results["decoder/rise_caption"].value == pytest.approx(0.2)
    assert results["decoder/rise_caption"].low == pytest.approx(0.2)


def test_a_condition_is_set_against_its_own_true_one():
    ones = np.ones(3)
    errors = {"true": ones, "caption": 2 * ones, "true_alone": 4 * ones, "alone": 7 * ones}
    results = rise_metrics("decoder", errors, np.array(["a", "b", "c"]))
    assert results["decoder/rise_caption"].value == pytest.approx(1.0)
    assert results["decoder/rise_alone"].value == pytest.approx(3.0)
    assert "decoder/rise_true_alone" not in results


def test_an_upsampler_is_set_against_bicubic(monkeypatch):
    """One that returns the true images beats it; the rows of the last batch are the last images."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 8, 8, 3), np.uint8)
    low_res = images[:, ::4, ::4]

    def exact(model, stage, cond, *, key):
        small = np.asarray(to_uint8(jnp.asarray(cond.low_res)))
        rows = [int(np.argmin(np.abs(low_res.astype(int) - row).sum((1, 2, 3)))) for row in small]
        return np.asarray(to_float(images[rows]))

    monkeypatch.setattr(conditioning.api, "run_stage", exact)
    settings = Settings("shapes", batch=3)
    results = conditioning.upsampler_psnr(toy_bundle(), "up", images, low_res, settings)
    cap = 10 * np.log10(255**2 * images[0].size)  # not one gray level off
    assert results["up/psnr"].value == pytest.approx(cap)
    over = cap - results["up/psnr_bicubic"].value
    assert over > 20 and results["up/psnr_over_bicubic"].value == pytest.approx(over)
    assert results["up/psnr"].baseline == pytest.approx(results["up/psnr_bicubic"].value)


def test_errors_are_means_over_the_noise_levels():
    """A decoder that says nothing of black images: v is alpha eps, of mean square alpha^2."""
    model = toy_bundle()
    stage = model.stage("decoder")
    silent = {k: np.zeros_like(v) for k, v in stage.params["unet"]["conv_out"].items()}
    params = {**stage.params, "unet": {**stage.params["unet"], "conv_out": silent}}
    stage = dataclasses.replace(stage, params=params)
    model = dataclasses.replace(model, stages={**model.stages, "decoder": stage})
    n = 8
    text = encode_text(model, ["a red heart"] * n)
    cond = Cond(image_emb=np.ones((n, DIM), np.float32), text=text)
    x0 = np.zeros((n, SIZE, SIZE, 3), np.float32)
    found = denoising_errors(model, "decoder", x0, {"true": cond}, Settings("shapes", batch=4))
    bar = make_schedule("cosine", 1000).alpha_bar[[100, 300, 500, 700, 900]]
    # chi^2 of n 768 numbers a level, five standard deviations
    spread = np.sqrt(2 * np.square(bar).sum() / (n * x0[0].size)) / 5
    assert found["true"].mean() == pytest.approx(bar.mean(), abs=5 * spread)


def test_the_rise_is_the_error_that_an_swapped_input_makes(model, monkeypatch):
    """By construction: a network that answers v of an image of one gray, which its z_i names.

    With its own z_i the error is 0. With another's the estimate of x_0 is off by the difference d
    of the grays, so that v = alpha eps - sigma x_0 is off by sigma d + alpha (eps' - eps), and eps'
    - eps = -alpha d / sigma: v is off by d / sigma, and the error rises by d^2 / sigma^2. A caption
    that it does not read changes nothing.
    """
    spec = model.stage("decoder").spec
    schedule = make_schedule("cosine", 1000)
    gray = np.array([-0.8, -0.1, 0.3, 0.9])
    x0 = np.broadcast_to(gray[:, None, None, None], (4, 16, 16, 3)).astype(np.float32)

    def network(params, x_t, t, cond):
        level = schedule.level(t, x_t.dtype).expand(4)
        clean = cond.image_emb[:, :1, None, None] * jnp.ones_like(x_t)
        eps = (x_t - level.alpha * clean) / level.sigma
        v = level.alpha * eps - level.sigma * clean
        return jnp.concatenate([v, jnp.zeros_like(v)], axis=-1)

    monkeypatch.setattr(api, "denoise_fn", lambda model, stage: network)
    z, swap = gray[:, None].astype(np.float32), np.array([2, 3, 1, 0])
    text = TextFeatures(text_emb=np.eye(4, dtype=np.float32))
    other = TextFeatures(text_emb=np.eye(4, dtype=np.float32)[swap])
    conds = {
        "true": Cond(image_emb=z, text=text),
        "image_emb": Cond(image_emb=z[swap], text=text),
        "caption": Cond(image_emb=z, text=other),
    }
    assert spec.diffusion.prediction == "v"
    errors = denoising_errors(model, "decoder", x0, conds, SETTINGS)
    results = rise_metrics("decoder", errors, np.arange(4))
    # Nichol & Dhariwal 2021, eq. 17: sigma^2 of the cosine schedule at the five levels.
    level = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
    alpha_bar = np.cumprod(1 - np.minimum(1 - level[1:] / level[:-1], 0.999))
    variance = 1 - alpha_bar[[100, 300, 500, 700, 900]]
    expected = np.square(gray - gray[swap]).mean() * (1 / variance).mean()
    assert results["decoder/rise_image_emb"].value == pytest.approx(expected, rel=1e-3)
    assert results["decoder/rise_caption"].value == 0.0
    assert results["decoder/mse"].value == pytest.approx(0.0, abs=1e-6)


def test_conditioning_measures_every_stage(model, tmp_path):
    settings = dataclasses.replace(SETTINGS, image_folder=tmp_path)
    results = run_suite("conditioning", model, settings)
    assert [path.name for path in tmp_path.iterdir()] == ["conditioning_images.png"]
    check_metrics(results)
    inputs = {"prior_diffusion": ["caption"], "upsampler_256": ["low_res"]}
    inputs["decoder"] = ["image_emb", "caption", "caption_alone"]
    rises = {f"{stage}/rise_{name}" for stage, names in inputs.items() for name in names}
    assert {name for name in results if "/rise_" in name} == rises
    psnr = results["upsampler_256/psnr"]
    bicubic = results["upsampler_256/psnr_bicubic"]
    assert psnr.baseline == pytest.approx(bicubic.value)
    assert bicubic.value > 12.0  # enlarged flat forms are near the truth; noise is at 8 dB
    over = results["upsampler_256/psnr_over_bicubic"]
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


def test_the_upsamplers_psnr_does_not_depend_on_the_batch(model):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    small = images[:, ::2, ::2]
    found = [
        conditioning.upsampler_psnr(
            model, "upsampler_256", images, small, Settings("none", batch=batch)
        )["upsampler_256/psnr"].value
        for batch in (2, 3)
    ]
    assert found[0] == pytest.approx(found[1], abs=1e-3)
