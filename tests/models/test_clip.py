"""CLIP: the loss against NumPy, pooling, causality, preprocessing, initial deviations."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from tests import networks
from unclip_jax.core.trees import flatten_paths, unflatten_paths
from unclip_jax.models.clip import (
    clamp_logit_scale,
    clip_loss,
    preprocess,
    text_features,
)
from unclip_jax.models.stages import abstract_params, init_variables, make_module, unboxed

SPEC = networks.clip_spec()


def numpy_loss(image, text, scale):
    image = image / np.linalg.norm(image, axis=1, keepdims=True)
    text = text / np.linalg.norm(text, axis=1, keepdims=True)
    logits = math.exp(scale) * image @ text.T
    rows = (logsumexp(logits, axis=1) - np.diag(logits)).mean()
    return (rows + (logsumexp(logits, axis=0) - np.diag(logits)).mean()) / 2


@pytest.mark.parametrize("scale", [math.log(1 / 0.07), 5.0])  # 5: beyond ln 100
def test_loss_equals_numpy(scale):
    image, text = np.random.default_rng(0).normal(size=(2, 5, 7))
    ours = clip_loss(*(jnp.asarray(x, jnp.float32) for x in (image, text, scale)))
    np.testing.assert_allclose(ours, numpy_loss(image, text, scale), rtol=1e-5)


def test_temperature_starts_at_0_07_and_is_clamped_at_100():
    params = unboxed(
        jax.jit(lambda key: init_variables(SPEC, make_module(SPEC), key))(networks.quick_key())
    )
    np.testing.assert_allclose(jnp.exp(params["logit_scale"]), 1 / 0.07, rtol=1e-6)
    hot = clamp_logit_scale({**params, "logit_scale": jnp.float32(5.0)})
    np.testing.assert_allclose(jnp.exp(hot["logit_scale"]), 100, rtol=1e-6)


def test_text_embedding_is_the_state_at_the_end_of_text():
    module, params, _ = networks.make(SPEC)
    features = text_features(module, params, networks.captions(3).tokens, jnp.ones((3, 6), bool))
    kernel = params["text"]["proj"]["kernel"]
    for row, end in enumerate((1, 2, 3)):
        expected = features.text_states[row, end] @ kernel
        np.testing.assert_allclose(features.text_emb[row], expected, atol=1e-5)


def test_tokens_change_no_earlier_state():
    module, params, _ = networks.make(SPEC)
    tokens = networks.captions(3).tokens
    encode = jax.jit(lambda tokens: module.apply({"params": params}, tokens, method="encode_text"))
    before, after = encode(tokens), encode(tokens.at[:, 4].set(7))
    np.testing.assert_array_equal(before.text_states[:, :4], after.text_states[:, :4])
    np.testing.assert_array_equal(before.text_emb, after.text_emb)
    assert (jnp.abs(before.text_states - after.text_states)[:, 4:].max((0, 2)) > 0).all()


def test_preprocess_squashes_or_crops_and_standardizes():
    square, wide = networks.normal(1, 8, 8, 3), networks.normal(1, 8, 12, 3)
    cfg = SPEC.model
    mean, std = np.array(cfg.image_mean), np.array(cfg.image_std)
    expected = ((np.asarray(square) + 1) / 2 - mean) / std
    np.testing.assert_allclose(preprocess(square, cfg), expected, atol=1e-5)
    assert preprocess(wide, cfg).shape == (1, 8, 8, 3)
    crop = dataclasses.replace(cfg, resize="center_crop")
    expected = ((np.asarray(wide)[:, :, 2:10] + 1) / 2 - mean) / std
    np.testing.assert_allclose(preprocess(wide, crop), expected, atol=1e-5)
    assert preprocess(networks.normal(1, 17, 31, 3), crop).shape == (1, 8, 8, 3)


def test_scanned_towers_equal_unrolled_ones():
    spec = networks.clip_spec(scan_layers=True, remat="block")
    _, params, apply = networks.make(SPEC)
    towers = {t: {**params[t]} for t in ("text", "vision")}
    for tower in towers.values():
        tower["transformer"] = networks.stack_layers(tower["transformer"])
    stacked = {**params, **towers}
    assert jax.tree.map(jnp.shape, stacked) == jax.tree.map(jnp.shape, abstract_params(spec))
    inputs = networks.normal(2, 8, 8, 3), networks.captions().tokens
    one, two = apply(params, *inputs), networks.make(spec)[2](stacked, *inputs)
    np.testing.assert_allclose(one.image_emb, two.image_emb, atol=1e-5)
    np.testing.assert_allclose(one.text_emb, two.text_emb, atol=1e-5)


def test_initial_deviations_are_clips():
    big = dataclasses.replace(
        SPEC.model,
        text=dataclasses.replace(SPEC.model.text, width=128, vocab_size=500, layers=3),
    )
    spec = dataclasses.replace(SPEC, model=big)
    draw = jax.jit(lambda key: init_variables(spec, make_module(spec), key)["text"])
    text = unboxed(draw(networks.quick_key()))
    block = text["transformer"]["blocks_1"]
    expected = {
        128**-0.5: block["attn"]["qkv"]["kernel"],
        128**-0.5 * 6**-0.5: block["mlp"]["proj"]["kernel"],
        256**-0.5: block["mlp"]["fc"]["kernel"],
        0.02: text["token_embed"]["embedding"],
    }
    for std, leaf in expected.items():
        np.testing.assert_allclose(leaf.std(), std, rtol=0.03)
    np.testing.assert_allclose(block["attn"]["out"]["kernel"].std(), (128 * 6) ** -0.5, rtol=0.03)


def test_wrong_lengths_and_sizes_are_refused():
    module, params, _ = networks.make(SPEC)
    with pytest.raises(ValueError, match="5 tokens for a tower with context=6"):
        module.apply({"params": params}, jnp.zeros((1, 5), jnp.int32), method="encode_text")
    with pytest.raises(ValueError, match="image_size=8 must be a multiple of patch_size=3"):
        dataclasses.replace(SPEC.model.vision, patch_size=3)


def test_image_embedding_is_of_the_class_token():
    """With blocks that add nothing: proj(ln_post(ln_pre(class + position 0))), in float64."""
    module, params, _ = networks.make(SPEC)
    flat = flatten_paths(params["vision"])
    silent = {k: v * 0 if "/out/" in k or "/proj/" in k else v for k, v in flat.items()}
    params = {**params, "vision": unflatten_paths(silent)}
    images = networks.normal(2, 8, 8, 3)
    found = module.apply({"params": params}, images, method="encode_image")

    def layer_norm(x, name):
        x = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
        return x * np.float64(flat[f"{name}/scale"]) + np.float64(flat[f"{name}/bias"])

    token = np.float64(flat["class_embed"]) + np.float64(flat["pos_embed/embedding"][0])
    state = layer_norm(layer_norm(token, "ln_pre"), "ln_post")
    expected = state @ np.float64(flat["proj/kernel"])
    np.testing.assert_allclose(found, np.tile(expected, (2, 1)), atol=1e-5)


def test_images_are_shrunk_with_antialias():
    """Stripes one pixel wide, by a third: Keys' kernel three times as wide leaves 1/81 of them."""
    stripes = jnp.broadcast_to((-1.0) ** jnp.arange(24)[None, None, :, None], (1, 24, 24, 3))
    cfg = dataclasses.replace(SPEC.model, image_mean=(0.5,) * 3, image_std=(0.5,) * 3)
    shrunk = np.abs(preprocess(stripes, cfg))
    np.testing.assert_allclose(shrunk[:, :, 2:6], np.full((1, 8, 4, 3), 1 / 81), atol=1e-5)


def test_temperature_never_rises_above_one():
    cold = clamp_logit_scale({"logit_scale": jnp.float32(-0.5)})
    assert float(cold["logit_scale"]) == 0.0
