"""A causal pre-norm transformer with cross-attention, run in one pass or position by position.

A block is x + self(norm(x)), x + cross(norm(x), context), x + mlp(norm(x)). In one pass a block
gets the context itself; step by step it gets a cache: the keys and values of the positions so far,
and those of the context, computed with the first positions. A stack without a context has no
cross-attention.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from unclip_jax.nn.attention import attend, causal_mask, key_mask, split_heads
from unclip_jax.nn.layers import LayerNorm, constrain, dense, normal
from unclip_jax.nn.remat import remat_module
from unclip_jax.nn.transformer import RESIDUAL_AXES, Mlp, TransformerConfig, out_init

HEADS = ("batch", None, "heads")


@struct.dataclass
class Cache:
    """Keys and values of one block [b, positions, heads, c]; scanned blocks have a layers axis.

    The positions that have not been reached are zeros, which the mask hides. `context_k` and
    `context_v` are None until the first positions have been read.
    """

    k: Any
    v: Any
    context_k: Any = None
    context_v: Any = None


@struct.dataclass
class CrossInputs:
    """The context that a block attends to.

    Attributes:
        context: float [b, m, w]; None once its keys are in the cache.
        visible: bool [b, m], the positions of the context that may be seen; None of a stack without
            a context.
        index: of the first position of x; only with a cache.
    """

    context: Any = None
    visible: Any = None
    index: Any = None


@struct.dataclass
class BlockInputs:
    """Inputs of a block beside x: the context, and the cache of step-by-step decoding."""

    cross: CrossInputs
    cache: Cache | None = None


class CausalAttention(nn.Module):
    """Self-attention of position i to the positions up to i."""

    cfg: TransformerConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n d"], cache: Cache | None, index: Any
    ) -> tuple[Float[Array, "b n d"], Cache | None]:
        """Returns the output, and the cache updated with the keys and values of these positions."""
        cfg, dtype = self.cfg, self.dtype
        init = normal(cfg.width**-0.5)
        qkv = dense(3 * cfg.width, ("embed", "heads"), name="qkv", dtype=dtype, init=init)(x)
        q, k, v = split_heads(constrain(qkv, *HEADS), cfg.heads, 3)
        mask = causal_mask(x.shape[1])
        if cache is not None:
            put = jax.lax.dynamic_update_slice_in_dim
            k, v = put(cache.k, k, index, axis=1), put(cache.v, v, index, axis=1)
            cache = cache.replace(k=k, v=v)
            own = index + jnp.arange(x.shape[1])
            mask = (jnp.arange(k.shape[1])[None] <= own[:, None])[None, None]
        out = dense(cfg.width, ("heads", "embed"), name="out", dtype=dtype, init=out_init(cfg))
        return out(attend(q, k, v, mask).reshape(x.shape)), cache


class CrossAttention(nn.Module):
    """Attention of every position to the visible positions of the context."""

    cfg: TransformerConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n d"], cross: CrossInputs, cache: Cache | None
    ) -> tuple[Float[Array, "b n d"], Cache | None]:
        """Returns the output, and the cache updated with the context's keys and values."""
        cfg, dtype = self.cfg, self.dtype
        init = normal(cfg.width**-0.5)
        q = dense(cfg.width, ("embed", "heads"), name="q", dtype=dtype, init=init)(x)
        q = split_heads(constrain(q, *HEADS), cfg.heads, 1)[0]
        if cross.context is None:
            k, v = cache.context_k, cache.context_v
        else:
            init = normal(cross.context.shape[-1] ** -0.5)
            kv = dense(2 * cfg.width, ("cond", "heads"), name="kv", dtype=dtype, init=init)
            both = constrain(kv(cross.context.astype(dtype)), *HEADS)
            k, v = split_heads(both, cfg.heads, 2)
            if cache is not None:
                cache = cache.replace(context_k=k, context_v=v)
        read = attend(q, k, v, key_mask(cross.visible)).reshape(x.shape)
        out = dense(cfg.width, ("heads", "embed"), name="out", dtype=dtype, init=out_init(cfg))
        return out(read), cache


class CausalBlock(nn.Module):
    """x + self(norm(x)), x + cross(norm(x), context) where there is one, x + mlp(norm(x))."""

    cfg: TransformerConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n d"],
        inputs: BlockInputs,
        train: bool = False,
    ) -> tuple[Float[Array, "b n d"], Cache | None]:
        """Applies one block; `train` is positional so that remat can keep it static."""
        cross, cache, cfg, dtype = inputs.cross, inputs.cache, self.cfg, self.dtype
        drop = nn.Dropout(cfg.dropout, deterministic=not train)
        attn = CausalAttention(cfg, dtype, name="attn")
        out, cache = attn(LayerNorm(dtype, name="ln_1")(x), cache, cross.index)
        x = constrain(x + drop(out), *RESIDUAL_AXES)
        if cross.visible is not None:
            attn = CrossAttention(cfg, dtype, name="cross")
            out, cache = attn(LayerNorm(dtype, name="ln_2")(x), cross, cache)
            x = constrain(x + drop(out), *RESIDUAL_AXES)
        x = x + drop(Mlp(cfg, dtype, name="mlp")(LayerNorm(dtype, name="ln_3")(x)))
        return constrain(x, *RESIDUAL_AXES), cache


class CausalStack(nn.Module):
    """A stack of blocks: `blocks` (scanned, leading axis layers) or `blocks_0`, `blocks_1`, …"""

    cfg: TransformerConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n d"],
        cross: CrossInputs,
        caches: Any = None,
        train: bool = False,
    ) -> tuple[Float[Array, "b n d"], Any]:
        """Runs all blocks; no norm at the end.

        Args:
            caches: of `empty_caches` or of the positions before; None reads x as a whole sequence.
        """
        cfg = self.cfg
        x = constrain(x.astype(self.dtype), *RESIDUAL_AXES)
        block = remat_module(CausalBlock, cfg.remat, prevent_cse=not cfg.scan_layers)
        if not cfg.scan_layers:
            kept = []
            for i in range(cfg.layers):
                inputs = BlockInputs(cross, None if caches is None else caches[i])
                x, cache = block(cfg, self.dtype, name=f"blocks_{i}")(x, inputs, train)
                kept.append(cache)
            return x, None if caches is None else tuple(kept)
        scan = nn.scan(
            lambda module, carry, cache: module(carry, BlockInputs(cross, cache), train),
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            length=cfg.layers,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        return scan(block(cfg, self.dtype, name="blocks"), x, caches)


def empty_caches(cfg: TransformerConfig, rows: Any, positions: int, dtype: DTypeLike) -> Any:
    """Returns the caches of all blocks before the first position."""
    shape = (rows, positions, cfg.heads, cfg.width // cfg.heads)
    if cfg.scan_layers:
        return Cache(*(jnp.zeros((cfg.layers, *shape), dtype) for _ in range(2)))
    return tuple(Cache(*(jnp.zeros(shape, dtype) for _ in range(2))) for _ in range(cfg.layers))
