"""Imported components against diffusers' and transformers' own, through the public calls."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import unclip_jax
from tests.parity.karlo_models import PROMPTS, TOYS, make_components, save_components
from unclip_jax.checkpoint import bundle
from unclip_jax.convert.import_weights import import_weights
from unclip_jax.core.types import Cond

FLOAT32, BFLOAT16 = 1e-4, 3e-2


@functools.cache
def components(toy):
    return make_components(toy)


@pytest.fixture(scope="module", params=TOYS, ids=lambda toy: f"seed{toy.seed}")
def toy(request):
    return request.param


@pytest.fixture(scope="module")
def theirs(toy):
    return components(toy)


@pytest.fixture(scope="module")
def model(toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("karlo")
    save_components(components(toy), folder / "source")
    made = import_weights(folder / "source", name="toy")
    return unclip_jax.load(bundle.save(made, folder / "bundle"))


def nchw(array):
    return torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2)))


def draw(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def captions(model):
    """Encoded captions, and their torch copies."""
    text = unclip_jax.embed_text(model, PROMPTS)
    tensors = (text.text_emb, text.text_states, text.text_mask)
    return text, [torch.from_numpy(np.array(x)) for x in tensors]


T = np.array([999, 417])


def test_text_tower(model, theirs, agree):
    text = unclip_jax.embed_text(model, PROMPTS)
    out = theirs["text_encoder"](torch.from_numpy(np.array(text.clip_tokens)).long())
    agree("CLIP text embedding", text.text_emb, out.text_embeds, FLOAT32)
    agree("CLIP text states", text.text_states, out.last_hidden_state, FLOAT32)


def test_image_tower(model, theirs, agree):
    cfg = model.stage("clip").spec.model
    images = np.random.default_rng(0).uniform(-1, 1, (2, 16, 16, 3)).astype(np.float32)
    pixels = ((images + 1) / 2 - np.float32(cfg.image_mean)) / np.float32(cfg.image_std)
    expected = theirs["image_encoder"](nchw(pixels)).image_embeds
    agree("CLIP image embedding", unclip_jax.embed_image(model, images), expected, FLOAT32)


def test_prior(model, theirs, toy, agree):
    text, (emb, states, mask) = captions(model)
    x_t = draw(1, 2, emb.shape[1])
    expected = theirs["prior"](
        torch.from_numpy(x_t),
        torch.from_numpy(T),
        proj_embedding=emb,
        encoder_hidden_states=states,
        attention_mask=mask,
    ).predicted_image_embedding
    agree("prior", unclip_jax.predict(model, "prior", x_t, T, text=text), expected, FLOAT32)
    if toy.seed == 0:
        agree("prior, bfloat16", low(model, "prior", x_t, Cond(text=text)), expected, BFLOAT16)


def low(model, stage, x_t, cond):
    """One evaluation in bfloat16 arithmetic."""
    apply = jax.jit(unclip_jax.denoise_fn(model, stage, dtype="bfloat16"))
    params = model.stage(f"{stage}_diffusion" if stage == "prior" else stage).params
    return apply(params, x_t, T, cond)


@pytest.mark.parametrize("given", [True, False], ids=["image_emb", "null"])
def test_decoder(model, theirs, toy, agree, given):
    text, (emb, states, mask) = captions(model)
    projection = theirs["text_proj"]
    z = draw(2, 2, toy.dim)
    null = projection.learned_classifier_free_guidance_embeddings
    states, time = projection(
        image_embeddings=torch.from_numpy(z) if given else null[None].expand(2, -1),
        prompt_embeds=emb,
        text_encoder_hidden_states=states,
        do_classifier_free_guidance=False,
    )
    x_t = draw(3, 2, toy.decoder_size, toy.decoder_size, 3)
    expected = theirs["decoder"](
        nchw(x_t),
        torch.from_numpy(T),
        encoder_hidden_states=states,
        class_labels=time,
        attention_mask=torch.nn.functional.pad(mask, (4, 0), value=True),
    ).sample.permute(0, 2, 3, 1)
    z = z if given else None
    found = unclip_jax.predict(model, "decoder", x_t, T, text=text, image_emb=z)
    agree("decoder with text projection", found, expected, FLOAT32)
    if given and toy.seed == 0:
        cond = Cond(image_emb=jnp.asarray(z), text=text)
        agree("decoder, bfloat16", low(model, "decoder", x_t, cond), expected, BFLOAT16)


@pytest.mark.parametrize("name", ["super_res_first", "super_res_last"])
def test_super_resolution(model, theirs, toy, agree, name):
    size = toy.decoder_size
    x_t, low_res = draw(4, 2, 2 * size, 2 * size, 3), draw(5, 2, size, size, 3)
    resized = torch.nn.functional.interpolate(
        nchw(low_res), size=[2 * size] * 2, mode="bicubic", align_corners=False, antialias=True
    )
    inputs = torch.cat([nchw(x_t), resized], 1)
    expected = theirs[name](inputs, torch.from_numpy(T)).sample.permute(0, 2, 3, 1)
    found = unclip_jax.predict(model, name, x_t, T, low_res=low_res)
    agree(name, found, expected, FLOAT32)
    if name == "super_res_first" and toy.seed == 0:
        cond = Cond(low_res=jnp.asarray(low_res))
        agree(f"{name}, bfloat16", low(model, name, x_t, cond), expected, BFLOAT16)
