"""Mixtures: whose embeddings, which mean, which noise, and what guidance moves away from."""

import inspect

import numpy as np
import pytest

import unclip_jax
from tests.toy import CAPTIONS, DIM, SIZE, root, with_prior_ar
from unclip_jax.core.errors import UserError
from unclip_jax.core.prng import image_keys
from unclip_jax.core.types import Cond
from unclip_jax.sampling import mixtures, parallel

FAST = {"size": SIZE, "key": root()}


@pytest.fixture
def decoded(monkeypatch):
    """The embeddings that are decoded and those moved away from, keys and captions; no images."""
    seen = []

    def record(samplers, cond, keys, uncond, latent=None):
        if samplers[0].gives == "image_emb":
            return run(samplers, cond, keys, uncond, latent)
        seen.append((cond, keys))
        return np.zeros((len(cond.image_emb), SIZE, SIZE, 3), np.float32)

    run = mixtures.run_pipeline
    monkeypatch.setattr(mixtures, "run_pipeline", record)
    return seen


def unit_of(z):
    z = np.float64(z)
    return z / np.linalg.norm(z, axis=-1, keepdims=True)


def test_two_images_turn_by_their_share_of_the_angle(toy, images, decoded):
    """Slerp at w_2 / (w_1 + w_2), in float64; the length changes linearly."""
    unclip_jax.mix(toy, [(images[0], 3.0), (images[1], 1.0)], **FAST)
    z = np.float64(unclip_jax.embed_image(toy, images[:2]))
    u, v = unit_of(z)
    w = np.arccos(u @ v)
    expected = (np.sin(0.75 * w) * u + np.sin(0.25 * w) * v) / np.sin(w)
    expected *= 0.75 * np.linalg.norm(z[0]) + 0.25 * np.linalg.norm(z[1])
    np.testing.assert_allclose(decoded[0][0].image_emb[0], expected, rtol=1e-4, atol=1e-4)
    unclip_jax.mix(toy, [(images[0], 3.0), (images[1], 1.0)], linear=True, **FAST)
    straight = 0.75 * u + 0.25 * v
    straight *= np.linalg.norm(expected) / np.linalg.norm(straight)
    np.testing.assert_allclose(decoded[1][0].image_emb[0], straight, rtol=1e-4, atol=1e-4)
    assert np.abs(expected - straight).max() > 1e-3


def test_captions_have_the_embeddings_and_keys_of_sample(toy, images, decoded):
    """Caption i of draw j has the prior's z_i of prompt i, draw j, in whatever order items come."""
    rows = np.eye(3)
    unclip_jax.mix(toy, [CAPTIONS[0], images[0], CAPTIONS[3]], weights=rows, num=2, **FAST)
    cond, keys = decoded[0]
    text = unclip_jax.embed_text(toy, [CAPTIONS[0], CAPTIONS[0], CAPTIONS[3], CAPTIONS[3]])
    drawn = image_keys(root(), [0, 0, 2, 2], [0, 1, 0, 1])
    z = unclip_jax.run_stage(toy, "prior_diffusion", Cond(text=text), key=drawn)
    image = unclip_jax.embed_image(toy, images[:1])[0]
    expected = np.stack([z[0], image, z[2], z[1], image, z[3]])
    np.testing.assert_allclose(cond.image_emb[:6], expected, rtol=1e-4, atol=1e-4)
    noise = image_keys(root(), [0] * 6, [0, 0, 0, 1, 1, 1])
    assert (keys[:6] == noise).all()
    empty = unclip_jax.embed_text(toy, "")
    np.testing.assert_allclose(cond.text.text_emb[:6], np.repeat(empty.text_emb, 6, 0), atol=1e-5)
    assert cond.negative_emb is None


def test_every_prior_mixes(toy, decoded):
    for settings in ({"prior": "text"}, {"prior": "ar", "prior_temperature": 0.5}):
        unclip_jax.mix(with_prior_ar(toy), ["the sun", "a blue car"], **settings, **FAST)
    text = unclip_jax.embed_text(toy, ["the sun", "a blue car"]).text_emb
    halfway = unit_of(unit_of(text).sum(0))
    np.testing.assert_allclose(unit_of(decoded[0][0].image_emb[0]), halfway, atol=1e-5)
    assert np.abs(unit_of(decoded[1][0].image_emb[0]) - halfway).max() > 0.01


def test_the_ends_are_those_of_an_interpolation(toy, images):
    path = unclip_jax.interpolate(toy, images[:1], images[1:2], frames=2, noise="fixed", **FAST)
    items = list(images[:2])
    mixed = unclip_jax.mix(toy, items, weights=np.eye(2), sampler="ddim", **FAST)
    np.testing.assert_allclose(mixed.astype(int), path, atol=1)


