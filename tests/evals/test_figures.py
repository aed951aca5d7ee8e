"""Priors, samples and conditioning figures on embeddings whose answer is known."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from tests.toy import DIM, SIZE, toy_bundle
from unclip_jax.core.types import Cond, TextFeatures
from unclip_jax.data.images import to_float, to_uint8
from unclip_jax.diffusion.schedules import make_schedule
from unclip_jax.evals import conditioning, report
from unclip_jax.evals.conditioning import denoising_errors, rise_figures
from unclip_jax.evals.examples import Examples
from unclip_jax.evals.metrics import Figure
from unclip_jax.evals.priors import Embedded, Training, drawn_figures, prior_figures
from unclip_jax.evals.samples import (
    choose_prompts,
    concept_hits,
    pixel_distance,
    sample_figures,
)
from unclip_jax.evals.settings import Settings
from unclip_jax.sampling.encode import encode_text


def make_examples(concepts, images=None):
    n = len(concepts)
    if images is None:
        images = np.zeros((n, 2, 2, 3), np.uint8)
    captions = tuple((f"a {name}",) for name in concepts)
    return Examples(images, captions, tuple(concepts), ("",) * n)


def unit(rng, n, d=8):
    x = rng.normal(size=(n, d))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_prior_figures():
    rng = np.random.default_rng(0)
    concepts = ["a", "b", "c", "d"]
    true, text = np.eye(8)[:4], np.roll(np.eye(8)[:4], 4, axis=1)
    held_out = Embedded(make_examples(concepts), concepts, true, text)
    train_emb = unit(rng, 5)
    training = Training(train_emb, unit(rng, 7), owner=np.array([3, 0, 4, 4, 1, 2, 2]))
    figures = prior_figures(0.6 * true + 0.8 * text, held_out, training, seed=0)
    assert figures["cosine"].value == pytest.approx(0.6)
    assert figures["cosine_text_embedding"].value == pytest.approx(0.0)
    assert figures["cosine_unrelated_caption"].value == pytest.approx(0.0)
    assert figures["over_text_embedding"].low == pytest.approx(0.6)
    mean = train_emb.mean(0) / np.linalg.norm(train_emb.mean(0))
    assert figures["cosine_mean_embedding"].value == pytest.approx(mean[:4].mean())
    nearest = training.owner[(text @ training.caption_emb.T).argmax(1)]
    expected = np.mean([train_emb[j, i] for i, j in enumerate(nearest)])
    assert figures["cosine_nearest_caption"].value == pytest.approx(expected)
    best = max(f.value for n, f in figures.items() if n.startswith("cosine_"))
    assert figures["cosine"].floor == pytest.approx(best)


def test_prior_that_repeats_the_mean_beats_it_by_nothing():
    rng = np.random.default_rng(1)
    concepts = [str(i) for i in range(6)]
    held_out = Embedded(make_examples(concepts), concepts, unit(rng, 6), unit(rng, 6))
    training = Training(unit(rng, 6), unit(rng, 6), owner=np.arange(6))
    mean = np.repeat(training.image_emb.mean(0, keepdims=True), 6, axis=0)
    figure = prior_figures(mean, held_out, training, seed=0)["over_mean_embedding"]
    np.testing.assert_allclose([figure.value, figure.low, figure.high], 0.0, atol=1e-12)


def test_concept_hits_use_each_concepts_best_picture():
    gallery, names = np.eye(4)[[0, 1, 1, 2]], ("a", "b", "b", "c")
    emb = np.array([[0.9, 0.5, 0.1, 0.0], [0.9, 0.5, 0.1, 0.0], [0.0, 0.2, 0.9, 0.0]])
    hits = concept_hits(emb, ("a", "b", "c"), gallery, names)
    np.testing.assert_array_equal(hits[1][0], [True, False, True])
    assert hits[1][1] == pytest.approx(1 / 3)
    assert hits[5][1] == 1.0


def test_pixel_distance_is_the_smallest_rms():
    rng = np.random.default_rng(2)
    images, gallery = (rng.integers(0, 256, (n, 4, 4, 3), np.uint8) for n in (3, 5))
    brute = [
        min(np.sqrt(np.mean((a.astype(float) - b.astype(float)) ** 2)) for b in gallery)
        for a in images
    ]
    np.testing.assert_allclose(pixel_distance(images, gallery), brute, rtol=1e-5)
    assert pixel_distance(gallery[2:3], gallery)[0] < 0.1


def test_choose_prompts_are_of_different_concepts():
    examples = make_examples(["a", "b", "a", "c", "b", "d"])
    chosen, prompts = choose_prompts(examples, 3, seed=0)
    assert len(set(chosen.concepts)) == 3
    assert prompts == [f"a {name}" for name in chosen.concepts]
    assert len(choose_prompts(examples, 99, seed=0)[0]) == 4
    assert choose_prompts(examples, 3, seed=0)[1] == prompts


def test_sample_figures_of_copies():
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (4, 2, 2, 3), np.uint8)
    train = make_examples(["a", "b", "c", "d"], images)
    emb = np.eye(4)
    figures = sample_figures(
        (emb[:3], images[:3]), train.take([0, 1, 2]), (emb, train), (emb, train)
    )
    assert figures["top_1"].value == 1.0
    assert figures["top_1"].floor == pytest.approx(0.25)
    assert figures["nearest_training_cosine"].value == pytest.approx(1.0)
    assert figures["nearest_training_rms"].value < 0.1


def test_sample_figures_tell_samples_from_real_pictures():
    """Samples are copies; the real one is like the first concept in CLIP, another in fact."""
    grey = np.array([0, 60, 120, 180, 70], np.uint8)[:, None, None, None]
    images = np.broadcast_to(grey, (5, 2, 2, 3)).copy()
    train = make_examples(["a", "b", "c", "d"], images[:4])
    emb, real = np.eye(5)[:4], np.array([[0.8, 0.0, 0.0, 0.0, 0.6]])
    held_out = make_examples(["b"], images[4:])
    chosen = train.take([0, 1])
    figures = sample_figures((emb[:2], images[:2]), chosen, (real, held_out), (emb, train))
    expected = {"top_1": 1.0, "real_top_1": 0.0, "top_5": 1.0, "real_top_5": 1.0}
    expected |= {"nearest_training_cosine": 1.0, "real_nearest_training_cosine": 0.8}
    expected |= {"nearest_training_rms": 0.0, "real_nearest_training_rms": 10.0}
    assert {name: figures[name].value for name in expected} == pytest.approx(expected, abs=0.01)
    assert [figures[f"{kind}top_1"].n for kind in ("", "real_")] == [2, 1]


def test_a_prior_is_scored_in_the_space_it_diffuses():
    """z 4 / |z|, as the toy's norm says; the exchanged caption is another example's."""
    z = np.random.default_rng(4).normal(size=(3, DIM)).astype(np.float32)
    text, swap = TextFeatures(text_emb=np.eye(3, dtype=np.float32)), np.array([1, 2, 0])
    x0, conds = conditioning.prior_cases(toy_bundle(), "prior_diffusion", z, text, swap)
    np.testing.assert_allclose(x0, 4 * z / np.linalg.norm(z, axis=1, keepdims=True), rtol=1e-5)
    np.testing.assert_array_equal(conds["true"].text.text_emb, np.eye(3))
    np.testing.assert_array_equal(conds["caption"].text.text_emb, np.eye(3)[swap])


def test_one_input_of_the_decoder_is_exchanged_at_a_time():
    images = np.random.default_rng(5).integers(0, 256, (3, 2 * SIZE, 2 * SIZE, 3), np.uint8)
    z, swap = np.eye(3, dtype=np.float32), np.array([1, 2, 0])
    text = TextFeatures(text_emb=10 * z)
    x0, conds = conditioning.decoder_cases(toy_bundle(), images, z, text, swap)
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


def test_rise_figures():
    errors = {"true": np.array([0.1, 0.2, 0.3]), "caption": np.array([0.3, 0.4, 0.5])}
    figures = rise_figures("decoder", errors, np.array(["a", "b", "c"]))
    assert figures["decoder/mse"].value == pytest.approx(0.2)
    assert figures["decoder/rise_caption"].value == pytest.approx(0.2)
    assert figures["decoder/rise_caption"].low == pytest.approx(0.2)


def test_a_condition_is_set_against_its_own_true_one():
    ones = np.ones(3)
    errors = {"true": ones, "caption": 2 * ones, "true_alone": 4 * ones, "alone": 7 * ones}
    figures = rise_figures("decoder", errors, np.array(["a", "b", "c"]))
    assert figures["decoder/rise_caption"].value == pytest.approx(1.0)
    assert figures["decoder/rise_alone"].value == pytest.approx(3.0)
    assert "decoder/rise_true_alone" not in figures


def test_report(tmp_path):
    figures = {
        "cosine": Figure(0.5, 0.4, 0.6, 10, 0.1),
        "upsampler_256/psnr": Figure(30.0, None, None, 4, None),
    }
    result = report.write(tmp_path, "priors", figures, {"model": "m"})
    assert result == json.loads((tmp_path / "priors.json").read_text(encoding="utf-8"))
    assert result["suite"] == "priors"
    assert result["metrics"]["cosine"] == {
        "value": 0.5,
        "low": 0.4,
        "high": 0.6,
        "n": 10,
        "floor": 0.1,
    }
    table = (tmp_path / "priors.md").read_text(encoding="utf-8")
    assert "| cosine | 0.5000 | 0.4000 to 0.6000 | 0.1000 | 10 |" in table
    assert (tmp_path / "priors.png").read_bytes().startswith(b"\x89PNG")


def test_drawn_figures():
    """Draws along the true embeddings, z_t at right angles to them."""
    true, text = np.eye(8)[:4], np.roll(np.eye(8)[:4], 4, axis=1)
    concepts = ["a", "b", "c", "d"]
    held_out = Embedded(make_examples(concepts), concepts, true, text)
    draws = np.stack([2.0 * true, 0.6 * true + 0.8 * text])
    figures = drawn_figures(draws, held_out)
    assert figures["cosine_to_text"].value == pytest.approx(0.0, abs=1e-12)
    assert figures["diversity"].value == pytest.approx(1.0 - 0.6)
    assert figures["frechet"].value == pytest.approx(0.0, abs=1e-7)


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
    figures = conditioning.upsampler_psnr(toy_bundle(), "up", images, low_res, settings)
    cap = 10 * np.log10(255**2 * images[0].size)  # not one grey level off
    assert figures["up/psnr"].value == pytest.approx(cap)
    over = cap - figures["up/psnr_bicubic"].value
    assert over > 20 and figures["up/psnr_over_bicubic"].value == pytest.approx(over)
    assert figures["up/psnr"].floor == pytest.approx(figures["up/psnr_bicubic"].value)


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
