"""Which key an example gets, what is counted, and what a loss is of: by tasks made to show it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import networks
from tests.training import spec_of
from unclip_jax.core.prng import root_key
from unclip_jax.core.types import TextFeatures
from unclip_jax.data.pipeline import DataConfig
from unclip_jax.diffusion.schedules import make_schedule
from unclip_jax.models.embedding_norm import EmbeddingNorm
from unclip_jax.models.stages import STAGES, make_module
from unclip_jax.train.config import OptimConfig, TrainConfig
from unclip_jax.train.fitting import with_fitted
from unclip_jax.train.inputs import without_augmentation
from unclip_jax.train.optim import make_optimizer
from unclip_jax.train.state import TrainState, make_state
from unclip_jax.train.step import HeldOutLoss, batch_keys, make_train_step
from unclip_jax.train.task import StepConstants, Task, weighted
from unclip_jax.train.tasks.clip import make_clip_task
from unclip_jax.train.tasks.diffusion import (
    BLUR,
    CROP,
    IMAGE_DROP,
    NOISE,
    TEXT_DROP,
    TIME,
    make_diffusion_task,
    make_inputs,
    random_crop,
)

ROWS, MANY = 4, 20_000
PARAMS = {"w": jnp.ones(())}


def probe(seed, train=None, optim=None):
    """The step of a task that reports the sum of a uniform draw of each row's key, and its state.

    The gradient is the batch's mean.
    """

    def loss(params, constants, batch, keys, train):
        value = params["w"] * batch["x"].mean()
        draws = jax.vmap(jax.random.uniform)(keys.rows)
        return value, {"loss": weighted(value, ROWS), "draws": jnp.stack([draws.sum(), ROWS])}

    task = Task(STAGES["decoder"].key_id, ("loss", "draws"), loss, ("x",))
    train = train or TrainConfig(steps=100, batch_size=ROWS, log_every=1)
    optim = optim or OptimConfig(learning_rate=1e-3)
    tx = make_optimizer(optim, PARAMS, (), train.steps)
    return jax.jit(make_train_step(task, tx, train, optim, seed)), make_state(PARAMS, tx, 3)


def batch(value=1.0):
    return {"x": jnp.full((ROWS,), value)}


@pytest.mark.parametrize("seed", [0, 5])
def test_an_example_s_key_is_of_seed_stage_step_and_row(seed):
    """The decoder's number is 3: key(seed) folded with 3, with the step, with the row."""
    step, state = probe(seed)
    fold = jax.random.fold_in
    for number in range(2):
        state, logged = step(state, StepConstants(), batch())
        key = fold(fold(jax.random.key(seed, impl="threefry2x32"), 3), number)
        expected = sum(float(jax.random.uniform(fold(key, row))) for row in range(ROWS))
        assert float(logged["sums"][1, 0]) == pytest.approx(expected, rel=1e-6)


def test_logged_sums_are_of_the_steps_since_the_last_log():
    step, state = probe(0, TrainConfig(steps=100, batch_size=ROWS, log_every=3))
    weights = []
    for _ in range(7):
        state, logged = step(state, StepConstants(), batch())
        weights.append(float(logged["sums"][0, 1]) / ROWS)
    assert weights == [1, 2, 3, 1, 2, 3, 1]


def test_skipped_steps_count_for_no_schedule():
    """Neither for the warm-up of the rate nor for that of the average, (1 + n) / (10 + n)."""
    optim = OptimConfig(learning_rate=1.0, warmup_steps=10, ema_decay=0.9)
    step, state = probe(0, optim=optim)
    rates, before = [], None
    for value in (1.0, np.nan, 1.0):
        before = jax.device_get((state.ema_params["w"], state.params["w"]))
        state, logged = step(state, StepConstants(), batch(value))
        rates.append(float(logged["rate"]))
    assert (rates[0], rates[2]) == pytest.approx((0.1, 0.2), rel=1e-6)
    decay = 2 / 11
    expected = decay * before[0] + (1 - decay) * float(state.params["w"])
    assert float(state.ema_params["w"]) == pytest.approx(expected, rel=1e-6)


def test_clip_is_clamped_after_the_update():
    spec = spec_of("clip")
    task = make_clip_task(make_module(spec))
    hot = task.project({"logit_scale": jnp.float32(9.0)})
    assert float(hot["logit_scale"]) == pytest.approx(np.log(100.0))


def test_the_decoder_drops_embedding_and_caption_independently():
    def marked(value, n):
        states = jnp.full((n, networks.CONTEXT, networks.WIDTH), value)
        return {
            "text_emb": jnp.full((n, networks.DIM), value),
            "text_states": states,
            "tokens": jnp.ones((n, networks.CONTEXT), jnp.int32),
            "mask": jnp.ones((n, networks.CONTEXT), bool),
        }

    train = TrainConfig(steps=1, batch_size=MANY, caption_drop=0.5, image_drop=0.3)
    inputs, _ = make_inputs(spec_of("decoder"), train, None)
    text = marked(0.0, 1)
    empty = TextFeatures(
        text_emb=text["text_emb"],
        text_states=text["text_states"],
        text_mask=text["mask"],
        clip_tokens=text["tokens"],
    )
    rows = {"image": jnp.zeros((MANY, 1, 1, 3), jnp.uint8), **marked(1.0, MANY)}
    rows["image_emb"] = jnp.ones((MANY, networks.DIM))
    _, cond = inputs({}, StepConstants(empty=empty), rows, batch_keys(root_key(0), MANY), True)
    image, caption = np.asarray(cond.image_keep), np.asarray(cond.text.text_emb)[:, 0] == 1
    # Five standard deviations of a mean of coin flips.
    assert abs(caption.mean() - 0.5) < 5 * 0.5 / MANY**0.5
    assert abs(image.mean() - 0.7) < 5 * 0.5 / MANY**0.5
    assert abs((image & caption).mean() - 0.35) < 5 * 0.5 / MANY**0.5


