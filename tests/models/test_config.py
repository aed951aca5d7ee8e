"""Every network config answers what the package asks of it, and what it answers is true."""

import jax
import jax.numpy as jnp
import pytest

from tests import networks
from unclip_jax.models.config import dummy_text
from unclip_jax.models.stages import make_module

SPECS = {
    "clip": networks.clip_spec(),
    "prior": networks.prior_spec(),
    "prior tokens": networks.prior_spec(text="tokens"),
    "prior codes": networks.prior_ar_spec(),
    "prior codes tokens": networks.prior_ar_spec(text="tokens"),
    "decoder": networks.decoder_spec(),
    "decoder text": networks.decoder_spec(text="transformer"),
    "decoder without text": networks.decoder_spec(text="none"),
    "upsampler": networks.upsampler_spec(),
}
# What a reader of each network finds: (reads_text, reads_clip_states, own_context, required_cond).
CONTEXT = networks.CONTEXT
ANSWERS = {
    "clip": (False, False, None, ()),
    "prior": (True, True, None, ("text",)),
    "prior tokens": (True, False, CONTEXT, ("text",)),
    "prior codes": (True, True, None, ("text",)),
    "prior codes tokens": (True, False, CONTEXT, ("text",)),
    "decoder": (True, True, None, ("image_emb", "text")),
    "decoder text": (True, False, CONTEXT, ("image_emb", "text")),
    "decoder without text": (False, False, None, ("image_emb",)),
    "upsampler": (False, False, None, ("low_res",)),
}


@pytest.mark.parametrize("name", SPECS)
def test_what_a_stage_is_conditioned_on(name):
    cfg = SPECS[name].model
    found = (cfg.reads_text, cfg.reads_clip_states, cfg.own_context, cfg.required_cond)
    assert found == ANSWERS[name]


@pytest.mark.parametrize("name", SPECS)
def test_dummy_inputs_hold_the_conditions_and_nothing_that_is_not_read(name):
    cfg = SPECS[name].model
    *inputs, cond = jax.eval_shape(lambda: cfg.dummy_inputs(3))
    if name == "clip":
        assert (inputs[0].shape, cond.shape) == ((3, 8, 8, 3), (3, CONTEXT))
        return
    assert all(getattr(cond, field) is not None for field in cfg.required_cond)
    assert (cond.text is not None) == cfg.reads_text
    if cfg.reads_text:
        assert (cond.text.text_states is not None) == cfg.reads_clip_states
        tokens = cond.text.tokens
        assert (None if tokens is None else tokens.shape) == (
            None if cfg.own_context is None else (3, cfg.own_context)
        )


@pytest.mark.parametrize("name", [n for n, s in SPECS.items() if s.row.is_diffused])
def test_the_output_has_the_shape_of_a_sample(name):
    spec = SPECS[name]
    shape, learned = spec.model.sample_shape, spec.diffusion.learns_variance
    inputs = spec.model.dummy_inputs(2)
    assert inputs[0].shape == (2, *shape)
    out = jax.eval_shape(lambda: make_module(spec).init_with_output(jax.random.key(0), *inputs)[0])
    assert out.shape == (2, *shape[:-1], shape[-1] * (2 if learned else 1))
    assert spec.model.out_channels in (None, out.shape[-1])


def test_dummy_text_leaves_out_what_is_not_read():
    text = dummy_text(2, 4, context=None, width=None, own_context=None)
    assert text.text_states is text.text_mask is text.tokens is None
    assert text.text_emb.shape == (2, 4) and text.text_emb.dtype == jnp.float32
