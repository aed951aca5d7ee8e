"""The prior uses what it is given, ignores what it must, and starts in its own space."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import networks
from unclip_jax.core.errors import UserError
from unclip_jax.core.types import Cond
from unclip_jax.diffusion.config import DiffusionConfig
from unclip_jax.models.denoising import network_fn, prepared_network
from unclip_jax.models.prior_diffusion import EXTRA, STEPPED, PriorDiffusionConfig
from unclip_jax.models.stages import StageSpec, abstract_params, make_module


@pytest.mark.parametrize("text", ["clip_states", "tokens"])
def test_every_input_changes_the_output(text):
    _, params, apply = networks.make(networks.prior_spec(text=text))
    x_t, t, cond = networks.prior_inputs()
    out = apply(params, x_t, t, cond)
    assert out.shape == (2, networks.DIM) and out.dtype == jnp.float32
    caption = "tokens" if text == "tokens" else "text_states"
    change = {"text_emb": cond.text.text_emb[::-1], caption: getattr(cond.text, caption)[::-1]}
    others = [(x_t + 1, t, cond), (x_t, t + 300, cond)]
    for name, value in change.items():
        others.append((x_t, t, Cond(text=dataclasses.replace(cond.text, **{name: value}))))
    for other in others:
        assert jnp.abs(apply(params, *other) - out).max() > 1e-2


@pytest.mark.parametrize("text", ["clip_states", "tokens"])
@pytest.mark.parametrize("mask_text", [False, True])
def test_padding_is_seen_unless_masked(text, mask_text):
    _, params, apply = networks.make(networks.prior_spec(text=text, mask_text=mask_text))
    x_t, t, cond = networks.prior_inputs()
    # Caption 0 ends at position 1, so position 4 is padding in both captions.
    if text == "tokens":
        other = dataclasses.replace(cond.text, tokens=cond.text.tokens.at[:, 4].set(5))
    else:
        other = dataclasses.replace(cond.text, text_states=cond.text.text_states.at[:, 4].add(1))
    change = jnp.abs(apply(params, x_t, t, Cond(text=other)) - apply(params, x_t, t, cond)).max()
    assert (change == 0) if mask_text else (change > 1e-3)


def test_examples_do_not_see_each_other():
    _, params, apply = networks.make(networks.prior_spec())
    x_t, t, cond = networks.prior_inputs()
    change = apply(params, x_t, t, cond) - apply(params, x_t.at[0].add(1.0), t, cond)
    assert jnp.abs(change[0]).max() > 1e-2 and jnp.abs(change[1]).max() == 0


def test_bfloat16_stays_close():
    spec = networks.prior_spec()
    _, params, apply = networks.make(spec)
    exact = apply(params, *networks.prior_inputs())
    rough = jax.jit(make_module(spec, jnp.bfloat16).apply)(
        {"params": params}, *networks.prior_inputs()
    )
    assert rough.dtype == jnp.float32
    assert 0 < jnp.abs(rough - exact).max() / jnp.abs(exact).max() < 5e-2


def test_what_is_missing_is_named():
    module, params, _ = networks.make(networks.prior_spec())
    x_t, t, cond = networks.prior_inputs()
    with pytest.raises(ValueError, match="cond.text is None"):
        module.apply({"params": params}, x_t, t, Cond())
    short = dataclasses.replace(cond.text, text_states=cond.text.text_states[:, :5])
    with pytest.raises(ValueError, match="5 text positions"):
        module.apply({"params": params}, x_t, t, Cond(text=short))
    cfg = PriorDiffusionConfig(networks.STACK, image_dim=4, text="tokens", context=5)
    with pytest.raises(UserError, match="model.vocab_size not set"):
        make_module(StageSpec("prior_diffusion", cfg, DiffusionConfig()))


def test_the_learned_query_is_used():
    _, params, apply = networks.make(networks.prior_spec())
    out = apply(params, *networks.prior_inputs())
    moved = apply({**params, "query": -params["query"]}, *networks.prior_inputs())
    assert np.abs(moved - out).max() > 1e-2


@pytest.mark.parametrize(("text", "scanned"), [("clip_states", False), ("tokens", True)])
def test_steps_after_a_prefix_predict_as_the_whole_network(text, scanned):
    """Captions whose padding is hidden, of different lengths; float64, so that nothing is lost."""
    spec = networks.prior_spec(text=text, mask_text=True)
    stack = dataclasses.replace(spec.model.transformer, scan_layers=scanned)
    spec = dataclasses.replace(spec, model=dataclasses.replace(spec.model, transformer=stack))
    with jax.enable_x64(True):
        module = make_module(spec, jnp.float64)
        params = networks.redraw(abstract_params(spec), 0)
        network, (x_t, t, cond) = prepared_network(module), networks.prior_inputs()

        @jax.jit
        def both(params, x_t, t, cond):
            first = network.apply(params, x_t, t, network.prepare(params, cond))
            return first, network_fn(module)(params, x_t, t, cond)

        for shift in (0, 1):
            found, whole = both(params, x_t + shift, t + 300 * shift, cond)
            np.testing.assert_allclose(found, whole, rtol=0, atol=2e-6)
            assert jnp.abs(whole).max() > 1e-2


def test_a_step_computes_three_positions():
    """Every product of a step has the rows of timestep, embedding and query, or of one of them."""
    spec = networks.prior_spec()
    network, (x_t, t, cond) = prepared_network(make_module(spec)), networks.prior_inputs()
    params = networks.redraw(abstract_params(spec), 0)
    prepared = network.prepare(params, cond)
    kept = jax.tree.leaves(prepared.prefix)
    assert {leaf.shape[1] for leaf in kept} == {networks.CONTEXT + 1}
    assert len(kept) == 2 * spec.model.transformer.layers

    def rows(function, *args):
        """Rows of every product with a matrix of parameters."""
        text = jax.jit(function).lower(*args).as_text()
        found = re.findall(r"dot_general.*: \(tensor<2x(?:(\d+)x)?\d+xf32>, tensor<\d+x\d+x", text)
        return {int(count or 1) for count in found}

    whole = network_fn(make_module(spec))
    assert rows(network.apply, params, x_t, t, prepared) == {1, STEPPED}
    assert rows(whole, params, x_t, t, cond) == {1, networks.CONTEXT, networks.CONTEXT + EXTRA}
