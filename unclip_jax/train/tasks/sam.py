"""CLIP's gradient with sharpness-aware minimisation (Foret et al. 2021, eq. 2), as unCLIP's CLIP.

The paper perturbs each replica by itself, of 64 examples each. Here a group of examples stands for
a replica, so that the number of devices changes nothing: group j holds rows j, G + j, 2 G + j, …

    e_j = rho g_j / |g_j|,   g_j the gradient of the contrastive loss inside group j, at w

Group j is embedded at w + e_j, and the step takes the gradient of the loss over the whole batch,
e_j held constant. The temperature of that loss is the mean of the groups' perturbed ones. With one
group this is SAM itself. Dropout is the same for a group's two passes.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from unclip_jax.core.types import Params
from unclip_jax.models.clip import clip_loss
from unclip_jax.train.task import Batch

Embed = Callable[
    [Params, Batch, Key[Array, ""]],
    tuple[Float[Array, "b d"], Float[Array, "b d"], Float[Array, ""]],
]
"""(params, rows, dropout key) -> image and text embeddings, logit scale."""

SMALLEST = 1e-12  # of a norm that is divided by


def sam_perturbation(
    embed: Embed, params: Params, rho: float
) -> Callable[[Batch, Key[Array, ""]], Params]:
    """Returns f(rows, dropout key) -> w + e_j of the group of these rows.

    It is computed again for each pass rather than kept for every group.
    """

    def perturb(rows: Batch, key: Key[Array, ""]) -> Params:
        grads = jax.grad(lambda p: clip_loss(*embed(p, rows, key)))(params)
        step = rho / jnp.maximum(optax.global_norm(grads), SMALLEST)
        return jax.tree.map(lambda w, g: w + step * g, params, grads)

    return perturb
