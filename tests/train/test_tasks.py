"""What the tasks show the networks: drops at their rates, crops, averages, fixed held-out noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from tests.networks import CONTEXT, SIZE, clip_spec
from tests.training import BATCH, Toy, fresh_params
from unclip_jax.core.prng import root_key
from unclip_jax.data.images import to_float
from unclip_jax.models.clip import Clip
from unclip_jax.text.tokenizer import train_tokenizer
from unclip_jax.train.frozen_clip import FeatureCache, FrozenClip, caption_features, image_embedding
from unclip_jax.train.inputs import every_while
from unclip_jax.train.step import batch_keys, make_eval_step
from unclip_jax.train.task import StepConstants
from unclip_jax.train.tasks.diffusion import (
    IMAGE_DROP,
    QUARTILES,
    TEXT_DROP,
    area_average,
    keep_mask,
    make_inputs,
    random_crop,
)

MANY = 20_000


def test_captions_and_embeddings_are_dropped_at_their_rates_and_independently():
    keys = batch_keys(root_key(0), MANY)
    text = np.asarray(keep_mask(keys, TEXT_DROP, 0.5, True))
    image = np.asarray(keep_mask(keys, IMAGE_DROP, 0.1, True))
    # Five standard deviations of a mean of 20,000 coin flips.
    assert abs(text.mean() - 0.5) < 5 * 0.5 / MANY**0.5
    assert abs(image.mean() - 0.9) < 5 * 0.3 / MANY**0.5
    assert abs((text & image).mean() - 0.45) < 5 * 0.5 / MANY**0.5
    assert np.asarray(keep_mask(keys, TEXT_DROP, 0.5, False)).all()


def test_decoder_inputs_hold_the_empty_caption_where_the_caption_is_dropped():
    toy = Toy("decoder", caption_drop=1.0, image_drop=1.0)
    inputs, _ = make_inputs(toy.spec, toy.train, toy.clip)
    keys = batch_keys(root_key(0), BATCH)
    x0, cond = inputs(toy.params(), toy.constants, toy.batch(), keys, True)
    np.testing.assert_array_equal(x0, to_float(toy.batch()["image"]))
    assert not np.any(cond.image_keep)
    for name in ("text_emb", "text_states", "text_mask", "clip_tokens"):
        empty = np.asarray(getattr(toy.constants.empty, name))
        given = np.asarray(getattr(cond.text, name))
        np.testing.assert_array_equal(given, np.broadcast_to(empty, given.shape), err_msg=name)


def test_prior_aims_at_the_scaled_unit_embedding():
    toy = Toy("prior_diffusion")
    inputs, _ = make_inputs(toy.spec, toy.train, toy.clip)
    x0, cond = inputs({}, toy.constants, toy.batch(), batch_keys(root_key(0), BATCH), True)
    z = np.asarray(image_embedding(toy.clip, toy.constants, toy.batch()), np.float64)
    expected = toy.spec.norm.scale * z / np.linalg.norm(z, axis=1, keepdims=True)
    np.testing.assert_allclose(x0, expected, rtol=1e-5, atol=1e-6)
    assert cond.image_emb is None


def test_upsampler_sees_the_area_average_of_its_own_crop():
    toy = Toy("upsampler_256", crop_size=SIZE)
    inputs, _ = make_inputs(toy.spec, toy.train, None)
    batch = toy.batch()
    x0, cond = inputs({}, StepConstants(), batch, batch_keys(root_key(0), BATCH), True)
    assert x0.shape == (BATCH, SIZE, SIZE, 3)
    assert cond.low_res.shape == (BATCH, SIZE // 2, SIZE // 2, 3)
    images, crops = np.asarray(to_float(batch["image"])), np.asarray(x0)
    corners = set()
    for image, crop, low in zip(images, crops, np.asarray(cond.low_res), strict=True):
        offsets = [
            (i, j)
            for i in range(SIZE + 1)
            for j in range(SIZE + 1)
            if np.array_equal(image[i : i + SIZE, j : j + SIZE], crop)
        ]
        assert len(offsets) == 1
        corners.add(offsets[0])
        blocks = crop.reshape(SIZE // 2, 2, SIZE // 2, 2, 3).transpose(0, 2, 1, 3, 4)
        np.testing.assert_allclose(low, blocks.mean((2, 3)), atol=1e-6)
    assert len(corners) > 2


def test_a_crop_of_the_whole_image_is_the_image():
    images = jnp.arange(2 * 4 * 4 * 3, dtype=jnp.float32).reshape(2, 4, 4, 3)
    keys = batch_keys(root_key(0), 2).rows
    np.testing.assert_array_equal(random_crop(keys, images, 4), images)
    np.testing.assert_allclose(area_average(images, 4)[:, 0, 0], images.mean((1, 2)), rtol=1e-6)


def test_held_out_metrics_are_fixed_and_cover_every_quarter():
    toy = Toy("prior_diffusion", caption_drop=0.5)
    evaluate = jax.jit(make_eval_step(toy.task, BATCH, 0))
    params, batch = toy.params(), toy.batch()
    first, again = (np.asarray(evaluate(params, toy.constants, batch, 0)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    rows = dict(zip(toy.task.metric_names, first, strict=True))
    assert [rows[name][1] for name in QUARTILES] == [BATCH / 4] * 4
    total = sum(rows[name][0] for name in QUARTILES)
    np.testing.assert_allclose(total, rows["loss"][0], rtol=1e-5)
    assert not np.array_equal(first, evaluate(params, toy.constants, batch, 1))


def test_cached_features_are_those_computed_on_the_fly():
    captions = ["a red heart", "the sun", "a cat"]
    tokenizer = train_tokenizer(captions, 514, CONTEXT)
    spec = clip_spec()
    vocabulary = type(spec.model.text)(**{**vars(spec.model.text), "vocab_size": 514})
    spec = type(spec)("clip", type(spec.model)(**{**vars(spec.model), "text": vocabulary}))
    module = Clip(spec.model)
    clip = FrozenClip(module, fresh_params(spec, module, 0), tokenizer)
    images = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)
    cache = FeatureCache(clip, list(images), captions)
    tokens, mask = clip.encode(["a cat", "a red heart"])
    host = {"image": images[[2, 0]], "tokens": tokens, "mask": mask, "example": np.array([2, 0])}
    batch = {name: jnp.asarray(host[name]) for name in ("image", "tokens", "mask")}
    cached = batch | jax.tree.map(jnp.asarray, cache.features(host))
    constants = StepConstants(clip=clip.params)
    np.testing.assert_allclose(
        image_embedding(module, constants, cached),
        image_embedding(module, constants, batch),
        atol=1e-5,
    )
    ours, fresh = (caption_features(module, constants, rows) for rows in (cached, batch))
    np.testing.assert_allclose(ours.text_emb, fresh.text_emb, atol=1e-5)
    np.testing.assert_allclose(ours.text_states, fresh.text_states, atol=4e-3)  # float16 in between
    np.testing.assert_array_equal(ours.text_mask, fresh.text_mask)


def test_an_upsampler_takes_degraded_images_as_they_come():
    toy = Toy("upsampler_256", crop_size=SIZE, blur_prob=1.0)
    inputs, names = make_inputs(toy.spec, toy.train, None)
    rng = np.random.default_rng(0)
    batch = {
        "image": jnp.asarray(rng.integers(0, 256, (BATCH, SIZE, SIZE, 3), np.uint8)),
        "low_res": jnp.asarray(rng.integers(0, 256, (BATCH, SIZE // 4, SIZE // 4, 3), np.uint8)),
    }
    assert set(batch) <= set(names)
    x0, cond = inputs({}, StepConstants(), batch, batch_keys(root_key(0), BATCH), True)
    np.testing.assert_array_equal(x0, to_float(batch["image"]))
    np.testing.assert_array_equal(cond.low_res, to_float(batch["low_res"]))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_low_res_images_of_training_are_blurred_as_often_as_the_config_says(share):
    """scipy's Gaussian of the area averages: kernel 3, sigma 0.6 (appendix C), borders repeated."""
    toy = Toy("upsampler_256", crop_size=2 * SIZE, blur_prob=share)
    inputs, _ = make_inputs(toy.spec, toy.train, None)
    seen = np.zeros(2, int)
    for seed in range(4):
        batch = toy.batch(seed)
        _, cond = inputs({}, StepConstants(), batch, batch_keys(root_key(seed), BATCH), True)
        large = np.asarray(batch["image"], np.float64) / 127.5 - 1
        plain = large.reshape(BATCH, SIZE, 2, SIZE, 2, 3).mean((2, 4))
        blurred = ndimage.gaussian_filter(
            plain, sigma=(0, 0.6, 0.6, 0), radius=(0, 1, 1, 0), mode="nearest"
        )
        off = [np.abs(np.asarray(cond.low_res) - x).max((1, 2, 3)) for x in (plain, blurred)]
        assert (np.minimum(*off) < 1e-5).all() and (np.maximum(*off) > 1e-2).all()
        seen += [(off[0] < 1e-5).sum(), (off[1] < 1e-5).sum()]
    expected = {0.0: seen[1] == 0, 0.5: 6 < seen[1] < 26, 1.0: seen[0] == 0}  # of 32, sd 2.8
    assert expected[share], seen


def test_what_is_encoded_is_counted_now_and_then():
    """Batches of 64; a line every 15 seconds at most."""
    lines, times = [], iter([0.0, 10.0, 16.0, 16.0, 20.0, 40.0, 40.0])
    report = every_while({"images": 5464, "captions": 90}, lines.append, lambda: next(times))
    for what, done in (("images", 64), ("images", 1024), ("images", 1088), ("captions", 64)):
        report(what, done)
    assert lines == ["encoded 1,024 of 5,464 images", "encoded 64 of 90 captions"]
