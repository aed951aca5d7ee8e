"""The priors suite: metrics of known embeddings, keys per example, every training caption."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from tests.evals.suites import SETTINGS, check_metrics, make_examples, unit
from tests.toy import SIZE, with_prior_ar
from unclip_jax.evals import priors
from unclip_jax.evals.clip_encoder import ClipEncoder
from unclip_jax.evals.examples import Examples
from unclip_jax.evals.priors import EmbeddedSplit, EmbeddedTraining, drawn_metrics, prior_metrics
from unclip_jax.evals.runner import run_suite
from unclip_jax.evals.settings import Settings

CAPTIONS = ["a red heart", "the sun", "a dog face", "a blue car", "a cat face"]


ALONE = Settings("none", splits=("test",), batch=2)


@pytest.fixture(scope="module")
def drawn(model):
    return priors.sample_prior(model, CAPTIONS, ALONE)


def test_prior_metrics():
    rng = np.random.default_rng(0)
    concepts = ["a", "b", "c", "d"]
    true, text = np.eye(8)[:4], np.roll(np.eye(8)[:4], 4, axis=1)
    held_out = EmbeddedSplit(make_examples(concepts), concepts, true, text)
    train_emb = unit(rng, 5)
    training = EmbeddedTraining(train_emb, unit(rng, 7), owner=np.array([3, 0, 4, 4, 1, 2, 2]))
    results = prior_metrics(0.6 * true + 0.8 * text, held_out, training, seed=0)
    assert results["cosine"].value == pytest.approx(0.6)
    assert results["cosine_text_embedding"].value == pytest.approx(0.0)
    assert results["cosine_unrelated_caption"].value == pytest.approx(0.0)
    assert results["over_text_embedding"].low == pytest.approx(0.6)
    mean = train_emb.mean(0) / np.linalg.norm(train_emb.mean(0))
    assert results["cosine_mean_embedding"].value == pytest.approx(mean[:4].mean())
    nearest = training.owner[(text @ training.caption_emb.T).argmax(1)]
    expected = np.mean([train_emb[j, i] for i, j in enumerate(nearest)])
    assert results["cosine_nearest_caption"].value == pytest.approx(expected)
    best = max(f.value for n, f in results.items() if n.startswith("cosine_"))
    assert results["cosine"].baseline == pytest.approx(best)


def test_prior_that_repeats_the_mean_beats_it_by_nothing():
    rng = np.random.default_rng(1)
    concepts = [str(i) for i in range(6)]
    held_out = EmbeddedSplit(make_examples(concepts), concepts, unit(rng, 6), unit(rng, 6))
    training = EmbeddedTraining(unit(rng, 6), unit(rng, 6), owner=np.arange(6))
    mean = np.repeat(training.image_emb.mean(0, keepdims=True), 6, axis=0)
    metric = prior_metrics(mean, held_out, training, seed=0)["over_mean_embedding"]
    np.testing.assert_allclose([metric.value, metric.low, metric.high], 0.0, atol=1e-12)


def test_drawn_metrics(monkeypatch):
    """Draws along the true embeddings, z_t at right angles to them; training images along z_t."""
    true, text = np.eye(8)[:4], np.roll(np.eye(8)[:4], 4, axis=1)
    concepts = ["a", "b", "c", "d"]
    held_out = EmbeddedSplit(make_examples(concepts), concepts, true, text)
    draws = np.stack([2.0 * true, 0.6 * true + 0.8 * text])
    assert "frechet" not in drawn_metrics(draws, held_out, text, 0)  # four are too few
    monkeypatch.setattr(priors, "LEAST_FRECHET", 4)
    results = drawn_metrics(draws, held_out, text, 0)
    assert results["cosine_to_text"].value == pytest.approx(0.0, abs=1e-12)
    assert results["diversity"].value == pytest.approx(1.0 - 0.6)
    frechet = results["frechet"]
    assert frechet.value == pytest.approx(0.0, abs=1e-7)
    # Means 1/4 apart in eight directions; covariances at right angles, of trace 1 each.
    assert frechet.baseline == pytest.approx(8 / 16 + 2.0)
    assert "baseline: 4 images of train" in frechet.reference and frechet.low is None


def test_embeddings_do_not_depend_on_the_batch(model, drawn):
    whole = priors.sample_prior(model, CAPTIONS, dataclasses.replace(ALONE, batch=5))
    np.testing.assert_allclose(whole, drawn, atol=1e-4)
    assert np.abs(np.diff(drawn, axis=0)).max(axis=1).min() > 1e-2


def test_a_draw_of_one_seed_is_no_draw_of_another(model, drawn):
    other = dataclasses.replace(ALONE, seed=1)
    first_of_1 = priors.sample_prior(model, CAPTIONS, other)
    second_of_0 = priors.sample_prior(model, CAPTIONS, ALONE, draw=1)
    for a, b in ((first_of_1, second_of_0), (second_of_0, drawn), (first_of_1, drawn)):
        assert np.abs(a - b).max(axis=1).min() > 1e-2


def test_three_timings_are_no_interval(model, monkeypatch):
    monkeypatch.setattr(priors, "sample_prior", lambda *args: None)
    results = priors.cost_metrics(model, "prior_diffusion", ALONE)
    assert (results["seconds"].low, results["seconds"].high) == (None, None)
    assert results["seconds_min"].value <= results["seconds"].value <= results["seconds_max"].value


VECTORS = {"fruit": 0, "an apple": 1, "a bird": 2, "an owl": 3}


def one_hot(index):
    return np.eye(8)[np.asarray(index)]


def test_the_nearest_caption_is_sought_among_all_captions(model, monkeypatch):
    """The held-out caption is the second one of a training image, whose z_i is the true one."""
    images = np.zeros((2, SIZE, SIZE, 3), np.uint8)
    images[1] = 6
    train = Examples(
        images + 5, (("fruit", "an apple"), ("a bird", "an owl")), ("a", "b"), ("", "")
    )
    test = Examples(images + 5, (("an apple",), ("an owl",)), ("a", "b"), ("", ""))
    monkeypatch.setattr(
        priors, "load_examples", lambda s, split, **k: train if split == "train" else test
    )
    monkeypatch.setattr(ClipEncoder, "images", lambda self, i: one_hot(i[:, 0, 0, 0] % 8))
    captions = lambda self, texts: one_hot([VECTORS[t] for t in texts])  # noqa: E731
    monkeypatch.setattr(ClipEncoder, "captions", captions)
    monkeypatch.setattr(priors, "sample_prior", lambda *args: one_hot([7, 7]) + 0.1)
    monkeypatch.setattr(priors, "cost_metrics", lambda *args: {})
    stages = {name: s for name, s in model.stages.items() if name != "decoder"}
    results = priors.priors(dataclasses.replace(model, stages=stages), ALONE)
    assert results["test/cosine_nearest_caption"].value == pytest.approx(1.0)


def test_priors(model):
    results = run_suite("priors", model, SETTINGS)
    check_metrics(results)
    baselines = {"unrelated_caption", "mean_embedding", "nearest_caption", "text_embedding"}
    assert {name.removeprefix("test/over_") for name in results if "over" in name} == baselines
    assert all(abs(f.value) <= 1.0 for name, f in results.items() if "cosine" in name)
    assert results["test/cosine"].n == 12
    assert results["seconds"].value > 0 and "training_petaflops" not in results
    assert "decoded/ar/cosine_caption" not in results


def test_priors_of_a_bundle_with_two(model, tmp_path):
    settings = dataclasses.replace(SETTINGS, image_folder=tmp_path, limit=6)
    both = with_prior_ar(model)
    results = run_suite("priors", both, settings)
    check_metrics(results)
    assert not any(name.endswith("frechet") for name in results)  # of 6 images
    for name in ("cosine", "over_mean_embedding", "diversity", "cosine_to_text"):
        assert results[f"test/{name}"].value != results[f"test/ar/{name}"].value
    for source in ("none", "text", "diffusion", "ar"):
        assert results[f"decoded/{source}/cosine_caption"].n == 6
    with Image.open(tmp_path / "priors_images.png") as image:
        assert image.height >= 5 * 16 and image.width >= 6 * 16
    switched = dataclasses.replace(both, sampling=dataclasses.replace(both.sampling, prior="ar"))
    other = run_suite("priors", switched, dataclasses.replace(SETTINGS, limit=6))
    assert other["test/cosine"].value == pytest.approx(results["test/ar/cosine"].value)
