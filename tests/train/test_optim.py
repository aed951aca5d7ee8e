"""Schedules, decay masks and the update itself against their formulas in NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests.training import spec_of
from unclip_jax.configs import common
from unclip_jax.core.config import build
from unclip_jax.core.trees import flatten_paths
from unclip_jax.models.stages import abstract_params
from unclip_jax.train.config import OptimConfig
from unclip_jax.train.optim import decay_mask, ema_decay, learning_rate_schedule, make_optimizer


def test_warm_up_rises_linearly_to_the_peak_and_the_cosine_falls_to_zero():
    cfg = OptimConfig(1.0, warmup_steps=4, schedule="cosine")
    rate = learning_rate_schedule(cfg, 104)
    got = np.array([float(rate(n)) for n in (0, 1, 2, 3, 4, 54, 104, 200)])
    half = 0.5 * (1 + np.cos(np.pi * 50 / 100))
    np.testing.assert_allclose(got, [0.25, 0.5, 0.75, 1, 1, half, 0, 0], rtol=1e-6, atol=1e-7)


def test_a_constant_schedule_stays_at_its_rate():
    rate = learning_rate_schedule(OptimConfig(0.3), 10)
    assert [float(rate(n)) for n in (0, 5, 100)] == pytest.approx([0.3] * 3)


@pytest.mark.parametrize("n, expected", [(0, 0.1), (8, 0.5), (71, 72 / 81), (100_000, 0.99)])
def test_ema_decay_warms_up(n, expected):
    cfg = OptimConfig(1.0, ema_decay=0.99)
    assert float(ema_decay(cfg, jnp.asarray(n))) == pytest.approx(expected, rel=1e-6)


def test_ema_decay_without_warm_up():
    cfg = OptimConfig(1.0, ema_decay=0.99, ema_warmup=False)
    assert float(ema_decay(cfg, jnp.asarray(0))) == pytest.approx(0.99)


def test_matrices_alone_decay_where_clip_says_so():
    params = {"fc": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}, "scale": jnp.ones(())}
    mask = decay_mask(params, OptimConfig(1.0, decay="matrices"))
    assert mask == {"fc": {"kernel": True, "bias": False}, "scale": False}
    assert decay_mask(params, OptimConfig(1.0))["scale"] is True


def test_two_updates_equal_adam_with_decoupled_decay():
    cfg = OptimConfig(0.1, b1=0.8, b2=0.9, eps=1e-3, weight_decay=0.5, decay="matrices")
    params = {"kernel": np.array([[1.0, -2.0]]), "bias": np.array([3.0])}
    grads = [
        {"kernel": np.array([[0.5, 1.0]]), "bias": np.array([-1.0])},
        {"kernel": np.array([[-0.2, 0.4]]), "bias": np.array([2.0])},
    ]
    tx = make_optimizer(cfg, params, (), 10)
    state, moved = tx.init(params), dict(params)
    for grad in grads:
        updates, state = tx.update(grad, state, moved)
        moved = {name: moved[name] + updates[name] for name in moved}

    for name, decay in (("kernel", 0.5), ("bias", 0.0)):
        p, m, v = params[name], 0.0, 0.0
        for n, grad in enumerate(grads, start=1):
            m, v = 0.8 * m + 0.2 * grad[name], 0.9 * v + 0.1 * grad[name] ** 2
            adam = (m / (1 - 0.8**n)) / (np.sqrt(v / (1 - 0.9**n)) + 1e-3)
            p = p - 0.1 * (adam + decay * p)
        np.testing.assert_allclose(moved[name], p, rtol=1e-5)


def test_frozen_parameters_get_no_update_and_no_decay():
    cfg = OptimConfig(0.1, weight_decay=0.5)
    params = {"clip_mean": np.ones(2, np.float32), "kernel": np.ones((2, 2), np.float32)}
    tx = make_optimizer(cfg, params, {"clip_mean", "clip_std"}, 10)
    updates, _ = tx.update(params, tx.init(params), params)
    assert not np.any(updates["clip_mean"])
    assert np.all(updates["kernel"] < 0)


def test_gradients_are_clipped_by_their_global_norm():
    cfg = OptimConfig(1.0, b1=0.0, b2=0.0, eps=1e6, clip_norm=1.0)
    params = {"kernel": np.zeros(2, np.float32)}
    tx = make_optimizer(cfg, params, (), 10)
    updates, _ = tx.update({"kernel": np.array([30.0, 40.0], np.float32)}, tx.init(params), params)
    np.testing.assert_allclose(updates["kernel"] * -1e6, [0.6, 0.8], rtol=1e-4)


def test_a_codec_is_left_alone_whatever_the_config_says():
    """Also by a config that says nothing of it, and one that freezes something else."""
    fitted = spec_of("prior_ar").fitted_names
    params = {"codec_std": np.ones(3, np.float32), "other": np.ones((2, 2), np.float32)}
    for frozen in (None, "other"):
        section = common.base("prior_ar").optim
        section.update({"learning_rate": 0.1, "weight_decay": 0.06})
        if frozen:
            section.frozen = frozen
        tx = make_optimizer(build(OptimConfig, section.to_dict()), params, fitted, 10)
        updates, _ = tx.update(params, tx.init(params), params)
        assert not np.any(updates["codec_std"])
        assert np.any(updates["other"]) == (frozen is None)


@pytest.mark.parametrize("name", ["clip:scanned", "prior_diffusion:scanned", "decoder:glide"])
def test_biases_and_gains_of_scanned_stacks_do_not_decay(name):
    """Their leading axis of layers makes matrices of them in shape alone."""
    params = abstract_params(spec_of(name))
    mask = flatten_paths(decay_mask(params, OptimConfig(1.0, decay="matrices")))
    shapes = {path: leaf.shape for path, leaf in flatten_paths(params).items()}
    stacked = {
        path for path in mask if path.endswith(("/bias", "/scale")) and len(shapes[path]) > 1
    }
    assert len(stacked) >= 8
    assert not any(mask[path] for path in stacked)
    kernels = [path for path in mask if path.endswith("/kernel")]
    assert kernels and all(mask[path] for path in kernels)
