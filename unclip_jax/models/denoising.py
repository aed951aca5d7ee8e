"""From a stage's network to the denoiser that samplers call: condition, guidance, limits of x_0.

Sampling, the sample grids of a training run and the table of the analytic variance all build their
denoiser here. What a network reads of its condition alone, it reads once (`prepare`).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from unclip_jax.core.ready import portable
from unclip_jax.core.types import Cond, Params, Size, TextFeatures
from unclip_jax.diffusion.config import SamplingConfig
from unclip_jax.diffusion.denoiser import Denoiser, guided_network, limited, make_denoiser
from unclip_jax.diffusion.schedules import make_schedule
from unclip_jax.models.stages import StageSpec
from unclip_jax.nn.attention import PREFIX

NetworkFn = Callable[[Params, Array, Array, Cond], Float[Array, " b *e"]]
"""(params, x_t, t, cond) -> the raw output of a stage's network."""


@portable
@struct.dataclass
class Prepared:
    """A condition, and what a network has already read of it.

    Attributes:
        cond: of the batch that the network sees.
        prefix: the collection PREFIX of `read_prefix`; None for a network without a prefix.
    """

    cond: Cond
    prefix: Any = None


@dataclasses.dataclass(frozen=True)
class Network:
    """A stage's network as pure functions of its parameters, without dropout.

    Attributes:
        prepare: (params, cond) -> Prepared, once for all steps.
        apply: (params, x_t, t, prepared) -> the raw output.
    """

    prepare: Callable[[Params, Cond], Prepared]
    apply: Callable[[Params, Array, Array, Prepared], Array]


def network_fn(module: nn.Module) -> NetworkFn:
    """Returns a stage's module as a function of its parameters, without dropout."""

    def apply(params: Params, x_t: Array, t: Array, cond: Cond) -> Float[Array, " b *e"]:
        return module.apply({"params": params}, x_t, t, cond, False)

    return apply


def prepared_network(module: nn.Module) -> Network:
    """Returns a stage's module as functions of its parameters that share what no step changes.

    A module with the methods `read_prefix(cond)` and `after_prefix(x_t, t, cond)` reads its
    condition once; any other is run as a whole at every step.
    """
    if not hasattr(module, "read_prefix"):
        whole = network_fn(module)
        return Network(
            prepare=lambda params, cond: Prepared(cond),
            apply=lambda params, x_t, t, prepared: whole(params, x_t, t, prepared.cond),
        )

    def prepare(params: Params, cond: Cond) -> Prepared:
        variables = {"params": params}
        _, kept = module.apply(variables, cond, method="read_prefix", mutable=[PREFIX])
        return Prepared(cond, kept[PREFIX])

    def apply(params: Params, x_t: Array, t: Array, prepared: Prepared) -> Float[Array, " b *e"]:
        variables = {"params": params, PREFIX: prepared.prefix}
        return module.apply(variables, x_t, t, prepared.cond, method="after_prefix")

    return Network(prepare, apply)


def prepare(
    network: Network,
    params: Params,
    cond: Cond,
    *,
    is_guided: bool = False,
    uncond_text: TextFeatures | None = None,
) -> Prepared:
    """Reads the condition, that of both halves of guidance's batch if `is_guided`.

    Args:
        uncond_text: caption of guidance's unconditional half, for one example.
    """
    if is_guided:
        cond = cfg_batch(cond, uncond_text, jax.tree.leaves(cond)[0].shape[0])
    return network.prepare(params, cond)


def stage_denoiser(
    spec: StageSpec,
    network: Network,
    params: Params,
    prepared: Prepared,
    *,
    scale: Any = None,
    limits: SamplingConfig | None = None,
) -> Denoiser:
    """Returns the denoiser of a network with its parameters and condition bound.

    Args:
        prepared: the condition, of `prepare`.
        scale: of classifier-free guidance, which may be traced; None runs the conditional network
            alone.
        limits: its bound or threshold of x_0 is applied; None leaves x_0 as it is.
    """
    schedule = make_schedule(spec.diffusion.schedule, spec.diffusion.num_steps)

    def bound(x_t: Float[Array, " n *d"], t: Int[Array, " n"]) -> Float[Array, " n *e"]:
        return network.apply(params, x_t, t, prepared)

    if scale is not None:
        bound = guided_network(bound, jnp.asarray(scale, jnp.float32))
    denoise = make_denoiser(bound, schedule, spec.diffusion)
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
