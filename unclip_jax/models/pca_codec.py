"""The codec of the autoregressive prior: image embeddings as discrete codes (unCLIP §2.2).

An embedding at unit length is projected on the first k principal components, in order of decreasing
eigenvalue, and each coordinate falls into one of B buckets. The paper leaves the edges open; ours
are uniform over +-limit standard deviations of that component, so that one vocabulary serves all
positions and the error is known:

    x_j = c_j / (limit sigma_j)                   what lies outside [-1, 1] is clamped
    code = floor((x + 1) B / 2),                  clamped to 0 .. B - 1
    x'   = (2 code + 1) / B - 1                   the center of the bucket: |x - x'| <= 1 / B

The way back is mean + V_k^T c', brought to unit length. The cosine of z_i and z_t, which the
sequence begins with, has uniform buckets over [-1, 1].

Mean, components, deviations and the quantiles of that cosine are parameters of the stage that no
optimizer may touch, so the network ships with its codec.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int

from unclip_jax.core.checks import COUNT, POSITIVE, check_ranges
from unclip_jax.core.types import Params
from unclip_jax.core.vectors import unit
from unclip_jax.models import pca as pca_lib
from unclip_jax.models.pca import Pca
from unclip_jax.nn.layers import axes, ones, zeros

PARAMS = ("codec_mean", "codec_components", "codec_std", "codec_dots")
"""Names of the codec's parameters, in the order of Codec's fields."""

QUANTILES = 101
"""Quantiles 0%, 1%, … 100% of z_i . z_t over the training pairs, between which is interpolated."""


@dataclasses.dataclass(frozen=True)
class CodecConfig:
    """Sizes of the codec; the paper's: 319 components of 1,024 buckets.

    Attributes:
        components: principal components of z_i that are kept, one code each.
        buckets: values that a code can take.
        limit: standard deviations that the buckets reach to, on either side. Ours.
        dot_buckets: of the cosine of z_i and z_t. Ours.
    """

    components: int
    buckets: int = 1024
    limit: float = 4.0
    dot_buckets: int = 1024

    def __post_init__(self):
        """Checks the sizes."""
        check_ranges(self, components=COUNT, limit=POSITIVE)
        check_ranges(self, buckets=(2, COUNT[1]), dot_buckets=(2, COUNT[1]))


@struct.dataclass
class Codec:
    """The fitted codec: mean [d], components [k, d], deviations std [k], quantiles dots [q]."""

    mean: Any
    components: Any
    std: Any
    dots: Any

    def basis(self) -> Pca:
        """Returns mean and components as a PCA."""
        return Pca(self.mean, self.components, jnp.square(jnp.asarray(self.std)))


def make_codec(pca: Pca, cfg: CodecConfig, dots: Float[np.ndarray, " n"]) -> Codec:
    """Returns the codec of a PCA and of the cosines of the training pairs.

    A component of no variance gets a tiny deviation: its codes are then those of the mean.
    """
    if len(pca.eigenvalues) < cfg.components:
        raise ValueError(
            f"components={cfg.components}, but the PCA has {len(pca.eigenvalues)} components"
        )
    k = cfg.components
    values = np.asarray(pca.eigenvalues, np.float64)[:k]
    dots = np.quantile(np.asarray(dots, np.float64), np.linspace(0, 1, QUANTILES))
    parts = (pca.mean, pca.components[:k], np.maximum(np.sqrt(values), 1e-4), dots)
    return Codec(*(np.asarray(part, np.float32) for part in parts))


def codec_params(module: nn.Module, cfg: CodecConfig, width: int) -> Codec:
    """Declares the codec's parameters on `module`; fresh ones are a placeholder basis."""

    def eye(_: Any, shape: Any, dtype: Any) -> Array:
        return jnp.eye(*shape, dtype=dtype)

    def line(_: Any, shape: Any, dtype: Any) -> Array:
        return jnp.linspace(-1.0, 1.0, shape[0], dtype=dtype)

    k = cfg.components
    codec = Codec(
        module.param("codec_mean", axes(zeros, "cond"), (width,), jnp.float32),
        module.param("codec_components", axes(eye, "position", "cond"), (k, width), jnp.float32),
        module.param("codec_std", axes(ones, "position"), (k,), jnp.float32),
        module.param("codec_dots", axes(line, "position"), (QUANTILES,), jnp.float32),
    )
    return jax.lax.stop_gradient(jax.tree.map(jnp.asarray, codec))


