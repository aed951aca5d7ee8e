"""The step: it learns, counts, averages and guards; accumulation and batch split change nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training import (
    OPTIM,
    Toy,
    as_double,
    double_precision,
    largest_difference,
)
from unclip_jax.core.prng import root_key
from unclip_jax.train.metrics import named_metrics
from unclip_jax.train.step import accumulate, batch_keys, make_train_step

STEPS = 60
# float32 sums; the average runs over STEPS updates.
EMA_TOLERANCE = 1e-5


def mean_loss(toy, logged):
    return named_metrics(np.asarray(logged["sums"]), (*toy.task.metric_names, "grad_norm"))["loss"]


@pytest.mark.parametrize(
    "stage", ["clip", "prior_diffusion", "prior_ar", "decoder", "upsampler_256"]
)
def test_loss_falls_on_eight_fixed_examples(stage):
    toy = Toy(stage, log_every=20)
    step, state, batch = toy.step(), toy.state(), toy.batch()
    before = jax.device_get(toy.constants)
    means = []
    for number in range(STEPS):
        state, logged = step(state, toy.constants, batch)
        if (number + 1) % 20 == 0:
            means.append(mean_loss(toy, logged))
    assert means[2] < means[1] < means[0]
    assert means[2] < 0.9 * means[0]
    assert step._cache_size() == 1, "the step was compiled again"
    assert int(state.step) == STEPS and int(state.skipped) == 0
    # CLIP stays as it was, to the bit.
    same = jax.tree.map(np.array_equal, before, jax.device_get(toy.constants))
    assert all(jax.tree.leaves(same))


@pytest.fixture(scope="module")
def prior():
    toy = Toy("prior_diffusion", log_every=1000, skip_limit=3)
    return toy, toy.step()


def test_ema_follows_its_closed_form(prior):
    toy, step = prior
    state, params = toy.state(), []
    expected = jax.device_get(state.params)
    for n in range(12):
        state, _ = step(state, toy.constants, toy.batch(n))
        params.append(jax.device_get(state.params))
        decay = min(OPTIM.ema_decay, (1 + n) / (10 + n))
        expected = jax.tree.map(
            lambda e, p, d=decay: d * np.float64(e) + (1 - d) * p, expected, params[-1]
        )
        # At every step: the start has next to no weight after a few.
        assert largest_difference(state.ema_params, expected) < EMA_TOLERANCE
    assert largest_difference(state.params, expected) > 100 * EMA_TOLERANCE


def test_the_same_step_twice_is_the_same_another_step_or_seed_is_not(prior):
    toy, step = prior
    results = [step(toy.state(), toy.constants, toy.batch())[1]["sums"] for _ in range(2)]
    np.testing.assert_array_equal(*results)
    moved = toy.state().replace(step=jnp.asarray(1, jnp.int32))
    assert not np.array_equal(results[0], step(moved, toy.constants, toy.batch())[1]["sums"])
    other = jax.jit(make_train_step(toy.task, toy.tx, toy.train, OPTIM, 1))
    assert not np.array_equal(results[0], other(toy.state(), toy.constants, toy.batch())[1]["sums"])


def test_a_step_that_is_not_finite_is_left_out_and_counted(prior):
    toy, step = prior
    state, _ = step(toy.state(), toy.constants, toy.batch())
    before = jax.device_get(state)
    clip = jax.tree.map(lambda x: x * jnp.nan, toy.constants.clip)
    bad = toy.constants.replace(clip=clip)
    state, logged = step(state, bad, toy.batch())
    after = jax.device_get(state)
    for name in ("params", "ema_params", "opt_state", "sums"):
        same = jax.tree.map(np.array_equal, getattr(before, name), getattr(after, name))
        assert all(jax.tree.leaves(same)), name
    assert (int(after.step), int(after.skipped), int(after.consecutive_skips)) == (2, 1, 1)
    state, logged = step(state, toy.constants, toy.batch())
    assert (int(logged["skipped"]), int(logged["row"])) == (1, 0)
    assert not np.array_equal(before.params["query"], state.params["query"])


def test_after_too_many_in_a_row_nothing_is_updated_any_more(prior):
    toy, step = prior
    state = toy.state().replace(consecutive_skips=jnp.asarray(3, jnp.int32))
    before = jax.device_get(state.params)
    state, logged = step(state, toy.constants, toy.batch())
    assert int(logged["row"]) == 4
    np.testing.assert_array_equal(before["query"], state.params["query"])


@pytest.mark.parametrize("stage", ["clip", "prior_diffusion", "prior_ar"])
def test_four_micro_batches_give_the_gradient_and_metrics_of_one_batch(stage, monkeypatch):
    plain = Toy(stage, caption_drop=0.5)
    params, batch, constants = map(as_double, (plain.params(), plain.batch(), plain.constants))
    with double_precision(monkeypatch):
        toy = Toy(stage, jnp.float64, caption_drop=0.5)

        def gradient(params, constants, batch, parts):
            keys = batch_keys(root_key(3), 8)
            return accumulate(toy.task, params, constants, batch, keys, parts)

        compiled = jax.jit(gradient, static_argnums=3)
        one, four = (jax.device_get(compiled(params, constants, batch, n)) for n in (1, 4))
    assert largest_difference(one[0], four[0]) < 1e-9
    for name in one[1]:
        np.testing.assert_allclose(one[1][name], four[1][name], rtol=1e-9, err_msg=name)


def test_dropped_micro_batch_counts_are_refused():
    with pytest.raises(ValueError, match="accumulation"):
        Toy("clip", accumulation=3)


def test_optim_defaults_are_the_papers():
    defaults = {f.name: f.default for f in dataclasses.fields(OPTIM)}
    assert (defaults["b1"], defaults["b2"], defaults["eps"]) == (0.9, 0.999, 1e-8)
    assert defaults["ema_decay"] == 0.9999
