"""Decoded images of each source of z_i on embeddings whose answer is known."""

import dataclasses

import numpy as np
import pytest

from tests.evals.suites import SETTINGS
from tests.toy import SIZE
from unclip_jax.evals import prior_images
from unclip_jax.evals.clip_encoder import ClipEncoder
from unclip_jax.evals.examples import Examples


def test_decoded_captions_are_a_random_subset(model, monkeypatch):
    count = 40
    examples = Examples(
        np.zeros((count, SIZE, SIZE, 3), np.uint8),
        tuple((f"caption {i}",) for i in range(count)),
        tuple(str(i) for i in range(count)),
        ("",) * count,
    )
    asked = []

    def sample(model, captions, **settings):
        asked.append([int(caption.split()[1]) for caption in captions])
        return np.zeros((len(captions), SIZE, SIZE, 3), np.uint8)

    noise = np.random.default_rng(0).standard_normal((count, 8))
    monkeypatch.setattr(prior_images.api, "sample", sample)
    monkeypatch.setattr(ClipEncoder, "images", lambda self, images: noise[: len(images)])
    monkeypatch.setattr(ClipEncoder, "captions", lambda self, texts: noise[: len(texts)])
    for seed in (0, 1, 0):
        settings = dataclasses.replace(SETTINGS, prompts=8, seed=seed)
        prior_images.decoded_metrics(model, examples, settings)
    per_run = len(asked) // 3
    first, other, again = asked[0], asked[per_run], asked[2 * per_run]
    assert len(set(first)) == 8 and first == again == asked[per_run - 1]
    assert max(first) >= 8 and first != other


def test_decoded_images_are_compared_with_caption_and_image(model, monkeypatch):
    """By construction: 0.6 along the true image's embedding and 0.8 along the caption's."""
    shape = np.ones((1, SIZE, SIZE, 3), np.uint8)
    number = np.arange(4, dtype=np.uint8)[:, None, None, None]
    captions = tuple((f"caption {i}",) for i in range(4))
    examples = Examples(number * shape, captions, tuple("abcd"), ("",) * 4)
    true, text = np.eye(8)[:4], np.eye(8)[4:]

    def embed(self, images):
        at = images[:, 0, 0, 0].astype(int)
        return np.where(at[:, None] < 4, true[at % 4], 0.6 * true[at % 4] + 0.8 * text[at % 4])

    def embed_texts(self, texts):
        return np.stack([text[int(t.split()[1])] for t in texts])

    monkeypatch.setattr(prior_images.api, "sample", lambda *a, **k: (4 + number) * shape)
    monkeypatch.setattr(ClipEncoder, "images", embed)
    monkeypatch.setattr(ClipEncoder, "captions", embed_texts)
    results = prior_images.decoded_metrics(model, examples, SETTINGS)
    for source in ("none", "text", "diffusion"):
        score = results[f"{source}/cosine_caption"]
        assert (score.value, score.baseline) == (pytest.approx(0.8), pytest.approx(0.0))
        assert results[f"{source}/cosine_true"].value == pytest.approx(0.6)


def test_a_distance_needs_images_and_has_a_baseline(model, monkeypatch):
    """Samples are the true images; training images are two apart in one direction."""
    count = 220
    rng = np.random.default_rng(0)
    true = rng.standard_normal((count, 4)) * [1, 1, 1, 0] + [0, 0, 0, 50.0]
    marked = lambda first: np.broadcast_to(  # noqa: E731
        (first + np.arange(count)).astype(np.uint16).view(np.uint8).reshape(count, 1, 1, 2),
        (count, SIZE, SIZE, 2),
    )
    image = lambda first: np.concatenate([marked(first), marked(first)[..., :1]], -1)  # noqa: E731
    concepts = tuple(str(i) for i in range(count))
    examples = Examples(image(0), tuple((c,) for c in concepts), concepts, ("",) * count)
    train = dataclasses.replace(examples, images=image(1000))
    asked = []

    def embed(self, images):
        number = images[:, 0, 0, 0].astype(int) + 256 * images[:, 0, 0, 1].astype(int)
        return np.where(number[:, None] < 1000, true[number % 1000], [3.0, 4.0, 0, 0])

    def load(settings, split, *, limit, **options):
        asked.append((split, limit))
        return train

    monkeypatch.setattr(
        prior_images.api, "sample", lambda model, texts, **k: image(0)[: len(texts)]
    )
    monkeypatch.setattr(prior_images, "load_examples", load)
    monkeypatch.setattr(ClipEncoder, "images", embed)
    monkeypatch.setattr(ClipEncoder, "captions", lambda self, texts: true[: len(texts)])
    settings = dataclasses.replace(SETTINGS, prompts=count)
    metric = prior_images.decoded_metrics(model, examples, settings)["none/frechet"]
    assert asked == [("train", count)]
    assert (metric.value, metric.n) == (pytest.approx(0.0, abs=1e-9), count)
    unit = true / np.linalg.norm(true, axis=1, keepdims=True)
    spread = np.trace(np.cov(unit.T))  # a point has no covariance
    gap = np.square(unit.mean(0) - [0.6, 0.8, 0, 0]).sum()
    assert metric.baseline == pytest.approx(gap + spread)
    assert metric.low < metric.value < metric.high and "jackknife over 20 groups" in metric.recipe
    few = examples.take(range(199))
    results = prior_images.decoded_metrics(model, few, settings)
    assert not any("frechet" in name for name in results)
