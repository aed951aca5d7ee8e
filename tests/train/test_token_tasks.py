"""The training of the discrete VAE and of DALL·E: annealing, weights of the losses, what learns."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from tests.training import BATCH, OPTIM, Toy
from unclip_jax.core.prng import root_key
from unclip_jax.core.types import Cond, TextFeatures
from unclip_jax.data.images import to_float
from unclip_jax.models.stages import make_module
from unclip_jax.train.config import TrainConfig
from unclip_jax.train.state import make_state
from unclip_jax.train.step import batch_keys
from unclip_jax.train.tasks.diffusion import TEXT_DROP, keep_mask
from unclip_jax.train.tasks.dvae import kl_weight_at, temperature_at

ANNEALED = {"gumbel_temperature": 0.25, "gumbel_steps": 100, "kl_weight": 0.2, "kl_steps": 20}
KEYS = batch_keys(root_key(0), BATCH)


@functools.cache
def toy(name, **train):
    made = Toy(name, **train)
    return made, made.params(), made.batch()


def loss(made, params, batch, train, keys=KEYS):
    run = jax.jit(lambda p: made.task.loss(p, made.constants, batch, keys, train))
    value, metrics = run(params)
    return float(value), {k: float(v[0] / v[1]) for k, v in metrics.items()}


def test_temperature_and_kl_weight_are_annealed():
    """Half a cosine from 1 to 1/4 in 100 steps; a line from 0 to 0.2 in 20."""
    cfg = TrainConfig(steps=1, batch_size=1, **ANNEALED)
    steps = [0, 50, 100, 1000]
    found = [float(temperature_at(jnp.int32(s), cfg)) for s in steps]
    np.testing.assert_allclose(found, [1.0, 0.625, 0.25, 0.25], rtol=1e-6)
    found = [float(kl_weight_at(jnp.int32(s), cfg)) for s in (0, 5, 20, 1000)]
    np.testing.assert_allclose(found, [0.0, 0.05, 0.2, 0.2], rtol=1e-6)


def test_the_published_annealing_is_the_default():
    """Ramesh et al. 2021, appendix A.2."""
    cfg = TrainConfig(steps=1, batch_size=1)
    found = (cfg.gumbel_temperature, cfg.gumbel_steps, cfg.kl_weight, cfg.kl_steps)
    assert found == (1 / 16, 150_000, 6.6, 5_000)


def test_the_held_out_loss_is_the_bound_of_the_likeliest_tokens():
    """In float64 of the network's own logits and images; nats of a value."""
    made, params, batch = toy("dvae", **ANNEALED)
    value, metrics = loss(made, params, batch, False)
    images = np.float64(to_float(batch["image"]))

    def run(x, method):
        return jax.jit(lambda p: made.module.apply({"params": p}, x, method=method))(params)

    logits = np.float64(run(to_float(batch["image"]), "logits"))
    one_hot = jnp.asarray(np.eye(7)[logits.argmax(-1)], jnp.float32)
    mean, std = np.float64(run(one_hot, "decode")), made.spec.model.pixel_std
    nats = 0.5 * ((images - mean) / std) ** 2 + np.log(std * np.sqrt(2 * np.pi))
    log_q = log_softmax(logits, -1)
    kl = (np.exp(log_q) * (log_q + np.log(7))).sum((1, 2, 3))
    expected = nats.mean() + 0.2 * kl.mean() / images[0].size
    assert value == pytest.approx(expected, rel=1e-4)
    assert metrics["kl"] == pytest.approx(kl.mean() / 16, rel=1e-4)
    assert metrics["mse"] == pytest.approx(((mean.clip(-1, 1) - images) ** 2).mean(), rel=1e-4)
    assert 1 / 7 <= metrics["usage"] <= 1


def test_the_step_sets_the_temperature():
    """Later, the relaxed tokens are harder and the KL counts."""
    made, params, batch = toy("dvae", **ANNEALED)
    found = [loss(made, params, batch, True, KEYS._replace(step=jnp.int32(s))) for s in (0, 100)]
    first, last = (metrics["reconstruction"] for _, metrics in found)
    assert found[0][0] == pytest.approx(first, rel=1e-6) and found[1][0] > last
    assert first != pytest.approx(last, rel=1e-3)


def test_images_are_learned_in_micro_batches():
    made, params, batch = toy("dvae", accumulation=2, **ANNEALED)
    state = jax.jit(lambda p: make_state(p, made.tx, made.count))(params)
    step = made.step(OPTIM)
    before = loss(made, params, batch, False)[1]["mse"]
    for _ in range(60):
        state, logged = step(state, made.constants, batch)
    assert int(logged["skipped"]) == 0
    assert loss(made, state.params, batch, False)[1]["mse"] < 0.8 * before


def own_loss(made, params, batch, told, counted):
    """1/8 of the caption's loss a token and 7/8 of the image's, in float64."""
    dvae, images = make_module(made.spec.frozen), to_float(batch["image"])
    tokens = jax.jit(lambda p: dvae.apply({"params": p}, images, method="encode"))(
        made.constants.frozen
    )
    text = TextFeatures(tokens=jnp.asarray(told))
    inputs = tokens, jnp.zeros(BATCH, jnp.int32), Cond(text=text)
    text_logits, logits = jax.jit(
        lambda p: made.module.apply({"params": p}, *inputs, method="all_logits")
    )(params)

    def nats(logits, tokens):
        chosen = np.asarray(tokens)[..., None]
        return -np.take_along_axis(log_softmax(np.float64(logits), -1), chosen, -1)[..., 0]

    words = nats(text_logits, told[:, 1:])[counted].mean()
    return words / 8 + nats(logits, tokens).mean() * 7 / 8


def is_read(tokens):
    """Which tokens from the second on are there: up to the end of text, the largest id."""
    return np.arange(1, tokens.shape[1])[None] <= tokens.argmax(1)[:, None]


def test_an_eighth_of_the_loss_is_of_the_caption():
    made, params, batch = toy("dalle")
    told = np.asarray(batch["own_tokens"])
    expected = own_loss(made, params, batch, told, is_read(told))
    for train in (True, False):
        assert loss(made, params, batch, train)[0] == pytest.approx(expected, rel=1e-5)


def test_a_dropped_caption_is_the_empty_one_and_is_not_learned():
    made, params, batch = toy("dalle", caption_drop=0.5)
    keep = np.asarray(keep_mask(KEYS, TEXT_DROP, 0.5, True))
    assert 0 < keep.sum() < BATCH
    tokens, empty = np.asarray(batch["own_tokens"]), np.asarray(made.constants.empty.tokens)
    told = np.where(keep[:, None], tokens, empty)
    expected = own_loss(made, params, batch, told, is_read(tokens) & keep[:, None])
    assert loss(made, params, batch, True)[0] == pytest.approx(expected, rel=1e-5)


def test_the_discrete_vae_is_not_trained():
    made, params, batch = toy("dalle")
    state = jax.jit(lambda p: make_state(p, made.tx, made.count))(params)
    step = made.step(OPTIM)
    for _ in range(40):
        state, _ = step(state, made.constants, batch)
    before, after = (loss(made, p, batch, False)[0] for p in (params, state.params))
    assert after < 0.8 * before
    assert set(state.params) == set(params) and "codebook" not in state.params
