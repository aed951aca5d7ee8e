"""Both embedding paths and both text paths of the decoder are used; null conditions are null."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import networks
from unclip_jax.core.types import Cond
from unclip_jax.models.embedding_norm import EmbeddingNorm
from unclip_jax.models.stages import make_module

PLAIN = dataclasses.replace(networks.UNET, attention_resolutions=(), mid_attention=False)
SPECS = {
    "clip_states": networks.decoder_spec(null_image="learned"),
    "transformer": networks.decoder_spec(text="transformer"),
    "none": networks.decoder_spec(text="none"),
    "no attention": networks.decoder_spec(unet=PLAIN),
    "patch": networks.decoder_spec(
        unet=dataclasses.replace(networks.UNET, patch=2, attention_resolutions=(2,))
    ),
}


def change(spec, before, after, params=None):
    _, drawn, apply = networks.make(spec)
    params = drawn if params is None else params
    return jnp.abs(apply(params, *before) - apply(params, *after)).max((1, 2, 3))


def with_text(inputs, **fields):
    x_t, t, cond = inputs
    return x_t, t, cond.replace(text=cond.text.replace(**fields))


@pytest.mark.parametrize("name", list(SPECS))
def test_every_input_changes_the_output(name):
    spec, inputs = SPECS[name], networks.decoder_inputs()
    x_t, t, cond = inputs
    out = networks.make(spec)[2](networks.make(spec)[1], *inputs)
    assert out.shape == (2, networks.SIZE, networks.SIZE, 6) and out.dtype == jnp.float32
    others = [
        (x_t + 1, t, cond),
        (x_t, t + 300, cond),
        (x_t, t, cond.replace(image_emb=cond.image_emb[::-1])),
    ]
    fields = {
        "clip_states": ["text_emb", "text_states"],
        "transformer": ["tokens"],
        "none": [],
        "no attention": ["text_emb"],
        "patch": ["text_emb", "text_states"],
    }
    for field in fields[name]:
        others.append(with_text(inputs, **{field: getattr(cond.text, field)[::-1]}))
    for other in others:
        assert (change(spec, inputs, other) > 1e-3).all()


@pytest.mark.parametrize("path", ["image_time_proj", "image_token_proj"])
def test_each_path_of_the_image_embedding_is_used(path):
    spec = SPECS["clip_states"]
    params = dict(networks.make(spec)[1])
    x_t, t, cond = inputs = networks.decoder_inputs()
    other = ({"image_time_proj", "image_token_proj"} - {path}).pop()
    params[other] = jax.tree.map(jnp.zeros_like, params[other])
    swapped = (x_t, t, cond.replace(image_emb=cond.image_emb[::-1]))
    assert (change(spec, inputs, swapped, params) > 1e-3).all()
    params[path] = jax.tree.map(jnp.zeros_like, params[path])
    assert change(spec, inputs, swapped, params).max() == 0


@pytest.mark.parametrize("path", ["text_time_proj", "text_states_proj"])
def test_each_path_of_the_caption_is_used(path):
    spec = SPECS["clip_states"]
    params = dict(networks.make(spec)[1])
    inputs = networks.decoder_inputs()
    text = inputs[2].text
    swapped = with_text(inputs, text_emb=text.text_emb[::-1], text_states=text.text_states[::-1])
    assert (change(spec, inputs, swapped, params) > 1e-3).all()
    other = ({"text_time_proj", "text_states_proj"} - {path}).pop()
    params[other] = jax.tree.map(jnp.zeros_like, params[other])
    assert (change(spec, inputs, swapped, params) > 1e-3).all()


@pytest.mark.parametrize("null", ["learned", "zeros"])
def test_a_dropped_embedding_is_ignored(null):
    spec = networks.decoder_spec(null_image=null)
    x_t, t, cond = networks.decoder_inputs()
    keep = jnp.array([True, False])
    one = (x_t, t, cond.replace(image_keep=keep))
    two = (x_t, t, cond.replace(image_emb=cond.image_emb + 1, image_keep=keep))
    kept, dropped = change(spec, one, two)
    assert kept > 1e-3 and dropped == 0
    nothing = change(spec, one, (x_t, t, cond.replace(image_emb=None)))
    assert nothing[0] > 1e-3 and nothing[1] < 1e-5
    params = networks.make(spec)[1]
    assert ("null_image_emb" in params) == (null == "learned")
    if null == "learned":
        moved = {**params, "null_image_emb": params["null_image_emb"] + 1}
        apply = networks.make(spec)[2]
        difference = jnp.abs(apply(params, *one) - apply(moved, *one)).max((1, 2, 3))
        assert difference[0] == 0 and difference[1] > 1e-3


def test_l2_embedding_ignores_its_length():
    x_t, t, cond = networks.decoder_inputs()
    longer = (x_t, t, cond.replace(image_emb=3 * cond.image_emb))
    assert change(SPECS["clip_states"], (x_t, t, cond), longer).max() < 1e-4
    raw = networks.decoder_spec(norm=EmbeddingNorm("none"))
    assert (change(raw, (x_t, t, cond), longer) > 1e-3).all()


@pytest.mark.parametrize("mask_text", [True, False])
def test_padded_text_states_are_seen_unless_masked(mask_text):
    spec = networks.decoder_spec(mask_text=mask_text)
    inputs = networks.decoder_inputs()
    states = inputs[2].text.text_states
    padding = change(spec, inputs, with_text(inputs, text_states=states.at[:, 4].add(1)))
    assert (padding == 0).all() if mask_text else (padding > 1e-4).all()


def test_text_encoder_replaces_padding_by_learned_vectors():
    spec, inputs = SPECS["transformer"], networks.decoder_inputs()
    tokens = inputs[2].text.tokens
    assert change(spec, inputs, with_text(inputs, tokens=tokens.at[:, 5].set(3))).max() == 0
    _, params, apply = networks.make(spec)
    encoder = params["text_encoder"]
    moved = {**params, "text_encoder": {**encoder, "pad_embed": -encoder["pad_embed"]}}
    assert jnp.abs(apply(params, *inputs) - apply(moved, *inputs)).max() > 1e-3


def test_a_decoder_without_attention_has_no_dead_weights():
    params = networks.make(SPECS["no attention"])[1]
    assert not {"image_token_proj", "text_states_proj", "text_states_norm"} & set(params)


def test_remat_and_bfloat16_give_the_same():
    spec = SPECS["clip_states"]
    _, params, apply = networks.make(spec)
    inputs = networks.decoder_inputs()
    exact = apply(params, *inputs)
    unet = dataclasses.replace(networks.UNET, remat="block")
    again = networks.make(networks.decoder_spec(unet=unet, null_image="learned"))
    np.testing.assert_allclose(again[2](params, *inputs), exact, atol=1e-5)
    rough = jax.jit(make_module(spec, jnp.bfloat16).apply)({"params": params}, *inputs)
    assert rough.dtype == jnp.float32
    assert 0 < jnp.abs(rough - exact).max() / jnp.abs(exact).max() < 5e-2


def test_a_fresh_decoder_predicts_zero_and_missing_captions_are_named():
    spec = SPECS["clip_states"]
    module = make_module(spec)
    inputs = networks.decoder_inputs()
    out, _ = jax.jit(module.init_with_output)(networks.quick_key(), *inputs)
    assert jnp.abs(out).max() == 0
    with pytest.raises(ValueError, match="cond.text is None"):
        module.init(jax.random.key(0), inputs[0], inputs[1], Cond())
