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
        score = results[f"{source}/clip_score"]
        assert (score.value, score.baseline) == (pytest.approx(0.8), pytest.approx(0.0))
        assert results[f"{source}/cosine_true"].value == pytest.approx(0.6)