def test_more_draws_and_batches_change_no_earlier_image(toy, images, monkeypatch):
    items, rows = ["the sun", images[0]], [[1, 1], [1, 3]]
    many = unclip_jax.mix(toy, items, weights=rows, num=5, **FAST)
    few = unclip_jax.mix(toy, items, weights=rows[:1], num=2, **FAST)
    np.testing.assert_allclose(many[[0, 2]].astype(int), few, atol=1)
    assert np.abs(many[0].astype(int) - many[2]).max() > 1
    assert np.abs(many[0].astype(int) - many[1]).max() > 1
    monkeypatch.setattr(parallel, "BATCH_LIMIT", 1)  # ten on eight devices: a second batch
    again = unclip_jax.mix(toy, items, weights=rows, num=5, **FAST)
    np.testing.assert_allclose(again.astype(int), many, atol=1)


def test_guidance_moves_away_from_the_negative_mixture(toy, images):
    """Away from itself nothing moves: at any scale it is the image without guidance."""
    items = [(images[0], 0.4), (images[1], 0.6)]
    plain = unclip_jax.mix(toy, items, guidance=1.0, **FAST)
    itself = unclip_jax.mix(toy, items, negative=items, guidance=6.0, **FAST)
    np.testing.assert_allclose(itself.astype(int), plain, atol=1)
    other = unclip_jax.mix(toy, items, negative=images[2:], guidance=6.0, **FAST)
    null = unclip_jax.mix(toy, items, guidance=6.0, **FAST)
    for a, b in ((other, plain), (null, plain), (other, null)):
        assert np.abs(a.astype(int) - b).max() > 3


def test_the_negative_has_draws_and_a_mean_of_its_own(toy, images, decoded):
    negative = [("a cat face", 1), (images[1], 3)]
    unclip_jax.mix(toy, images[:1], negative=negative, weights=[[1], [2]], num=2, **FAST)
    cond, _ = decoded[0]
    text = unclip_jax.embed_text(toy, ["a cat face"] * 2)
    keys = image_keys(root(), [1, 1], [0, 1])  # after the only item
    z = unit_of(unclip_jax.run_stage(toy, "prior_diffusion", Cond(text=text), key=keys))
    v = unit_of(unclip_jax.embed_image(toy, images[1:2]))[0]
    w = np.arccos(z @ v)[:, None]
    expected = (np.sin(0.25 * w) * z + np.sin(0.75 * w) * v) / np.sin(w)
    np.testing.assert_allclose(unit_of(cond.negative_emb[:4]), expected[[0, 0, 1, 1]], atol=1e-4)


def test_images_alone_need_no_prior(toy, images):
    stages = {name: stage for name, stage in toy.stages.items() if "prior" not in name}
    bare = unclip_jax.Bundle(
        name="bare", stages=stages, tokenizer=toy.tokenizer, sampling=toy.sampling
    )
    assert unclip_jax.mix(bare, images[0][None], **FAST).shape == (1, SIZE, SIZE, 3)
    with pytest.raises(UserError, match="prior"):
        unclip_jax.mix(bare, ["the sun"], **FAST)


def test_opposite_embeddings_are_refused():
    z = np.ones((2, DIM), np.float32) * np.asarray([[1.0], [-2.0]], np.float32)
    for weights in ([0.5, 0.5], [0.3, 0.7]):
        with pytest.raises(UserError, match="no mean"):
            mixtures.mixed(z, np.asarray(weights))
    np.testing.assert_array_equal(mixtures.mixed(z, np.asarray([0.0, 1.0])), z[1])


@pytest.mark.parametrize(
    ("items", "call", "words"),
    [
        ([], {}, "nothing to mix"),
        (["the sun", " "], {}, "empty"),
        (["x" * 2001], {}, "2,001"),
        ([("the sun", -1.0)], {}, "weights"),
        ([("the sun", float("nan"))], {}, "weights"),
        ([("the sun", 0)], {}, "weights"),
        (["the sun"], {"weights": [[1, 2]]}, "rows of 1"),
        (["the sun"], {"weights": []}, "rows of 1"),
        ([("the sun", 1)], {"weights": [[1]]}, "not both"),
        (["the sun"], {"negative": ["a cat"], "guidance": 1.0}, "guidance"),
        (["the sun"], {"negative": [("a cat", 0)]}, "negative weights"),
        (["the sun"], {"prior": "none"}, "none"),
        (["the sun"], {"num": 0}, "num"),
        (["the sun"], {"num": 2_000_000}, "1,000,000"),
        (["the sun"], {"guidence": 2}, "guidance"),
        ([np.zeros((16, 16, 3), np.uint8)], {"prior": "ar"}, "prior"),
    ],
)
def test_bad_calls_are_one_line(toy, items, call, words):
    with pytest.raises(UserError, match=words) as caught:
        unclip_jax.mix(toy, items, **call)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("function", "args", "words"),
    [
        (mixtures._split, (None,), "captions and images, not None"),
        (mixtures.check_count, (1.5, 1), "integer from 1, not 1.5"),
        (mixtures.check_count, ("2", 1), "integer from 1, not '2'"),
    ],
)
def test_other_types_are_one_line(function, args, words):
    """The types that the tests check are not checked for a user."""
    with pytest.raises(UserError, match=words):
        inspect.unwrap(function)(*args)
