"""Embeddings of timesteps, positions, tokens and image patches."""

import math

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Num

from unclip_jax.nn.layers import axes, constrain, dense, normal


def sinusoid(t: Num[Array, " b"], width: int, max_period: float = 1e4) -> Float[Array, "b d"]:
    """Embeds timesteps as [cos(t f_i), sin(t f_i)] with f_i = max_period^(-i / half), in float32.

    As in ADM: half = width // 2 frequencies, cosines first; an odd width ends in a zero.
    """
    half = width // 2
    freqs = jnp.exp(-math.log(max_period) / half * jnp.arange(half, dtype=jnp.float32))
    angles = t.astype(jnp.float32)[:, None] * freqs[None]
    waves = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], -1)
    return jnp.pad(waves, ((0, 0), (0, width % 2)))


class TimeEmbedding(nn.Module):
    """sinusoid(t) -> Dense -> SiLU -> Dense, in float32 (ADM; Karlo's prior).

    In full float32 whatever the default precision of matmuls is: neighboring steps differ by less
    than a bfloat16 resolves.
    """

    sinusoid_width: int
    width: int

    @nn.compact
    def __call__(self, t: Num[Array, " b"]) -> Float[Array, "b d"]:
        """Returns the embedding of each timestep."""
        x = sinusoid(t, self.sinusoid_width)
        exact = {"dtype": jnp.float32, "precision": "highest"}
        x = dense(self.width, ("time_in", "time"), name="fc_1", **exact)(x)
        x = constrain(x, "batch", None)
        x = dense(self.width, ("time_in", "time"), name="fc_2", **exact)(nn.silu(x))
        return constrain(x, "batch", None)


class PositionEmbedding(nn.Module):
    """Adds a learned vector to each position.

    Attributes:
        length: positions of the table; None for those of x.
    """

    std: float = 0.01
    length: int | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"], first: int = 0) -> Float[Array, "b n d"]:
        """Returns x, whose positions are those from `first` on, plus their vectors."""
        init = axes(normal(self.std), "position", "embed")
        shape = (self.length or x.shape[1], x.shape[2])
        table = self.param("embedding", init, shape, jnp.float32)
        return x + table[None, first : first + x.shape[1]].astype(x.dtype)


class TokenEmbedding(nn.Module):
    """A table of token vectors."""

    vocab_size: int
    width: int
    std: float = 0.02
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, tokens: Int[Array, "b n"]) -> Float[Array, "b n d"]:
        """Looks up each token; ids must lie inside the vocabulary."""
        init = axes(normal(self.std), "vocab", "embed")
        table = self.param("embedding", init, (self.vocab_size, self.width), jnp.float32)
        x = jnp.take(table, tokens, axis=0).astype(self.dtype)
        return constrain(x, "batch", None, None)


class PatchEmbedding(nn.Module):
    """Non-overlapping patches times a kernel without bias: a strided convolution as one matmul."""

    patch: int
    width: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"]) -> Float[Array, "b n d"]:
        """Returns patch vectors in row-major order."""
        c = images.shape[-1]
        init = axes(normal((self.patch * self.patch * c) ** -0.5), None, None, "conv_in", "embed")
        kernel = self.param("kernel", init, (self.patch, self.patch, c, self.width), jnp.float32)
        patches = space_to_depth(images, self.patch).astype(self.dtype)
        patches = patches.reshape(images.shape[0], -1, patches.shape[-1])
        return patches @ kernel.reshape(-1, self.width).astype(self.dtype)


def space_to_depth(x: Float[Array, "b h w c"], factor: int) -> Float[Array, "b h2 w2 c2"]:
    """Moves each factor x factor block of pixels into channels, ordered (row, column, channel)."""
    b, h, w, c = x.shape
    if h % factor or w % factor:
        raise ValueError(f"image size {h}x{w} must be a multiple of {factor=}")
    x = x.reshape(b, h // factor, factor, w // factor, factor, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h // factor, w // factor, factor * factor * c)


def depth_to_space(x: Float[Array, "b h w c"], factor: int) -> Float[Array, "b h2 w2 c2"]:
    """Undoes `space_to_depth`."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, factor, factor, c // factor**2).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h * factor, w * factor, c // factor**2)
