"""CLIP's gradient with sharpness-aware minimisation (Foret et al. 2021, eq. 2), as unCLIP's CLIP.

The paper perturbs each replica by itself, of 64 examples each. Here a group of examples stands for
a replica, so that the number of devices changes nothing: group j holds rows j, G + j, 2 G + j, …

    e_j = rho g_j / |g_j|,   g_j the gradient of the contrastive loss inside group j, at w

Group j is embedded at w + e_j, and the step takes the gradient of the loss over the whole batch,
e_j held constant. The temperature of that loss is the mean of the groups' perturbed ones. With one
group this is SAM itself. Dropout is the same for a group's two passes.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from unclip_jax.core.types import Params
from unclip_jax.models.clip import clip_loss

Embed = Callable[[Params, Any, Any], tuple[Any, Any, Any]]
"""(params, rows, dropout key) -> image and text embeddings, logit scale."""

SMALLEST = 1e-12  # of a norm that is divided by


def sam_gradient(
    embed: Embed, params: Params, rows: Any, dropout: Any, rho: float, group: int
) -> tuple[Params, tuple[Any, Any, Any, Any]]:
    """Returns the gradient, and (loss, image and text embeddings, logit scale) where it was taken.

    Args:
        rows: the batch; its size is a multiple of `group`.
    """
    count = jax.tree.leaves(rows)[0].shape[0] // group
    cut = lambda x: jnp.swapaxes(x.reshape(group, count, *x.shape[1:]), 0, 1)  # noqa: E731
    parts = jax.tree.map(cut, rows)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(dropout, jnp.arange(count))

    def perturbed(part: Any, key: Any) -> Params:
        """Returns w + e_j; computed again for each pass rather than kept for every group."""
        grads = jax.grad(lambda p: clip_loss(*embed(p, part, key)))(params)
        step = rho / jnp.maximum(optax.global_norm(grads), SMALLEST)
        return jax.tree.map(lambda w, g: w + step * g, params, grads)

    def forward(part: tuple[Any, Any]) -> tuple[Any, Any, Any]:
        return embed(perturbed(*part), *part)

    image_emb, text_emb, scales = jax.lax.map(forward, (parts, keys))
    flat = image_emb.reshape(-1, image_emb.shape[-1]), text_emb.reshape(-1, text_emb.shape[-1])
    scale = scales.mean()
    value, cotangents = jax.value_and_grad(clip_loss, (0, 1, 2))(*flat, scale)
    d_image = cotangents[0].reshape(image_emb.shape)
    d_text = cotangents[1].reshape(text_emb.shape)

    def body(total: Params, part: Any) -> tuple[Params, None]:
        rows, key, cotangent = part
        pull = jax.vjp(lambda p: embed(p, rows, key)[:2], perturbed(rows, key))[1]
        return jax.tree.map(jnp.add, total, pull(cotangent)[0]), None

    zeros = jax.tree.map(jnp.zeros_like, params)
    grads, _ = jax.lax.scan(body, zeros, (parts, keys, (d_image, d_text)))
    grads = {**grads, "logit_scale": grads["logit_scale"] + cotangents[2]}
    return grads, (value, *flat, scale)
