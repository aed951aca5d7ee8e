"""The tasks that train a denoising network: prior, decoder, upsamplers.

All of them draw t and noise, call the network at x_t and take the loss of diffusion/losses.py; they
differ in x_0 and in the conditioning. What is random about an example comes from its own key.
"""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from unclip_jax.core.errors import UserError
from unclip_jax.core.types import Cond, Params, where_text
from unclip_jax.data.images import to_float
from unclip_jax.diffusion.losses import LossTerms, training_loss
from unclip_jax.diffusion.process import q_sample
from unclip_jax.diffusion.schedules import make_schedule
from unclip_jax.diffusion.timesteps import spread_timesteps, uniform_timesteps
from unclip_jax.models.clip import Clip
from unclip_jax.models.embedding_norm import normalize, stats_of
from unclip_jax.models.stages import StageSpec
from unclip_jax.train.config import TrainConfig
from unclip_jax.train.frozen_clip import caption_features, feature_keys, image_embedding
from unclip_jax.train.task import Batch, Keys, Metrics, StepConstants, Task, weighted
from unclip_jax.train.tasks.degradations import random_blur

QUARTILES = ("loss_q1", "loss_q2", "loss_q3", "loss_q4")

# What an example's key is folded with; entries are added, never changed.
TIME, NOISE, IMAGE_DROP, TEXT_DROP, CROP, BLUR = range(6)

X0 = Float[Array, " b *d"]

Inputs = Callable[[Params, StepConstants, Batch, Keys, bool], tuple[X0, Cond]]
"""(params, constants, batch, keys, train) -> (x_0, conditioning)."""


def purpose_keys(keys: Keys, purpose: int) -> Key[Array, " b"]:
    """Returns each row's key for one purpose."""
    return jax.vmap(jax.random.fold_in, (0, None))(keys.rows, purpose)


def keep_mask(keys: Keys, purpose: int, drop: float, train: bool) -> Bool[Array, " b"]:
    """Draws which rows keep a condition: each with probability 1 - drop, all on held-out data."""
    if not train or drop == 0.0:
        return jnp.ones(keys.rows.shape, bool)
    return jax.vmap(lambda key: ~jax.random.bernoulli(key, drop))(purpose_keys(keys, purpose))


def make_diffusion_task(
    spec: StageSpec, module: nn.Module, train_cfg: TrainConfig, clip: Clip | None
) -> Task:
    """Returns the task of a diffusion stage."""
    inputs, names = make_inputs(spec, train_cfg, clip)
    schedule = make_schedule(spec.diffusion.schedule, spec.diffusion.num_steps)
    has_bound = spec.diffusion.loss != "simple"

    def loss(
        params: Params, constants: StepConstants, batch: Batch, keys: Keys, train: bool
    ) -> tuple[Float[Array, ""], Metrics]:
        x0, cond = inputs(params, constants, batch, keys, train)
        rows = x0.shape[0]
        if train:
            t = uniform_timesteps(purpose_keys(keys, TIME), schedule.num_steps)
        else:
            t = jnp.asarray(spread_timesteps(rows, schedule.num_steps))
        noise = jax.vmap(lambda key: jax.random.normal(key, x0.shape[1:]))(
            purpose_keys(keys, NOISE)
        )
        x_t = q_sample(x0, t, noise, schedule)
        output = module.apply(
            {"params": params}, x_t, t, cond, train, rngs={"dropout": keys.dropout}
        )
        terms = training_loss(
            output, x0=x0, x_t=x_t, t=t, noise=noise, schedule=schedule, cfg=spec.diffusion
        )
        return terms.loss.mean(), loss_metrics(terms, t, schedule.num_steps)

    metric_names = ("loss", "mse", *(("vb",) if has_bound else ()), *QUARTILES)
    return Task(spec.row.key_id, metric_names, loss, names)


def make_inputs(
    spec: StageSpec, train_cfg: TrainConfig, clip: Clip | None
) -> tuple[Inputs, tuple[str, ...]]:
    """Returns a stage's x_0 and conditioning as a function of a batch, and the keys it reads."""
    kind = spec.row.kind
    if kind == "upsampler":
        unet = spec.model.unet
        shrinks = unet.patch * 2 ** (len(unet.channel_mult) - 1)
        inputs = upsampler_inputs(train_cfg, spec.model.low_res_size, shrinks)
        return inputs, ("image", "low_res")
    if kind == "prior":
        names = feature_keys(spec) + (() if train_cfg.cache_clip else ("image",))
        return prior_inputs(spec, train_cfg, clip), names
    return decoder_inputs(train_cfg, clip), (*feature_keys(spec), "image", "clip_image")


