"""Losses against an independent NumPy bound and the definitions of their weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.oracles import bayes_posterior, normal_kl, pixel_nll
from unclip_jax.diffusion.config import DiffusionConfig
from unclip_jax.diffusion.losses import LossTerms, min_snr_weight, training_loss
from unclip_jax.diffusion.process import convert, q_sample
from unclip_jax.diffusion.schedules import make_schedule

SCHEDULE = make_schedule("cosine", 1000)
BAR = np.append(SCHEDULE.alpha_bar, 1.0)
T = np.array([0, 1, 2, 400, 998, 999])
KINDS = ("eps", "x0", "v")


@pytest.fixture
def case():
    """8-bit images with both end values, x_t, and an x_0 estimate with variance channels."""
    rng = np.random.default_rng(0)
    x0 = rng.integers(0, 256, size=(6, 4, 4, 3)) / 127.5 - 1.0
    x0[:, 0, 0, 0], x0[:, 0, 1, 0] = -1.0, 1.0
    noise = rng.normal(size=x0.shape)
    # At t = 0 the bin is of the width of sigma: an estimate close enough to have mass in it.
    spread = np.where(T == 0, 0.01, 0.2).reshape(6, 1, 1, 1)
    estimate = x0 + spread * rng.normal(size=x0.shape)
    raw = rng.uniform(-1.2, 1.2, size=x0.shape)
    x0, noise, estimate, raw = map(jnp.asarray, (x0, noise, estimate, raw))
    x_t = q_sample(x0, jnp.asarray(T), noise, SCHEDULE)
    return x0, noise, x_t, estimate, raw


def loss_of(case, cfg, network_x0=None) -> LossTerms:
    x0, noise, x_t, estimate, raw = case
    estimate = estimate if network_x0 is None else network_x0
    level = SCHEDULE.level(T, x0.dtype)
    output = convert(estimate, x_t, level, source="x0", target=cfg.prediction)
    if cfg.variance == "learned_range":
        output = jnp.concatenate([output, raw], axis=-1)
    return training_loss(
        output, x0=x0, x_t=x_t, t=jnp.asarray(T), noise=noise, schedule=SCHEDULE, cfg=cfg
    )


def bound_oracle(case, variance) -> np.ndarray:
    """One step's bound in bits a dimension, from Bayes, KL and the mass of the pixel's bin."""
    x0, _, x_t, estimate, raw = (np.asarray(a) for a in case)
    out = []
    for i, t in enumerate(T):
        borrowed = bayes_posterior(BAR[1], BAR[0])[2]
        w0, wt, small = bayes_posterior(BAR[t], BAR[t - 1])
        beta = 1.0 - BAR[t] / BAR[t - 1]
        low = borrowed if t == 0 else small
        high = borrowed if t == 0 and variance == "fixed_large" else beta
        fraction = {"fixed_small": 0.0, "fixed_large": 1.0}.get(variance, (raw[i] + 1.0) / 2.0)
        model = np.exp(fraction * np.log(high) + (1.0 - fraction) * np.log(low))
        if t == 0:
            nats = pixel_nll(x0[i], estimate[i], np.sqrt(model))
        else:
            true = w0 * x0[i] + wt * x_t[i]
            nats = normal_kl(true, small, w0 * estimate[i] + wt * x_t[i], model)
        out.append(nats.mean() / np.log(2.0))
    return np.array(out)


@pytest.mark.parametrize("variance", ["learned_range", "fixed_small", "fixed_large"])
@pytest.mark.parametrize("prediction", KINDS)
def test_vlb_is_the_bound(case, prediction, variance):
    terms = loss_of(case, DiffusionConfig(prediction=prediction, variance=variance, loss="vlb"))
    np.testing.assert_allclose(terms.vb, bound_oracle(case, variance), rtol=1e-6)
    np.testing.assert_allclose(terms.loss, 1000.0 * np.asarray(terms.vb), rtol=1e-14)


def test_the_bound_is_zero_only_for_the_truth(case):
    x0 = case[0]
    terms = loss_of(case, DiffusionConfig(prediction="x0", loss="vlb"), network_x0=x0)
    np.testing.assert_allclose(terms.vb[1:], 0.0, atol=1e-12)
    assert float(terms.vb[0]) > 0.0


@pytest.mark.parametrize("prediction", KINDS)
def test_simple_loss_is_the_mean_squared_error(case, prediction):
    x0, noise, x_t, estimate, _ = (np.asarray(a) for a in case)
    a = BAR[T].reshape(6, 1, 1, 1)

    def of_x0(x):
        return {
            "x0": x,
            "eps": (x_t - np.sqrt(a) * x) / np.sqrt(1 - a),
            "v": (np.sqrt(a) * x_t - x) / np.sqrt(1 - a),
        }[prediction]

    expected = ((of_x0(estimate) - of_x0(x0)) ** 2).mean(axis=(1, 2, 3))
    terms = loss_of(case, DiffusionConfig(prediction=prediction))
    np.testing.assert_allclose(terms.mse, expected, rtol=1e-8)
    np.testing.assert_array_equal(terms.loss, terms.mse)
    assert terms.vb is None


def test_hybrid_weight_and_gradient(case):
    """loss = mse + vb at T = 1000; vb moves the variance channels only, mse the prediction only."""
    cfg = DiffusionConfig(variance="learned_range", loss="hybrid")
    x0, noise, x_t, estimate, raw = case
    level = SCHEDULE.level(T, x0.dtype)
    eps = convert(estimate, x_t, level, source="x0", target="eps")

    def loss(eps, raw, cfg):
        output = jnp.concatenate([eps, raw], axis=-1)
        kwargs = {"x0": x0, "x_t": x_t, "t": jnp.asarray(T), "noise": noise, "schedule": SCHEDULE}
        terms = training_loss(output, cfg=cfg, **kwargs)
        return jnp.sum(terms.loss), terms

    (_, terms), (by_eps, by_raw) = jax.value_and_grad(loss, (0, 1), has_aux=True)(eps, raw, cfg)
    np.testing.assert_allclose(terms.loss, terms.mse + terms.vb, rtol=1e-12)
    np.testing.assert_allclose(terms.vb, bound_oracle(case, "learned_range"), rtol=1e-6)
    np.testing.assert_allclose(by_eps, 2.0 * (eps - noise) / eps[0].size, rtol=1e-9)
    alone = DiffusionConfig(variance="learned_range", loss="vlb")
    _, (full_by_eps, full_by_raw) = jax.value_and_grad(loss, (0, 1), has_aux=True)(eps, raw, alone)
    np.testing.assert_allclose(by_raw, full_by_raw / 1000.0, rtol=1e-7)
    assert np.any(full_by_eps != 0.0)


def test_hybrid_weight_at_other_lengths():
    """0.001 L_vlb: a process of 200 steps weighs its drawn term by 0.2 (T / 1000)."""
    schedule = make_schedule("cosine", 200)
    cfg = DiffusionConfig(num_steps=200, variance="learned_range", loss="hybrid")
    x0 = jnp.full((2, 1, 1, 1), 0.3)
    t, noise = jnp.array([5, 150]), jnp.ones_like(x0)
    x_t = q_sample(x0, t, noise, schedule)
    output = jnp.concatenate([0.5 * noise, 0.2 * noise], axis=-1)
    terms = training_loss(output, x0=x0, x_t=x_t, t=t, noise=noise, schedule=schedule, cfg=cfg)
    np.testing.assert_allclose(terms.loss - terms.mse, 0.2 * terms.vb, rtol=1e-12)


@pytest.mark.parametrize("floor", [0.0, 1.0])
@pytest.mark.parametrize("prediction", KINDS)
def test_min_snr_equals_its_weight_on_x0(case, prediction, floor):
    """Whatever is predicted, the error is weighted by min(SNR, gamma) |x_0 - x_0_hat|^2 or more."""
    x0, estimate = np.asarray(case[0]), np.asarray(case[3])
    snr = BAR[T] / (1.0 - BAR[T])
    bounded = np.maximum(np.minimum(snr, 5.0), floor)
    expected = bounded * ((x0 - estimate) ** 2).mean(axis=(1, 2, 3))
    cfg = DiffusionConfig(prediction=prediction, loss_weighting="min_snr", min_snr_floor=floor)
    terms = loss_of(case, cfg)
    np.testing.assert_allclose(terms.loss, expected, rtol=1e-8)
    weight = min_snr_weight(jnp.asarray(T), SCHEDULE, "eps", 5.0)
    np.testing.assert_allclose(weight, np.minimum(snr, 5.0) / snr, rtol=1e-12)


def test_examples_are_independent(case):
    cfg = DiffusionConfig(variance="learned_range", loss="hybrid", loss_weighting="min_snr")
    x0, noise, x_t, estimate, raw = case
    output = jnp.concatenate([estimate, raw], axis=-1)
    kwargs = {"x0": x0, "x_t": x_t, "t": jnp.asarray(T), "noise": noise, "schedule": SCHEDULE}
    jacobian = jax.jacrev(lambda out: training_loss(out, cfg=cfg, **kwargs).loss)(output)
    moved = np.abs(np.asarray(jacobian)).sum(axis=(2, 3, 4))
    assert np.all((moved > 0.0) == np.eye(6, dtype=bool))


def test_float32_is_finite_and_close(case):
    cfg = DiffusionConfig(variance="learned_range", loss="hybrid")
    low = loss_of(tuple(a.astype(jnp.float32) for a in case), cfg)
    high = loss_of(case, cfg)
    assert low.loss.dtype == jnp.float32
    np.testing.assert_allclose(low.vb, high.vb, rtol=2e-3, atol=1e-5)


def test_misuse_is_refused(case):
    with pytest.raises(ValueError, match="hybrid"):
        DiffusionConfig(loss="hybrid")
    with pytest.raises(ValueError, match="never trains"):
        loss_of(case, DiffusionConfig(variance="learned_range"))
