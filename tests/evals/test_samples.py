"""The samples suite on embeddings and images whose answer is known."""

import dataclasses

import numpy as np
import pytest

from tests.evals.suites import SETTINGS, check_metrics, make_examples
from tests.toy import toy_bundle
from unclip_jax.core.errors import UserError
from unclip_jax.evals.runner import run_suite
from unclip_jax.evals.samples import choose_prompts, concept_hits, pixel_distance, sample_metrics


def test_concept_hits_use_each_concepts_best_image():
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


def test_sample_metrics_of_copies():
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (4, 2, 2, 3), np.uint8)
    train = make_examples(["a", "b", "c", "d"], images)
    emb = np.eye(4)
    results = sample_metrics(
        (emb[:3], images[:3]), train.take([0, 1, 2]), (emb, train), (emb, train)
    )
    assert results["top_1"].value == 1.0
    assert results["top_1"].baseline == pytest.approx(0.25)
    assert results["nearest_training_cosine"].value == pytest.approx(1.0)
    assert results["nearest_training_rms"].value < 0.1


def test_sample_metrics_tell_samples_from_real_images():
    """Samples are copies; the real one is like the first concept in CLIP, another in fact."""
    gray = np.array([0, 60, 120, 180, 70], np.uint8)[:, None, None, None]
    images = np.broadcast_to(gray, (5, 2, 2, 3)).copy()
    train = make_examples(["a", "b", "c", "d"], images[:4])
    emb, real = np.eye(5)[:4], np.array([[0.8, 0.0, 0.0, 0.0, 0.6]])
    held_out = make_examples(["b"], images[4:])
    chosen = train.take([0, 1])
    results = sample_metrics((emb[:2], images[:2]), chosen, (real, held_out), (emb, train))
    expected = {"top_1": 1.0, "real_top_1": 0.0, "top_5": 1.0, "real_top_5": 1.0}
    expected |= {"nearest_training_cosine": 1.0, "real_nearest_training_cosine": 0.8}
    expected |= {"nearest_training_rms": 0.0, "real_nearest_training_rms": 10.0}
    assert {name: results[name].value for name in expected} == pytest.approx(expected, abs=0.01)
    assert [results[f"{kind}top_1"].n for kind in ("", "real_")] == [2, 1]


def test_samples_need_an_eval_clip_and_report_chance(model, tmp_path):
    with pytest.raises(UserError, match="--eval-clip"):
        run_suite("samples", model, SETTINGS)
    settings = dataclasses.replace(SETTINGS, eval_clip=toy_bundle(seed=1), sample_size=16)
    settings = dataclasses.replace(settings, image_folder=tmp_path)
    results = run_suite("samples", model, settings)
    assert [path.name for path in tmp_path.iterdir()] == ["samples_images.png"]
    check_metrics(results)
    assert results["top_1"].n == 8
    assert 0.0 < results["top_1"].baseline < results["top_5"].baseline < 1.0
    assert results["nearest_training_rms"].value > 1.0
