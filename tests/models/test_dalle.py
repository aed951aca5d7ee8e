"""DALL·E's transformer: causal by gradient, cached equals uncached, the paper's size."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import networks
from unclip_jax.core.trees import count_params
from unclip_jax.core.types import Cond, TextFeatures
from unclip_jax.models.dalle import DalleConfig, token_losses
from unclip_jax.models.dvae import DvaeConfig
from unclip_jax.models.stages import StageSpec, abstract_params
from unclip_jax.nn.transformer import TransformerConfig

K, CONTEXT = 16, networks.CONTEXT


@functools.cache
def made(scanned=False):
    return networks.make(networks.dalle_spec(scanned))


def all_logits(module, params, *inputs):
    return module.apply({"params": params}, *inputs, method="all_logits")


def test_no_logit_depends_on_its_own_token_or_a_later_one():
    """Every image token is changed in turn; those before and its own logits stay to the bit."""
    _, params, apply = made()
    tokens, t, cond = networks.dalle_inputs(1)
    one = apply(params, tokens, t, cond)[0]
    assert one.shape == (K, 7) and one.dtype == jnp.float32
    rows = jnp.repeat(tokens, K, axis=0).at[jnp.arange(K), jnp.arange(K)].add(1) % 7
    wide = jax.tree.map(lambda x: jnp.repeat(x, K, axis=0), (t, cond))
    moved = np.abs(np.asarray(apply(params, rows, *wide)) - np.asarray(one)[None]).max(-1)
    later = np.triu(np.ones((K, K), bool), 1)  # row: token that changed; column: logits
    assert (moved[later] > 1e-5).all() and (moved[~later] < 1e-6).all()


def test_text_logits_see_the_caption_before_and_no_image():
    module, params, _ = made()
    tokens, t, cond = networks.dalle_inputs(2)
    text = jax.jit(functools.partial(all_logits, module))(params, tokens, t, cond)[0]
    assert text.shape == (2, CONTEXT - 1, networks.VOCAB)
    other = Cond(text=TextFeatures(tokens=cond.text.tokens.at[:, 1].set(3)))
    changed = jax.jit(functools.partial(all_logits, module))(params, (tokens + 1) % 7, t, other)[0]
    np.testing.assert_allclose(changed[:, 0], text[:, 0], atol=1e-6)
    assert (np.abs(np.asarray(changed - text))[1, 1:].max(-1) > 1e-5).all()


def test_the_caption_reaches_the_first_token_and_padding_does_not():
    _, params, apply = made()
    tokens, t, cond = networks.dalle_inputs(2)
    out = apply(params, tokens, t, cond)
    swapped = apply(params, tokens, t, Cond(text=TextFeatures(tokens=cond.text.tokens[::-1])))
    assert jnp.abs(swapped - out)[:, 0].max() > 1e-3
    padded = Cond(text=TextFeatures(tokens=cond.text.tokens.at[:, 4].set(5)))  # after both ends
    np.testing.assert_array_equal(apply(params, tokens, t, padded), out)


@pytest.mark.parametrize("scanned", [False, True])
def test_cached_steps_equal_the_whole_pass(scanned):
    module, params, apply = made(scanned)
    tokens, t, cond = networks.dalle_inputs(2)

    @jax.jit
    def steps(params, tokens):
        run = functools.partial(module.apply, {"params": params})
        logits, state = run(cond, method="begin")

        def body(state, number):
            token = jnp.take(tokens, number - 1, axis=1)
            logits, state = run(token, number, state, method="step")
            return state, logits

        rest = jax.lax.scan(body, state, jnp.arange(1, K))[1]
        return jnp.concatenate([logits[:, None], jnp.swapaxes(rest, 0, 1)], axis=1)

    np.testing.assert_allclose(steps(params, tokens), apply(params, tokens, t, cond), atol=1e-5)


def test_losses_of_tokens_are_in_nats():
    logits = jnp.log(jnp.asarray([[[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]]))
    found = token_losses(logits, jnp.asarray([[1, 2]]))
    np.testing.assert_allclose(found, [[np.log(4), -np.log(0.8)]], rtol=1e-6)


def test_the_papers_size():
    """64 blocks of width 3968: 12 w^2 each and biases and norms; 12 billion, says the paper."""
    w, layers, text, codes = 3968, 64, 16_384, 8192
    stack = TransformerConfig(w, layers, 62, scan_layers=True)
    cfg = DalleConfig(stack, DvaeConfig(256, codes, 256), vocab_size=text, context=256)
    found = count_params(abstract_params(StageSpec("dalle", cfg)))
    blocks = layers * (12 * w * w + 13 * w)
    tables = (text + codes + 2 * 256 + 2 * 32) * w
    heads = (text + codes) * (w + 1) + 2 * w
    assert found == blocks + tables + heads
    assert found == pytest.approx(12e9, rel=0.03)


def test_what_does_not_fit_is_named():
    module, params, _ = made()
    tokens, t, cond = networks.dalle_inputs(2)
    run = functools.partial(module.apply, {"params": params})
    with pytest.raises(ValueError, match="3 tokens for images of 16"):
        run(tokens[:, :3], t, cond)
    with pytest.raises(ValueError, match="no tokens; pass the empty caption"):
        run(tokens, t, Cond())
    short = Cond(text=TextFeatures(tokens=cond.text.tokens[:, :3]))
    with pytest.raises(ValueError, match="3 caption tokens"):
        run(tokens, t, short)
