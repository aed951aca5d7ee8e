"""Blocks of the ADM U-Net (Dhariwal & Nichol 2021): residual block, attention, resampling.

Images are NHWC. Norms, softmax and the timestep embedding are float32, the rest `dtype`. The second
convolution of a residual block and the output of attention start at zero, so that every block
starts as its skip connection.
"""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from unclip_jax.nn.attention import attend, key_mask, split_heads
from unclip_jax.nn.layers import GroupNorm, constrain, conv, dense, zeros

Resample = Literal["none", "down", "up"]


def avg_pool_2x2(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Averages 2 x 2 pixels."""
    b, h, w, c = x.shape
    if h % 2 or w % 2:
        raise ValueError(f"cannot halve an image of {h}x{w}")
    return x.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))


def upsample_nearest_2x(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Repeats each pixel 2 x 2 times (nearest neighbor)."""
    b, h, w, c = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c))
    return x.reshape(b, 2 * h, 2 * w, c)


IMAGE_AXES = ("batch", None, None, None)
"""Axes of what runs through the blocks: examples are split, pixels and channels whole."""

RESAMPLE = {"none": lambda x: x, "down": avg_pool_2x2, "up": upsample_nearest_2x}


class ResBlock(nn.Module):
    """GN, SiLU, conv, time, GN, SiLU, dropout, zero conv, plus the skip (ADM).

    Resampling happens on both branches before the first convolution. The timestep either scales
    and shifts the second norm, or is added before it.
    """

    features: int
    groups: int = 32
    scale_shift: bool = True
    dropout: float = 0.0
    resample: Resample = "none"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], emb: Float[Array, "b e"], train: bool = False
    ) -> Float[Array, "b h2 w2 d"]:
        """Returns an image of `features` channels; `emb` is the timestep embedding."""
        dtype, features = self.dtype, self.features
        move = RESAMPLE[self.resample]
        h = move(nn.silu(GroupNorm(self.groups, dtype, name="norm_1")(x)))
        h = conv(features, ("embed", "mlp"), name="conv_1", dtype=dtype)(h)
        h = constrain(h, "batch", None, None, "mlp")
        parts = 2 if self.scale_shift else 1
        emb = dense(parts * features, ("time", "mlp"), name="time_proj", dtype=dtype)(nn.silu(emb))
        norm = GroupNorm(self.groups, dtype, name="norm_2")
        if self.scale_shift:
            scale, shift = jnp.split(emb, 2, axis=-1)
            h = norm(h, (scale, shift))
        else:
            h = norm(h + emb[:, None, None])
        h = nn.Dropout(self.dropout, deterministic=not train)(nn.silu(h))
        h = conv(features, ("mlp", "embed"), name="conv_2", dtype=dtype, init=zeros)(h)
        x = move(x)
        if x.shape[-1] != features:
            x = conv(features, ("conv_in", "conv_out"), name="skip", dtype=dtype, size=1)(x)
        return constrain(x + h, *IMAGE_AXES)


class AttentionBlock(nn.Module):
    """Pixels attend to a context and to each other under one softmax (GLIDE; Karlo).

    Keys and values are [context, image]; queries come from the image alone. Without a context this
    is ADM's self-attention and has no `context_kv`.
    """

    head_channels: int
    groups: int = 32
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        context: Float[Array, "b m e"] | None = None,
        context_mask: Bool[Array, "b m"] | None = None,
    ) -> Float[Array, "b h w c"]:
        """Adds what the pixels attend to; False in `context_mask` hides a context vector."""
        b, h, w, c = x.shape
        if c % self.head_channels:
            raise ValueError(
                f"channels={c} must be a multiple of head_channels={self.head_channels}"
            )
        heads, dtype = c // self.head_channels, self.dtype
        tokens = GroupNorm(self.groups, dtype, name="norm")(x).reshape(b, h * w, c)
        qkv = dense(3 * c, ("embed", "heads"), name="qkv", dtype=dtype)(tokens)
        q, k, v = split_heads(constrain(qkv, "batch", None, "heads"), heads, 3)
        mask = None
        if context is not None:
            kv = dense(2 * c, ("cond", "heads"), name="context_kv", dtype=dtype)(context)
            context_k, context_v = split_heads(constrain(kv, "batch", None, "heads"), heads, 2)
            k, v = jnp.concatenate([context_k, k], 1), jnp.concatenate([context_v, v], 1)
            if context_mask is not None:
                mask = key_mask(jnp.pad(context_mask, ((0, 0), (0, h * w)), constant_values=True))
        out = attend(q, k, v, mask).reshape(b, h, w, c)
        out = dense(c, ("heads", "embed"), name="out", dtype=dtype, init=zeros)(out)
        return constrain(x + out, *IMAGE_AXES)