def prior_inputs(spec: StageSpec, train_cfg: TrainConfig, clip: Clip | None) -> Inputs:
    """x_0 = z_i in the space that is diffused; the caption, dropped together with z_t (10%)."""

    def inputs(
        params: Params, constants: StepConstants, batch: Batch, keys: Keys, train: bool
    ) -> tuple[X0, Cond]:
        z = image_embedding(clip, constants, batch)
        x0 = normalize(z, spec.embedding_norm, stats_of(params))
        keep = keep_mask(keys, TEXT_DROP, train_cfg.caption_drop, train)
        text = where_text(keep, caption_features(clip, constants, batch), constants.empty)
        return jax.lax.stop_gradient(x0), Cond(text=text)

    return inputs


def decoder_inputs(train_cfg: TrainConfig, clip: Clip | None) -> Inputs:
    """x_0 = the image; z_i dropped 10% and the caption 50% of the time, independently (§2.1)."""

    def inputs(
        params: Params, constants: StepConstants, batch: Batch, keys: Keys, train: bool
    ) -> tuple[X0, Cond]:
        keep = keep_mask(keys, TEXT_DROP, train_cfg.caption_drop, train)
        cond = Cond(
            image_emb=image_embedding(clip, constants, batch),
            image_keep=keep_mask(keys, IMAGE_DROP, train_cfg.image_drop, train),
            text=where_text(keep, caption_features(clip, constants, batch), constants.empty),
        )
        return to_float(batch["image"]), jax.lax.stop_gradient(cond)

    return inputs


def upsampler_inputs(train_cfg: TrainConfig, low_res_size: int, shrinks: int = 1) -> Inputs:
    """x_0 = a random crop, conditioned on its area average, blurred for some of the rows.

    A batch with degraded low-res images was cropped together with them, and is used as it is.

    Args:
        shrinks: by how much the network's innermost level is smaller than its input.
    """

    def inputs(
        params: Params, constants: StepConstants, batch: Batch, keys: Keys, train: bool
    ) -> tuple[X0, Cond]:
        images = to_float(batch["image"])
        if "low_res" in batch:
            return images, Cond(low_res=to_float(batch["low_res"]))
        side = images.shape[1]
        factor, crop = side // low_res_size, train_cfg.crop_size or side
        step = math.lcm(max(factor, 1), shrinks)
        if crop > side or crop % step:
            raise UserError(
                f"config.train.crop_size={crop} must be a multiple of {step}, at most {side}"
            )
        x0 = random_crop(purpose_keys(keys, CROP), images, crop)
        low_res = area_average(x0, factor)
        if train_cfg.blur_prob:
            low_res = random_blur(
                purpose_keys(keys, BLUR),
                low_res,
                sigma=train_cfg.blur_sigma,
                size=train_cfg.blur_kernel,
                probability=train_cfg.blur_prob,
            )
        return x0, Cond(low_res=low_res)

    return inputs


def random_crop(
    keys: Key[Array, " b"], images: Float[Array, "b h w c"], size: int
) -> Float[Array, "b s s c"]:
    """Crops a square from each image, its corner uniform over all positions."""
    _, height, width, channels = images.shape
    if size == height == width:
        return images

    def crop(key: Key[Array, ""], image: Float[Array, "h w c"]) -> Float[Array, "s s c"]:
        top, left = jax.random.randint(key, (2,), 0, jnp.array([height, width]) - size + 1)
        return jax.lax.dynamic_slice(image, (top, left, 0), (size, size, channels))

    return jax.vmap(crop)(keys, images)


def area_average(images: Float[Array, "b h w c"], factor: int) -> Float[Array, "b h2 w2 c"]:
    """Downsamples images by the mean of factor x factor pixels."""
    b, h, w, c = images.shape
    return images.reshape(b, h // factor, factor, w // factor, factor, c).mean((2, 4))


def loss_metrics(terms: LossTerms, t: Int[Array, " b"], num_steps: int) -> Metrics:
    """Means of the loss and its parts, and of the loss over each quarter of the timesteps."""
    rows = t.shape[0]
    metrics = {"loss": weighted(terms.loss.mean(), rows), "mse": weighted(terms.mse.mean(), rows)}
    if terms.vb is not None:
        metrics["vb"] = weighted(terms.vb.mean(), rows)
    quarter = t * 4 // num_steps
    for i, name in enumerate(QUARTILES):
        inside = (quarter == i).astype(jnp.float32)
        metrics[name] = jnp.stack([(terms.loss * inside).sum(), inside.sum()]).astype(jnp.float32)
    return metrics
