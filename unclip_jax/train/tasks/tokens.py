"""The task of DALL·E: cross-entropy of caption and image tokens (Ramesh et al. 2021, §2.2).

    loss = 1/8 (mean over the batch's caption tokens) + 7/8 (mean over its image tokens)

Image tokens are the likeliest ones of the frozen discrete VAE, computed in the step. Captions are
dropped for guidance (ours); a dropped one has no loss of its own.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from unclip_jax.core.types import Cond, Params, TextFeatures, where_text
from unclip_jax.data.images import to_float
from unclip_jax.models.clip import Clip
from unclip_jax.models.dalle import token_losses
from unclip_jax.models.stages import StageSpec, make_module
from unclip_jax.text.context import until_eot
from unclip_jax.train.config import TrainConfig
from unclip_jax.train.task import Batch, Keys, Metrics, StepConstants, Task, weighted
from unclip_jax.train.tasks.diffusion import QUARTILES, TEXT_DROP, keep_mask

TEXT_SHARE = 1 / 8
"""Weight of the captions' loss; the paper's, since its aim is images."""


def make_token_task(
    spec: StageSpec, module: nn.Module, train_cfg: TrainConfig, clip: Clip | None
) -> Task:
    """Returns DALL·E's task.

    Besides the loss it reports the losses of both kinds in nats a token, the share of image
    tokens that are the likeliest one, and the image loss over each quarter of the tokens, the first
    ones first.
    """
    dvae = make_module(spec.frozen)

    def loss(
        params: Params, constants: StepConstants, batch: Batch, keys: Keys, train: bool
    ) -> tuple[Float[Array, ""], Metrics]:
        images = to_float(batch["image"])
        tokens = jax.lax.stop_gradient(
            dvae.apply({"params": constants.frozen}, images, method="encode")
        )
        keep = keep_mask(keys, TEXT_DROP, train_cfg.caption_drop, train)
        given = TextFeatures(tokens=batch["own_tokens"])
        text = where_text(keep, given, TextFeatures(tokens=constants.empty.tokens))
        rows = images.shape[0]
        text_logits, logits = module.apply(
            {"params": params},
            tokens,
            jnp.zeros((rows,), jnp.int32),
            Cond(text=text),
            train,
            rngs={"dropout": keys.dropout},
            method="all_logits",
        )
        counted = (until_eot(text.tokens)[:, 1:] & keep[:, None]).astype(jnp.float32)
        total = counted.sum()
        text_losses = token_losses(text_logits, text.tokens[:, 1:]) * counted
        text_loss = text_losses.sum() / jnp.maximum(total, 1.0)
        losses = token_losses(logits, tokens)
        value = TEXT_SHARE * text_loss + (1.0 - TEXT_SHARE) * losses.mean()
        metrics = {
            "loss": weighted(value, rows),
            "text_loss": weighted(text_loss, total),
            "image_loss": weighted(losses.mean(), rows),
            "accuracy": weighted((logits.argmax(-1) == tokens).mean(), rows),
        }
        return value, metrics | _quarters(losses)

    names = ("loss", "text_loss", "image_loss", "accuracy", *QUARTILES)
    return Task(spec.row.key_id, names, loss, ("image", "own_tokens"))


def _quarters(losses: Float[Array, "n k"]) -> Metrics:
    rows, count = losses.shape
    quarter = jnp.arange(count) * 4 // count
    metrics = {}
    for i, name in enumerate(QUARTILES):
        inside = (quarter == i).astype(jnp.float32)
        total = (losses * inside[None]).sum()
        metrics[name] = jnp.stack([total, inside.sum() * rows]).astype(jnp.float32)
    return metrics
