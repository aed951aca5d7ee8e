"""What a stage is trained on: one Task per stage, the same few functions for the one loop.

A task's loss is a pure function of (params, frozen, batch, keys, train). `frozen` holds whatever
does not change: a frozen CLIP's parameters, the encoded empty caption. Metrics are pairs
(sum, weight), so that they add up over micro-batches, steps and held-out batches.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from unclip_jax.core.types import Params
from unclip_jax.core.vectors import unit
from unclip_jax.data.images import to_float
from unclip_jax.models.clip import Clip, clamp_logit_scale, clip_loss
from unclip_jax.models.stages import CLIP, STAGES
from unclip_jax.train.tasks.sam import sam_gradient

Sums = Float[Array, " 2"]


class Keys(NamedTuple):
    """Random keys of a batch: one for each row, and one for the layers' dropout."""

    rows: Any
    dropout: Any


LossFn = Callable[[Params, Any, Any, Keys, bool], tuple[Any, dict[str, Any]]]


@dataclasses.dataclass(frozen=True)
class Task:
    """One stage's training.

    Attributes:
        key_id: the stage's fixed number in the random keys.
        metric_names: what `loss` reports, always all of it; "loss" is the first.
        loss: (params, frozen, batch, keys, train) -> (scalar, {name: (sum, weight)}).
        project: brings updated parameters back into their range.
        accumulate: (params, frozen, micro-batches, keys) -> (gradient, metrics) where the loss
            couples the examples of a batch; None = the mean over micro-batches.
        batch_keys: what of a batch the loss reads; the rest stays on the host.
        gradient: (params, frozen, batch, keys) -> (gradient, metrics) where it is not that of
            `loss` at the parameters; None = it is.
    """

    key_id: int
    metric_names: tuple[str, ...]
    loss: LossFn
    batch_keys: tuple[str, ...]
    project: Callable[[Params], Params] = lambda params: params
    accumulate: Callable[[Params, Any, Any, Keys], tuple[Any, dict[str, Any]]] | None = None
    gradient: Callable[[Params, Any, Any, Keys], tuple[Any, dict[str, Any]]] | None = None


def weighted(value: Any, weight: Any = 1.0) -> Sums:
    """Returns the pair (value * weight, weight)."""
    weight = jnp.asarray(weight, jnp.float32)
    return jnp.stack([jnp.asarray(value, jnp.float32) * weight, weight])


def make_clip_task(module: Clip, sam_rho: float | None = None, sam_group: int = 64) -> Task:
    """Returns CLIP's contrastive training; all negatives are those of the global batch.

    Args:
        sam_rho: size of the sharpness-aware perturbation of each group (sam.py); None = none.
    """

    def embed(params: Params, batch: Any, dropout: Any, train: bool) -> tuple[Any, Any, Any]:
        out = module.apply(
            {"params": params},
            to_float(batch["image"]),  # on the device, which saves the transfer of floats
            batch["tokens"],
            train,
            rngs={"dropout": dropout},
        )
        return out.image_emb, out.text_emb, out.logit_scale

    def loss(
        params: Params, frozen: Any, batch: Any, keys: Keys, train: bool
    ) -> tuple[Any, dict[str, Any]]:
        image_emb, text_emb, scale = embed(params, batch, keys.dropout, train)
        value = clip_loss(image_emb, text_emb, scale)
        return value, _clip_metrics(value, image_emb, text_emb, scale)

    def accumulate(
        params: Params, frozen: Any, micro: Any, keys: Keys
    ) -> tuple[Any, dict[str, Any]]:
        """First pass: embeddings of all micro-batches. Second: their gradient, pulled back."""

        def forward(part: Any) -> tuple[Any, Any]:
            return embed(params, part[0], part[1], True)[:2]

        image_emb, text_emb = jax.lax.map(forward, (micro, keys.dropout))
        flat = image_emb.reshape(-1, image_emb.shape[-1]), text_emb.reshape(-1, text_emb.shape[-1])
        scale = params["logit_scale"]
        value, (d_image, d_text, d_scale) = jax.value_and_grad(clip_loss, (0, 1, 2))(*flat, scale)
        d_image, d_text = d_image.reshape(image_emb.shape), d_text.reshape(text_emb.shape)

        def body(total: Any, part: Any) -> tuple[Any, None]:
            batch, dropout, cotangent = part
            pull = jax.vjp(lambda p: embed(p, batch, dropout, True)[:2], params)[1]
            return jax.tree.map(jnp.add, total, pull(cotangent)[0]), None

        zeros = jax.tree.map(jnp.zeros_like, params)
        grads, _ = jax.lax.scan(body, zeros, (micro, keys.dropout, (d_image, d_text)))
        grads = {**grads, "logit_scale": grads["logit_scale"] + d_scale}
        return grads, _clip_metrics(value, *flat, scale)

    def sam(params: Params, frozen: Any, batch: Any, keys: Keys) -> tuple[Any, dict[str, Any]]:
        train_embed = functools.partial(embed, train=True)
        grads, seen = sam_gradient(train_embed, params, batch, keys.dropout, sam_rho, sam_group)
        return grads, _clip_metrics(*seen)

    names = ("loss", "top1", "logit_scale")
    own = None if sam_rho is None else sam
    key_id, inputs = STAGES[CLIP].key_id, ("image", "tokens")
    return Task(key_id, names, loss, inputs, clamp_logit_scale, accumulate, own)


def _clip_metrics(value: Any, image_emb: Any, text_emb: Any, scale: Any) -> dict[str, Any]:
    """Loss, share of images whose own caption is the nearest of the batch, and exp(scale)."""
    similarity = unit(image_emb) @ unit(text_emb).T
    rows = image_emb.shape[0]
    top1 = jnp.mean(similarity.argmax(1) == jnp.arange(rows))
    return {
        "loss": weighted(value, rows),
        "top1": weighted(top1, rows),
        "logit_scale": weighted(jnp.exp(scale)),
    }
