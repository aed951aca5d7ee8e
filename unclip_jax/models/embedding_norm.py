"""The space in which diffusion sees CLIP image embeddings.

    l2:           z -> scale z / |z|           (paper: scale 17.2 at width 1024, or 0.5375 sqrt(d))
    standardize:  z -> scale (z - mean) / std  (Karlo, Kandinsky; statistics per dimension)
    none:         z -> scale z

The way back divides by the scale; for l2 it gives the direction, whose length is close to one but
not forced to it. The statistics of "standardize" are parameters `clip_mean` and `clip_std` that
the optimizer never updates (`fitted_names`).
"""

import dataclasses
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from unclip_jax.core.checks import POSITIVE, check_ranges
from unclip_jax.core.renamed import renamed
from unclip_jax.core.types import Params
from unclip_jax.core.vectors import unit
from unclip_jax.models.config import zero_is_none
from unclip_jax.nn.layers import axes, ones, zeros

TextEmbInput = Literal["raw", "unit"]
"""How a network takes z_t: as the tower gives it, or as sqrt(d) z_t / |z_t| (unit variance)."""

PARAMS = ("clip_mean", "clip_std")
"""Names of the parameters that hold the statistics."""


@dataclasses.dataclass(frozen=True)
class EmbeddingNorm:
    """How image embeddings are normalized.

    Attributes:
        kind: "l2" brings z_i to unit length and multiplies it by `scale`, "standardize" subtracts
            the fitted mean and divides by the fitted standard deviation, "none" takes z_i as it is.
        scale: factor of the result; None: 0.5375 sqrt(d), for the CLIP's width d.
    """

    kind: Literal["l2", "standardize", "none"] = renamed(
        values={"standardise": "standardize"}, default="l2"
    )
    scale: float | None = 1.0

    def __post_init__(self):
        """Refuses a scale that embeddings cannot be divided by."""
        zero_is_none(self, "scale")
        check_ranges(self, scale=POSITIVE)

    @property
    def fitted_names(self) -> frozenset[str]:
        """Names of the parameters that `stats_params` declares."""
        return frozenset(PARAMS if self.kind == "standardize" else ())


@struct.dataclass
class EmbeddingStats:
    """Mean and standard deviation of raw image embeddings, per dimension."""

    mean: Float[Array, " d"]
    std: Float[Array, " d"]


def normalize(
    z: Float[Array, "n d"], norm: EmbeddingNorm, stats: EmbeddingStats | None = None
) -> Float[Array, "n d"]:
    """Maps raw image embeddings into the space the networks work in."""
    z = z.astype(jnp.float32)
    if norm.kind == "l2":
        z = unit(z)
    elif norm.kind == "standardize":
        stats = _required(stats)
        z = (z - stats.mean[None]) / stats.std[None]
    return z * norm.scale


def denormalize(
    z: Float[Array, "n d"], norm: EmbeddingNorm, stats: EmbeddingStats | None = None
) -> Float[Array, "n d"]:
    """Maps back to raw embeddings; for l2 their original length is gone."""
    z = z.astype(jnp.float32) / norm.scale
    if norm.kind == "standardize":
        stats = _required(stats)
        z = z * stats.std[None] + stats.mean[None]
    return z


def text_emb_input(text_emb: Float[Array, "n d"], kind: TextEmbInput) -> Float[Array, "n d"]:
    """Returns z_t as a network's first layer takes it."""
    if kind == "raw":
        return text_emb
    return normalize(text_emb, EmbeddingNorm("l2", text_emb.shape[-1] ** 0.5))


def stats_of(params: Params) -> EmbeddingStats | None:
    """Returns the statistics stored in a stage's parameters, None where it has none."""
    if "clip_mean" not in params:
        return None
    return EmbeddingStats(jnp.asarray(params["clip_mean"]), jnp.asarray(params["clip_std"]))


def with_stats(params: Params, stats: EmbeddingStats) -> Params:
    """Returns a stage's parameters with these statistics in place of the initial (0, 1)."""
    if "clip_mean" not in params:
        raise ValueError('only embedding_norm.kind="standardize" has statistics')
    return {**params, "clip_mean": stats.mean, "clip_std": stats.std}


def stats_params(module: nn.Module, norm: EmbeddingNorm, width: int) -> EmbeddingStats | None:
    """Declares `clip_mean` and `clip_std` on `module` where `norm` needs them."""
    if norm.kind != "standardize":
        return None
    mean = module.param("clip_mean", axes(zeros, "cond"), (width,), jnp.float32)
    std = module.param("clip_std", axes(ones, "cond"), (width,), jnp.float32)
    return jax.lax.stop_gradient(EmbeddingStats(jnp.asarray(mean), jnp.asarray(std)))


def _required(stats: EmbeddingStats | None) -> EmbeddingStats:
    if stats is None:
        raise ValueError('kind="standardize" needs the mean and std of the embeddings')
    return stats
