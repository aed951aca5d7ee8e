"""What each position of a text encoder sees, by the gradient in every position's own vector.

GLIDE's encoder and the AR prior's are bidirectional, the diffusion prior is causal (unCLIP, 2.2),
and GLIDE's caption vector is the state of the last position (Nichol et al. 2021, section 3.1).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import networks
from unclip_jax.core.trees import flatten_paths, unflatten_paths
from unclip_jax.models.decoder import TextEncoder, TextEncoderConfig
from unclip_jax.models.prior_ar import CaptionEncoder
from unclip_jax.models.stages import unboxed

N = networks.CONTEXT
SEEN = 1e-6  # the gradients of positions that are seen are 1e-3 and more


def influence(states, table):
    """|d states[i] / d table[j]| as [i, j]; `states` maps a table of positions to [i, width]."""
    jacobian = jax.jit(jax.jacrev(lambda table: jnp.square(states(table)).sum(-1)))(table)
    return np.abs(jacobian).sum(-1)


def drawn(module, *inputs):
    init = lambda key: module.init(key, *inputs, False)["params"]  # noqa: E731
    return networks.redraw(unboxed(jax.eval_shape(init, networks.quick_key())))


def with_table(params, path, table):
    return unflatten_paths({**flatten_paths(params), path: table})


def test_glides_encoder_sees_both_ways():
    module = TextEncoder(TextEncoderConfig(networks.VOCAB, N, networks.STACK))
    tokens, visible = networks.captions(1).tokens, jnp.ones((1, N), bool)
    params = drawn(module, tokens, visible)

    def states(table):
        moved = with_table(params, "pos_embed/embedding", table)
        return module.apply({"params": moved}, tokens, visible, False)[0]

    assert (influence(states, params["pos_embed"]["embedding"]) > SEEN).all()


@pytest.mark.parametrize("text", ["tokens", "clip_states"])
def test_the_autoregressive_priors_encoder_sees_both_ways(text):
    """Among the caption's own positions; padding is seen by none of them."""
    module = CaptionEncoder(networks.prior_ar_spec(text=text).model)
    caption = jax.tree.map(lambda a: a[3:], networks.captions(4))  # five positions of six
    params = drawn(module, caption)

    def states(table):
        moved = with_table(params, "pos_embed/embedding", table)
        return module.apply({"params": moved}, caption, False)[0][0]

    found = influence(states, params["pos_embed"]["embedding"])[: N - 1]
    assert (found[:, : N - 1] > SEEN).all() and (found[:, N - 1] == 0).all()


def test_the_diffusion_prior_is_causal():
    spec = networks.prior_spec()
    module, params, _ = networks.make(spec)
    inputs = networks.prior_inputs(1)

    def states(table):
        moved = with_table(params, "pos_embed/embedding", table)
        _, state = module.apply({"params": moved}, *inputs, capture_intermediates=True)
        return state["intermediates"]["transformer"]["__call__"][0][0]

    seen = influence(states, params["pos_embed"]["embedding"]) > SEEN
    np.testing.assert_array_equal(seen, np.tril(np.ones((N + 4, N + 4), bool)))


def test_glides_caption_vector_is_the_last_position():
    """What joins the timestep embedding, from the encoder's own states."""
    spec = networks.decoder_spec(text="transformer")
    module, params, _ = networks.make(spec)

    @jax.jit
    def parts(params, *inputs):
        _, state = module.apply({"params": params}, *inputs, capture_intermediates=True)
        seen = state["intermediates"]
        return seen["text_encoder"]["__call__"][0], seen["text_time_proj"]["__call__"][0]

    states, vector = parts(params, *networks.decoder_inputs())
    proj = jax.tree.map(np.asarray, params["text_time_proj"])
    by_position = np.einsum("npw,we->pne", states, proj["kernel"]) + proj["bias"]
    error = np.abs(by_position - np.asarray(vector)).max((1, 2))
    assert error[-1] < 1e-5 and (error[:-1] > 1e-2).all()
