"""The discrete VAE: closed forms of likelihoods and draws, tokens and back, published sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import logit, softmax

from tests import networks
from unclip_jax.core.trees import count_params
from unclip_jax.core.types import Cond
from unclip_jax.models.dvae import (
    DvaeConfig,
    gumbel_softmax,
    kl_to_uniform,
    mean_image,
    negative_log_likelihood,
)
from unclip_jax.models.stages import StageSpec, abstract_params

RNG = np.random.default_rng(0)
LAPLACE = DvaeConfig(4, 5, 4, channel_mult=(1,))
NORMAL = DvaeConfig(4, 5, 4, channel_mult=(1,), likelihood="l2", pixel_std=0.3)


@pytest.fixture(scope="module")
def made():
    return networks.make(networks.dvae_spec())


def test_tokens_are_decoded_as_their_one_hot_vectors(made):
    module, params, apply = made
    images = jnp.asarray(RNG.uniform(-1, 1, (2, 8, 8, 3)), jnp.float32)

    def run(method, x):
        return jax.jit(lambda p: module.apply({"params": p}, x, method=method))(params)

    logits, tokens = run("logits", images), run("encode", images)
    assert logits.shape == (2, 4, 4, 7) and logits.dtype == jnp.float32
    np.testing.assert_array_equal(tokens, np.asarray(logits).reshape(2, 16, 7).argmax(-1))
    by_weights = run("decode", jax.nn.one_hot(tokens, 7).reshape(2, 4, 4, 7))
    by_tokens = run("decode_tokens", tokens)
    np.testing.assert_allclose(by_tokens, np.clip(by_weights, -1, 1), atol=1e-5)
    again = apply(params, images, jnp.zeros(2, jnp.int32), Cond())
    np.testing.assert_allclose(again, by_tokens, atol=1e-5)
    with pytest.raises(ValueError, match="9 tokens for an image of 16"):
        run("decode_tokens", jnp.zeros((1, 9), jnp.int32))


def test_a_token_is_in_its_place(made):
    """Changing the token of a corner moves the pixels of that corner the most."""
    module, params, _ = made
    decode = jax.jit(lambda x: module.apply({"params": params}, x, method="decode_tokens"))
    tokens = jnp.zeros((1, 16), jnp.int32)
    change = jnp.abs(decode(tokens.at[0, 3].set(4)) - decode(tokens))[0].sum(-1)
    place = np.unravel_index(np.asarray(change).argmax(), change.shape)
    assert place[0] < 2 and place[1] >= 6


def test_the_logit_laplace_likelihood_is_that_of_scipy():
    """Laplace in logit(u), with the Jacobian of the logit; u = 0.8 (x + 1) / 2 + 0.1."""
    images = RNG.uniform(-1, 1, (2, 4, 4, 3))
    mu, log_b = RNG.normal(size=(2, 2, 4, 4, 3))
    out = jnp.asarray(np.concatenate([mu, log_b], -1), jnp.float32)
    found = negative_log_likelihood(out, jnp.asarray(images, jnp.float32), LAPLACE)
    u = 0.8 * (images + 1) / 2 + 0.1
    density = stats.laplace.logpdf(logit(u), mu, np.exp(log_b)) - np.log(u * (1 - u))
    np.testing.assert_allclose(found, -density.sum((1, 2, 3)), rtol=1e-5)


def test_an_image_of_the_logit_laplace_mean_comes_back():
    images = RNG.uniform(-1, 1, (2, 4, 4, 3))
    mu = logit(0.8 * (images + 1) / 2 + 0.1)
    out = jnp.asarray(np.concatenate([mu, mu], -1), jnp.float32)
    np.testing.assert_allclose(mean_image(out, LAPLACE), images, atol=1e-6)


def test_the_normal_likelihood_is_that_of_scipy():
    images, mu = RNG.uniform(-1, 1, (2, 2, 4, 4, 3))
    out = jnp.asarray(mu, jnp.float32)
    found = negative_log_likelihood(out, jnp.asarray(images, jnp.float32), NORMAL)
    expected = -stats.norm.logpdf(images, mu, 0.3).sum((1, 2, 3))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_kl_is_the_entropy_below_that_of_uniform_tokens():
    logits = RNG.normal(size=(3, 2, 2, 5)) * 2
    expected = (np.log(5) - stats.entropy(softmax(logits, -1), axis=-1)).sum((1, 2))
    np.testing.assert_allclose(kl_to_uniform(jnp.asarray(logits, jnp.float32)), expected, rtol=1e-5)


def test_relaxed_draws_are_the_softmax_and_become_draws_of_it():
    logits, gumbel = RNG.normal(size=(1, 2, 2, 3)), RNG.gumbel(size=(1, 2, 2, 3))
    found = gumbel_softmax(*(jnp.asarray(x, jnp.float32) for x in (logits, gumbel)), 0.7)
    np.testing.assert_allclose(found, softmax((logits + gumbel) / 0.7, -1), rtol=1e-5)
    many = jnp.broadcast_to(jnp.asarray(logits[:, :1, :1], jnp.float32), (1, 100, 100, 3))
    draws = gumbel_softmax(many, jax.random.gumbel(jax.random.key(0), many.shape), 1e-3)
    share = np.asarray(draws).mean((0, 1, 2))
    np.testing.assert_allclose(share, softmax(logits[0, 0, 0]), atol=0.02)  # 4 sigma of 10,000
    assert np.asarray(draws.max(-1)).mean() > 0.99


def test_the_released_sizes():
    """256 channels, groups of 1, 2, 4 and 8 times as many, two blocks each, 8192 codes."""
    params = abstract_params(StageSpec("dvae", DvaeConfig(256, 8192, 256)))

    def conv(side, wide, out):
        return side * side * wide * out + out

    def block(sides, wide, out):
        hidden = out // 4
        widths = [wide, hidden, hidden, hidden, out]
        total = sum(conv(s, a, b) for s, a, b in zip(sides, widths, widths[1:], strict=False))
        return total + (conv(1, wide, out) if wide != out else 0)

    widths = [256, 256, 256, 512, 512, 1024, 1024, 2048, 2048]
    pairs = list(zip(widths, widths[1:], strict=False))
    encoder = conv(7, 3, 256) + conv(1, 2048, 8192)
    encoder += sum(block((3, 3, 3, 1), *pair) for pair in pairs)
    back = [128, 2048, 2048, 1024, 1024, 512, 512, 256, 256]
    decoder = conv(1, 256, 6) + sum(
        block((1, 3, 3, 3), *pair) for pair in zip(back, back[1:], strict=False)
    )
    assert count_params(params["encoder"]) == encoder == 53_786_240
    assert count_params(params["decoder"]) == decoder
    assert params["codebook"].shape == (8192, 128)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channel_mult": ()}, "channel_mult"),
        ({"channels": 6}, "multiple of 4"),
        ({"image_size": 10}, "image_size=10 must be a multiple of 8"),
        ({"codes": 0}, "codes"),
    ],
)
def test_sizes_that_do_not_fit_are_named(changes, words):
    with pytest.raises(ValueError, match=words):
        DvaeConfig(**({"image_size": 16, "codes": 9, "channels": 8} | changes))
