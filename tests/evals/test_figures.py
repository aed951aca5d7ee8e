"""Priors, samples and conditioning figures on embeddings whose answer is known."""

import json

import numpy as np
import pytest

from unclip_jax.evals import report
from unclip_jax.evals.conditioning import rise_figures
from unclip_jax.evals.examples import Examples
from unclip_jax.evals.metrics import Figure
from unclip_jax.evals.priors import Embedded, prior_figures
from unclip_jax.evals.samples import (
    choose_prompts,
    concept_hits,
    pixel_distance,
    sample_figures,
)


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
    training = Embedded(make_examples(["v", "w", "x", "y", "z"]), [], train_emb, unit(rng, 5))
    figures = prior_figures(0.6 * true + 0.8 * text, held_out, training, seed=0)
    assert figures["cosine"].value == pytest.approx(0.6)
    assert figures["cosine_text_embedding"].value == pytest.approx(0.0)
    assert figures["cosine_unrelated_caption"].value == pytest.approx(0.0)
    assert figures["over_text_embedding"].low == pytest.approx(0.6)
    mean = train_emb.mean(0) / np.linalg.norm(train_emb.mean(0))
    assert figures["cosine_mean_embedding"].value == pytest.approx(mean[:4].mean())
    nearest = (text @ training.text_emb.T).argmax(1)
    expected = np.mean([train_emb[j, i] for i, j in enumerate(nearest)])
    assert figures["cosine_nearest_caption"].value == pytest.approx(expected)
    best = max(f.value for n, f in figures.items() if n.startswith("cosine_"))
    assert figures["cosine"].floor == pytest.approx(best)


def test_prior_that_repeats_the_mean_beats_it_by_nothing():
    rng = np.random.default_rng(1)
    concepts = [str(i) for i in range(6)]
    held_out = Embedded(make_examples(concepts), concepts, unit(rng, 6), unit(rng, 6))
    training = Embedded(make_examples(concepts), [], unit(rng, 6), unit(rng, 6))
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
