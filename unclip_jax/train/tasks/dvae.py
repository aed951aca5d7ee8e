"""The task of the discrete VAE: the bound on the likelihood of images (Ramesh et al. 2021, §2.1).

    loss = (-ln p(x | z) + beta KL(q(z | x) || uniform)) / (values of an image),  z ~ q relaxed

The relaxed draw's temperature falls from 1 to `gumbel_temperature` along a cosine, and beta rises
from 0 to `kl_weight` linearly (appendix A.2). On held-out data the tokens are the likeliest ones
and beta is `kl_weight`, so that the loss is of the codes that the next stage is trained on.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from unclip_jax.core.types import Params
from unclip_jax.data.images import to_float
from unclip_jax.models.clip import Clip
from unclip_jax.models.dvae import (
    gumbel_softmax,
    kl_to_uniform,
    mean_image,
    negative_log_likelihood,
)
from unclip_jax.models.stages import StageSpec
from unclip_jax.train.config import TrainConfig
from unclip_jax.train.task import Batch, Keys, Metrics, StepConstants, Task, weighted
from unclip_jax.train.tasks.diffusion import NOISE, purpose_keys


def make_dvae_task(
    spec: StageSpec, module: nn.Module, train_cfg: TrainConfig, clip: Clip | None
) -> Task:
    """Returns the discrete VAE's task.

    Besides the loss it reports nats a value of the reconstruction, nats a token of the KL, the mean
    squared error of images in [-1, 1], and `usage`: the exponential of the entropy of the batch's
    likeliest tokens over the number of codes.
    """
    cfg = spec.model

    def loss(
        params: Params, constants: StepConstants, batch: Batch, keys: Keys, train: bool
    ) -> tuple[Float[Array, ""], Metrics]:
        images = to_float(batch["image"])
        logits = module.apply({"params": params}, images, method="logits")
        weights, beta = jax.nn.one_hot(logits.argmax(-1), cfg.codes), train_cfg.kl_weight
        if train:
            draw = lambda key: jax.random.gumbel(key, logits.shape[1:])  # noqa: E731
            gumbel = jax.vmap(draw)(purpose_keys(keys, NOISE))
            weights = gumbel_softmax(logits, gumbel, temperature_at(keys.step, train_cfg))
            beta = kl_weight_at(keys.step, train_cfg)
        out = module.apply({"params": params}, weights, method="decode")
        nll, kl = negative_log_likelihood(out, images, cfg), kl_to_uniform(logits)
        rows, values = images.shape[0], math.prod(images.shape[1:])
        total = (nll + beta * kl).mean() / values
        mse = jnp.square(mean_image(out, cfg) - images).mean()
        metrics = {
            "loss": weighted(total, rows),
            "reconstruction": weighted(nll.mean() / values, rows),
            "kl": weighted(kl.mean() / cfg.grid**2, rows),
            "mse": weighted(mse, rows),
            "usage": weighted(_usage(logits.argmax(-1), cfg.codes), rows),
        }
        return total, metrics

    names = ("loss", "reconstruction", "kl", "mse", "usage")
    return Task(spec.row.key_id, names, loss, ("image",))


def temperature_at(step: Any, cfg: TrainConfig) -> Float[Array, ""]:
    """Returns the temperature: a half cosine from 1 to `gumbel_temperature`, then constant."""
    done = jnp.clip(step / max(cfg.gumbel_steps, 1), 0.0, 1.0)
    end = cfg.gumbel_temperature
    return end + (1.0 - end) * 0.5 * (1.0 + jnp.cos(jnp.pi * done))


def kl_weight_at(step: Any, cfg: TrainConfig) -> Float[Array, ""]:
    """Returns beta: linear from 0 to `kl_weight` in `kl_steps`, then constant."""
    return cfg.kl_weight * jnp.clip(step / max(cfg.kl_steps, 1), 0.0, 1.0)


def _usage(tokens: Int[Array, "n g g"], codes: int) -> Float[Array, ""]:
    share = jnp.bincount(tokens.reshape(-1), length=codes) / tokens.size
    entropy = -jnp.where(share > 0, share * jnp.log(jnp.where(share > 0, share, 1.0)), 0.0).sum()
    return jnp.exp(entropy) / codes
