"""From a stage's network to the denoiser that samplers call: condition, guidance, limits of x_0.

Sampling, the sample grids of a training run and the table of the analytic variance all build their
denoiser here.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from unclip_jax.core.types import Cond, Params, Size, TextFeatures
from unclip_jax.diffusion.config import SamplingConfig
from unclip_jax.diffusion.denoiser import Denoiser, guided_network, limited, make_denoiser
from unclip_jax.diffusion.schedules import make_schedule
from unclip_jax.models.stages import StageSpec

NetworkFn = Callable[[Params, Array, Array, Cond], Float[Array, " b *e"]]
"""(params, x_t, t, cond) -> the raw output of a stage's network."""


def network_fn(module: nn.Module) -> NetworkFn:
    """Returns a stage's module as a function of its parameters, without dropout."""

    def apply(params: Params, x_t: Array, t: Array, cond: Cond) -> Float[Array, " b *e"]:
        return module.apply({"params": params}, x_t, t, cond, False)

    return apply


def stage_denoiser(
    spec: StageSpec,
    apply: NetworkFn,
    params: Params,
    cond: Cond,
    *,
    scale: Any = None,
    uncond_text: TextFeatures | None = None,
    limits: SamplingConfig | None = None,
) -> Denoiser:
    """Returns the denoiser of a network with its parameters and condition bound.

    Args:
        scale: of classifier-free guidance, which may be traced; None runs the conditional network
            alone.
        uncond_text: caption of guidance's unconditional half, for one example.
        limits: its bound or threshold of x_0 is applied; None leaves x_0 as it is.
    """
    schedule = make_schedule(spec.diffusion.schedule, spec.diffusion.num_steps)

    def network(x_t: Float[Array, " n *d"], t: Int[Array, " n"]) -> Float[Array, " n *e"]:
        if scale is None:
            return apply(params, x_t, t, cond)
        return apply(params, x_t, t, cfg_batch(cond, uncond_text, x_t.shape[0] // 2))

    if scale is not None:
        network = guided_network(network, jnp.asarray(scale, jnp.float32))
    denoise = make_denoiser(network, schedule, spec.diffusion)
    return denoise if limits is None else limited(denoise, limits)


def cfg_batch(cond: Cond, uncond_text: TextFeatures | None, n: Size) -> Cond:
    """Returns the conditions of the batch [conditional; unconditional] of guidance.

    The unconditional half has `cond.negative_emb` as its z_i, the null embedding if that is None,
    and `uncond_text` as its caption; the low-res image stays.
    """
    keep = jnp.ones(n, bool) if cond.image_keep is None else cond.image_keep
    twice = functools.partial(jax.tree.map, lambda leaf: jnp.concatenate([leaf, leaf]))
    text = None
    if cond.text is not None:
        text = jax.tree.map(
            lambda leaf, null: jnp.concatenate([leaf, jnp.broadcast_to(null, leaf.shape)]),
            cond.text,
            uncond_text,
        )
    has_emb, negative = cond.image_emb is not None, cond.negative_emb
    other = cond.image_emb if negative is None else negative
    away = jnp.full(n, negative is not None)
    return Cond(
        image_emb=jnp.concatenate([cond.image_emb, other]) if has_emb else None,
        image_keep=jnp.concatenate([keep, away]) if has_emb else None,
        text=text,
        low_res=twice(cond.low_res) if cond.low_res is not None else None,
    )