def test_crops_lie_at_all_places_alike():
    """Of 3 x 4 pixels, squares of two: 2 x 3 places, each for a sixth of the rows."""
    places = jnp.arange(12, dtype=jnp.float32).reshape(1, 3, 4, 1)
    images = jnp.broadcast_to(places, (MANY, 3, 4, 1))
    crops = np.asarray(random_crop(batch_keys(root_key(0), MANY).rows, images, 2))[..., 0]
    corners, counts = np.unique(crops[:, 0, 0], return_counts=True)
    assert corners.tolist() == [0, 1, 2, 4, 5, 6]
    assert np.abs(counts / MANY - 1 / 6).max() < 5 * 0.5 / MANY**0.5
    np.testing.assert_array_equal(crops[:, 1, 1], crops[:, 0, 0] + 5)


class KnowsTheImage(nn.Module):
    """The exact noise of x_t where every image is one gray: eps = (x_t - alpha x_0) / sigma."""

    x0: float

    def __call__(self, x_t, t, cond, train=False):
        level = make_schedule("cosine", 1000).level(t, x_t.dtype).expand(x_t.ndim)
        return (x_t - level.alpha * self.x0) / level.sigma


@pytest.mark.parametrize("train", [False, True])
def test_the_loss_is_of_the_noise_that_was_added(train):
    """Who knows the image has no loss, at the drawn timesteps and at the held-out ones."""
    cfg = TrainConfig(steps=1, batch_size=16)
    task = make_diffusion_task(spec_of("upsampler_256"), KnowsTheImage(64 / 127.5 - 1), cfg, None)
    images = jnp.full((16, 2 * networks.SIZE, 2 * networks.SIZE, 3), 64, jnp.uint8)
    keys = batch_keys(root_key(0), 16)
    value, metrics = task.loss({}, StepConstants(), {"image": images}, keys, train)
    # At t = 0, sigma is 0.006: x_t - alpha x_0 keeps five of seven digits.
    assert float(value) < 1e-6 and float(metrics["mse"][0]) < 1e-4


def test_timestep_noise_and_drops_come_from_numbered_keys():
    """Of a row's key: 0 draws t, 1 the noise. The numbers are part of what a seed means."""
    assert (TIME, NOISE, IMAGE_DROP, TEXT_DROP, CROP, BLUR) == (0, 1, 2, 3, 4, 5)
    seen, rows = [], 8

    class Remembers(nn.Module):
        def __call__(self, x_t, t, cond, train=False):
            seen.extend(zip(x_t, t, strict=True))
            return x_t

    task = make_diffusion_task(
        spec_of("upsampler_256"), Remembers(), TrainConfig(steps=1, batch_size=rows), None
    )
    side = 2 * networks.SIZE
    images = jnp.full((rows, side, side, 3), 255, jnp.uint8)  # x_0 is 1 everywhere
    keys = batch_keys(root_key(4), rows)
    task.loss({}, StepConstants(), {"image": images}, keys, True)
    schedule, fold = make_schedule("cosine", 1000), jax.random.fold_in
    for key, (x_t, t) in zip(keys.rows, seen, strict=True):
        assert int(t) == int(jax.random.randint(fold(key, 0), (), 0, 1000))
        noise = jax.random.normal(fold(key, 1), (side, side, 3))
        expected = schedule.alpha[int(t)] + schedule.sigma[int(t)] * np.asarray(noise)
        np.testing.assert_allclose(x_t, expected, atol=1e-5)


def test_held_out_images_are_shown_as_they_are():
    moved = DataConfig(zoom=0.2, shift=0.1, crop="random", image_size=32)
    expected = DataConfig(zoom=0.0, shift=0.0, crop="center", image_size=32)
    assert without_augmentation(moved) == expected
    squashed = DataConfig(crop="squash")
    assert without_augmentation(squashed) == squashed


def test_statistics_are_mean_and_deviation_of_each_dimension():
    norm = EmbeddingNorm("standardize")
    spec = networks.prior_spec(norm=norm)
    z = np.random.default_rng(0).normal(3.0, 2.0, (50, networks.DIM)).astype(np.float32)
    fresh = {"clip_mean": jnp.zeros(networks.DIM), "clip_std": jnp.ones(networks.DIM)}
    params = with_fitted(fresh, spec, z, z, None)
    np.testing.assert_allclose(params["clip_mean"], np.float64(z).mean(0), rtol=1e-6)
    np.testing.assert_allclose(params["clip_std"], np.float64(z).std(0), rtol=1e-6)


def test_held_out_loss_is_of_the_averaged_parameters():
    state = TrainState(0, {"w": 7.0}, {"w": 3.0}, (), skipped=0, consecutive_skips=0, sums=None)
    seen = []

    def step(params, constants, batch, number):
        seen.append((float(batch["x"][0]), number))
        return np.array([params["w"] * batch["x"], batch["x"]]).T

    batches = [{"x": np.array([1.0])}, {"x": np.array([2.0])}]
    evaluate = HeldOutLoss(step, batches, StepConstants(), ("loss",))
    assert evaluate(state) == {"held_out/loss": 3.0}
    assert seen == [(1.0, 0), (2.0, 1)]
