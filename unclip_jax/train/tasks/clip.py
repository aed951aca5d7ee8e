"""CLIP's contrastive task; all negatives are those of the global batch, however it is split."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from unclip_jax.core.types import Params
from unclip_jax.core.vectors import unit
from unclip_jax.data.images import to_float
from unclip_jax.models.clip import Clip, clamp_logit_scale, clip_loss
from unclip_jax.models.stages import CLIP, STAGES
from unclip_jax.train.task import (
    Batch,
    Keys,
    Metrics,
    StepConstants,
    Task,
    split_interleaved,
    split_key,
    weighted,
)
from unclip_jax.train.tasks.sam import Embed, sam_perturbation

Embeddings = Float[Array, "b d"]
Scalar = Float[Array, ""]


def make_clip_task(module: Clip, sam_rho: float | None = None, sam_group: int = 64) -> Task:
    """Returns CLIP's contrastive training.

    Args:
        sam_rho: size of the sharpness-aware perturbation of each group (sam.py); None = none.
        sam_group: examples that are perturbed together.
    """

    def embed(
        params: Params, batch: Batch, dropout: Key[Array, ""], train: bool = True
    ) -> tuple[Embeddings, Embeddings, Scalar]:
        out = module.apply(
            {"params": params},
            to_float(batch["image"]),
            batch["tokens"],
            train,
            rngs={"dropout": dropout},
        )
        return out.image_emb, out.text_emb, out.logit_scale

    def loss(
        params: Params, constants: StepConstants, batch: Batch, keys: Keys, train: bool
    ) -> tuple[Scalar, Metrics]:
        image_emb, text_emb, scale = embed(params, batch, keys.dropout, train)
        value = clip_loss(image_emb, text_emb, scale)
        return value, _metrics(value, image_emb, text_emb, scale)

    def accumulate(
        params: Params, constants: StepConstants, micro: Batch, keys: Keys
    ) -> tuple[Params, Metrics]:
        grads, seen = contrastive_gradient(embed, params, micro, keys.dropout)
        return grads, _metrics(*seen)

    def sam(
        params: Params, constants: StepConstants, batch: Batch, keys: Keys
    ) -> tuple[Params, Metrics]:
        groups = batch["image"].shape[0] // sam_group
        perturb = sam_perturbation(embed, params, sam_rho)
        parts, dropout = split_interleaved(batch, groups), split_key(keys.dropout, groups)
        grads, seen = contrastive_gradient(embed, params, parts, dropout, perturb)
        return grads, _metrics(*seen)

    return Task(
        key_id=STAGES[CLIP].key_id,
        metric_names=("loss", "top1", "logit_scale"),
        loss=loss,
        batch_keys=("image", "tokens"),
        project=clamp_logit_scale,
        accumulate=accumulate,
        gradient=None if sam_rho is None else sam,
    )


def contrastive_gradient(
    embed: Embed,
    params: Params,
    parts: Batch,
    dropout: Key[Array, " parts"],
    perturb: Callable[[Batch, Key[Array, ""]], Params] | None = None,
) -> tuple[Params, tuple[Scalar, Embeddings, Embeddings, Scalar]]:
    """Returns the gradient of the loss over all parts of a batch, in the memory of one part.

    Two passes: the first embeds every part, the second pulls the gradient of the loss in the
    embeddings back through each part.

    Args:
        parts: the batch, split [parts, b, ...].
        perturb: (rows, key) -> parameters that a part is embedded with, held constant; the
            temperature is then the mean of theirs. None = `params` for all parts.

    Returns:
        The gradient, and (loss, image and text embeddings, logit scale) where it was taken.
    """

    def params_of(rows: Batch, key: Key[Array, ""]) -> Params:
        return params if perturb is None else perturb(rows, key)

    def forward(part: tuple[Batch, Key[Array, ""]]) -> tuple[Embeddings, Embeddings, Scalar]:
        return embed(params_of(*part), *part)

    image_emb, text_emb, scales = jax.lax.map(forward, (parts, dropout))
    flat = image_emb.reshape(-1, image_emb.shape[-1]), text_emb.reshape(-1, text_emb.shape[-1])
    scale = params["logit_scale"] if perturb is None else scales.mean()
    value, (d_image, d_text, d_scale) = jax.value_and_grad(clip_loss, (0, 1, 2))(*flat, scale)
    cotangents = d_image.reshape(image_emb.shape), d_text.reshape(text_emb.shape)

    def pull_back(total: Params, part: tuple[Batch, Key[Array, ""], tuple]) -> tuple[Params, None]:
        rows, key, cotangent = part
        pull = jax.vjp(lambda p: embed(p, rows, key)[:2], params_of(rows, key))[1]
        return jax.tree.map(jnp.add, total, pull(cotangent)[0]), None

    zeros = jax.tree.map(jnp.zeros_like, params)
    grads, _ = jax.lax.scan(pull_back, zeros, (parts, dropout, cotangents))
    grads = {**grads, "logit_scale": grads["logit_scale"] + d_scale}
    return grads, (value, *flat, scale)


def _metrics(value: Scalar, image_emb: Embeddings, text_emb: Embeddings, scale: Scalar) -> Metrics:
    """Loss, share of images whose own caption is the nearest of the batch, and exp(scale)."""
    similarity = unit(image_emb) @ unit(text_emb).T
    rows = image_emb.shape[0]
    top1 = jnp.mean(similarity.argmax(1) == jnp.arange(rows))
    return {
        "loss": weighted(value, rows),
        "top1": weighted(top1, rows),
        "logit_scale": weighted(jnp.exp(scale)),
    }
