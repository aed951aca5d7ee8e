"""Multi-head attention: self-attention of sequences, and the masks it takes.

Masks are boolean, True = visible, and broadcast against [b, heads, queries, keys]. The softmax is
always float32. Fused projections are laid out head by head, [q, k, v] inside a head (Karlo's
layout), so that a slice of the `heads` axis is a set of whole heads.

On an NVIDIA GPU cuDNN's fused kernel can take the place of the products and the softmax
(core/kernels.py). Masks go to it as a bias, for which lengths are filled up to multiples of EVEN.
"""

from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from unclip_jax.core.kernels import uses_cudnn
from unclip_jax.nn.layers import constrain, dense, torch_init
from unclip_jax.nn.remat import mark_product

PREFIX = "prefix"
"""Collection of the keys and values of the positions before those of a call."""

FEWEST = 64
"""Queries from which cuDNN's kernel is taken: it works on tiles of 64 and more."""

WIDEST = 128
"""Channels of a head up to which it is taken; they are a multiple of EVEN."""

EVEN = 8

HIDDEN, ABSENT = -(2.0**40), -(2.0**41)
"""Biases of keys that a mask hides, and of those that fill up: beside HIDDEN no logit is left over
in float32, and beside ABSENT a hidden key is visible."""


def causal_mask(length: int) -> Bool[Array, "1 1 n n"]:
    """Position i sees positions up to i."""
    return jnp.tril(jnp.ones((length, length), bool))[None, None]


def key_mask(visible: Bool[Array, "b n"]) -> Bool[Array, "b 1 1 n"]:
    """Hides padded keys from every query."""
    return visible[:, None, None, :]


def attend(
    q: Float[Array, "b m h c"],
    k: Float[Array, "b n h c"],
    v: Float[Array, "b n h c"],
    mask: Bool[Array, "#b #h #m #n"] | None = None,
) -> Float[Array, "b m h c"]:
    """softmax(q k^T / sqrt(c)) v, with logits and softmax in float32.

    A query that sees no key at all gets the mean of all values.
    """
    if uses_cudnn() and fits_cudnn(q):
        return mark_product(attend_fused(q, k, v, mask))
    q = q * jnp.asarray(q.shape[-1] ** -0.5, q.dtype)
    logits = jnp.einsum("bmhc,bnhc->bhmn", q, k, preferred_element_type=jnp.float32)
    if mask is not None:
        logits = jnp.where(mask, logits, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    return mark_product(jnp.einsum("bhmn,bnhc->bmhc", weights, v))


def fits_cudnn(q: Float[Array, "b m h c"]) -> bool:
    """Whether cuDNN's kernel takes such queries, and is worth it."""
    _, m, _, c = q.shape
    return q.dtype == jnp.bfloat16 and m >= FEWEST and c <= WIDEST and c % EVEN == 0


def attend_fused(
    q: Float[Array, "b m h c"],
    k: Float[Array, "b n h c"],
    v: Float[Array, "b n h c"],
    mask: Bool[Array, "#b #h #m #n"] | None = None,
    implementation: Literal["cudnn", "xla"] = "cudnn",
) -> Float[Array, "b m h c"]:
    """Returns what `attend` does, by JAX's call of cuDNN's kernel.

    A query that sees no key gets the same value, but passes a gradient on.

    Args:
        implementation: "xla" is JAX's own form of that call, for tests on other platforms.
    """
    m, n, bias = q.shape[1], k.shape[1], None
    if mask is not None:
        q, k, v = (jnp.pad(x, ((0, 0), (0, -x.shape[1] % EVEN), (0, 0), (0, 0))) for x in (q, k, v))
        bias = jnp.where(mask, 0.0, HIDDEN).astype(q.dtype)
        bias = jnp.broadcast_to(bias, (*bias.shape[:2], m, n))
        bias = jnp.pad(bias, ((0, 0), (0, 0), (0, 0), (0, -n % EVEN)), constant_values=ABSENT)
        bias = jnp.pad(bias, ((0, 0), (0, 0), (0, -m % EVEN), (0, 0)))
    out = jax.nn.dot_product_attention(q, k, v, bias, implementation=implementation)
    return out[:, :m]


def split_heads(x: Float[Array, "b n d"], heads: int, parts: int) -> list[Float[Array, "b n h c"]]:
    """Splits a fused projection into `parts` arrays of [b, n, heads, channels]."""
    b, n, _ = x.shape
    return jnp.split(x.reshape(b, n, heads, -1), parts, axis=-1)


class SelfAttention(nn.Module):
    """Multi-head self-attention with one fused projection.

    Applied with the collection PREFIX mutable, it keeps its keys and values there; applied with a
    filled one, its positions follow those, and see them too.
    """

    heads: int
    dtype: DTypeLike = jnp.float32
    qkv_init: Callable[..., Any] = torch_init
    out_init: Callable[..., Any] = torch_init

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n d"], mask: Bool[Array, "#b #h #n m"] | None = None
    ) -> Float[Array, "b n d"]:
        """Applies self-attention under `mask`, whose keys are those of the prefix and of x."""
        b, n, d = x.shape
        if d % self.heads:
            raise ValueError(f"width={d} must be a multiple of heads={self.heads}")
        qkv = dense(3 * d, ("embed", "heads"), name="qkv", dtype=self.dtype, init=self.qkv_init)(x)
        qkv = constrain(qkv, "batch", None, "heads")
        q, k, v = split_heads(qkv, self.heads, 3)
        if self.has_variable(PREFIX, "keys"):
            k = jnp.concatenate([self.get_variable(PREFIX, "keys"), k], axis=1)
            v = jnp.concatenate([self.get_variable(PREFIX, "values"), v], axis=1)
        elif self.is_mutable_collection(PREFIX) and not self.is_initializing():
            self.put_variable(PREFIX, "keys", k)
            self.put_variable(PREFIX, "values", v)
        out = attend(q, k, v, mask).reshape(b, n, d)
        return dense(d, ("heads", "embed"), name="out", dtype=self.dtype, init=self.out_init)(out)