def codec_of(params: Params) -> Codec:
    """Returns the codec in a stage's parameters."""
    codec = Codec(*(jnp.asarray(params[name], jnp.float32) for name in PARAMS))
    return jax.lax.stop_gradient(codec)


def with_codec(params: Params, codec: Codec) -> Params:
    """Returns a stage's parameters with this codec in place of the one they have."""
    values = (codec.mean, codec.components, codec.std, codec.dots)
    return {**params, **dict(zip(PARAMS, values, strict=True))}


def quantize(x: Float[Array, "*n"], buckets: int) -> Int[Array, "*n"]:
    """Returns the buckets of numbers in [-1, 1]; those outside fall into the outermost."""
    code = jnp.floor((x + 1.0) * (buckets / 2))
    return jnp.clip(code, 0, buckets - 1).astype(jnp.int32)


def dequantize(code: Int[Array, "*n"], buckets: int) -> Float[Array, "*n"]:
    """Returns the centers of buckets."""
    return (2.0 * code.astype(jnp.float32) + 1.0) / buckets - 1.0


def encode(
    codec: Codec, cfg: CodecConfig, z: Float[Array | np.ndarray, "n d"]
) -> Int[Array, "n k"]:
    """Returns the codes of raw image embeddings, coarse components first."""
    scale = (cfg.limit * codec.std)[None]
    return quantize(pca_lib.project(codec.basis(), z) / scale, cfg.buckets)


def decode(codec: Codec, cfg: CodecConfig, codes: Int[Array, "n k"]) -> Float[Array, "n d"]:
    """Returns unit image embeddings of codes."""
    coordinates = dequantize(codes, cfg.buckets) * (cfg.limit * codec.std)[None]
    return unit(pca_lib.reconstruct(codec.basis(), coordinates))


def dot_codes(
    cfg: CodecConfig, image_emb: Float[Array, "n d"], text_emb: Float[Array, "n d"]
) -> Int[Array, " n"]:
    """Returns the buckets of the cosines of z_i and z_t."""
    dots = (unit(image_emb) * unit(text_emb)).sum(-1)
    return quantize(dots, cfg.dot_buckets)


def draw_dots(
    codec: Codec, cfg: CodecConfig, u: Float[Array, " n"], percentile: float
) -> Int[Array, " n"]:
    """Draws dot tokens from the part of the training pairs' distribution above a percentile.

    Args:
        u: uniform in [0, 1].
        percentile: 50 is the upper half, which the paper found best of 50, 70, 85 and 95.
    """
    low = percentile / 100.0
    place = (low + (1.0 - low) * u) * (QUANTILES - 1)
    return quantize(jnp.interp(place, jnp.arange(QUANTILES), codec.dots), cfg.dot_buckets)


@struct.dataclass
class RoundTrip:
    """Errors of unit embeddings u after encode and decode, one number an embedding.

    dropped + bucketed = |u - z'|^2 before z' is brought to unit length, `lost` is that after it.

    Attributes:
        lost: [n], |u - z'|^2.
        dropped: [n], of the components that are not kept: |u - mean - V_k^T c|^2.
        bucketed: [n], of the buckets: |c - c'|^2, inside them at most (limit sigma_j / B)^2 each.
        outside: [n], the share of coordinates beyond the outermost edges, whose error is larger.
        cosine: [n], of u and z'.
    """

    lost: Any
    dropped: Any
    bucketed: Any
    outside: Any
    cosine: Any


def round_trip(codec: Codec, cfg: CodecConfig, z: Float[Array | np.ndarray, "n d"]) -> RoundTrip:
    """Measures what raw embeddings lose by encode and decode.

    The paper keeps as many components as lose less than 1% of E|u - mean|^2.
    """
    u, basis, scale = unit(jnp.asarray(z)), codec.basis(), (cfg.limit * codec.std)[None]
    given = pca_lib.project(basis, z)
    codes = encode(codec, cfg, z)
    back = decode(codec, cfg, codes)
    return RoundTrip(
        lost=jnp.square(u - back).sum(-1),
        dropped=jnp.square(u - pca_lib.reconstruct(basis, given)).sum(-1),
        bucketed=jnp.square(given - dequantize(codes, cfg.buckets) * scale).sum(-1),
        outside=(jnp.abs(given) > scale).mean(-1),
        cosine=(u * back).sum(-1),
    )
