"""The U-Net body of decoder and upsamplers: ADM's, with an optional space-to-depth stem.

Level i works at image_size / patch / 2^i with channels * channel_mult[i] channels. Submodules:

    time_embed, conv_in
    down_{i}_res_{j}, down_{i}_attn_{j}, down_{i}_down     j < res_blocks; the last level stays
    mid_res_1, mid_attn, mid_res_2
    up_{i}_res_{j}, up_{i}_attn_{j}, up_{i}_up             j <= res_blocks; level 0 stays
    norm_out, conv_out

In ADM's numbering, with n = res_blocks: input block 1 + i (n + 1) + j is down_{i}_res_{j}, and
output block (L - 1 - i) (n + 1) + j is up_{i}_res_{j}; a level's resampling block comes last.
"""

import dataclasses
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Num

from unclip_jax.core.checks import BELOW_ONE, COUNT, check_ranges
from unclip_jax.nn.embeddings import TimeEmbedding, depth_to_space, space_to_depth
from unclip_jax.nn.layers import GroupNorm, constrain, conv, zeros
from unclip_jax.nn.remat import Remat, remat_module
from unclip_jax.nn.unet_blocks import IMAGE_AXES, AttentionBlock, Resample, ResBlock


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    """Sizes of a U-Net.

    Attributes:
        image_size: the size at which attention_resolutions are counted; a net without attention
            runs at any size that its levels divide.
        channels: channels of the first level, before `channel_mult`.
        channel_mult: factor of `channels` at each level; a level halves the size.
        res_blocks: residual blocks of a level, one more on the way up.
        in_channels: all channels of the input, a concatenated low-res image included.
        out_channels: channels of the output: 3, or 6 with a learned variance.
        attention_resolutions: sizes (after the stem) whose blocks have attention.
        mid_attention: whether the middle block has attention.
        head_channels: channels of one attention head.
        scale_shift: the timestep scales and shifts the second norm of a block, or is only added.
        dropout: share of a residual block's values that training drops.
        norm_groups: groups of every norm; must divide every channel count, concatenations too.
        time_width: width of the timestep embedding, 4 channels unless given (ADM).
        patch: side of the pixel blocks that the stem moves into channels (1 is ADM; more is ours).
        remat: what a block keeps for its backward pass (nn/remat.py).
    """

    image_size: int
    channels: int
    channel_mult: tuple[int, ...] = (1, 2, 3, 4)
    res_blocks: int = 3
    in_channels: int = 3
    out_channels: int = 3
    attention_resolutions: tuple[int, ...] = ()
    mid_attention: bool = True
    head_channels: int = 64
    scale_shift: bool = True
    dropout: float = 0.0
    norm_groups: int = 32
    time_width: int | None = None
    patch: Literal[1, 2, 4] = 1
    remat: Remat = "none"

    def __post_init__(self):
        """Checks the sizes, and that the levels divide the image."""
        sizes = ("image_size", "channels", "channel_mult", "res_blocks", "in_channels")
        sizes += ("out_channels", "head_channels", "norm_groups", "time_width")
        check_ranges(self, **dict.fromkeys(sizes, COUNT), dropout=BELOW_ONE)
        if not self.channel_mult:
            raise ValueError("channel_mult=() must have a level")
        factor = self.patch * 2 ** (len(self.channel_mult) - 1)
        if self.image_size % factor:
            raise ValueError(f"image_size={self.image_size} must be a multiple of {factor}")
        sizes = [self.image_size // self.patch // 2**i for i in range(len(self.channel_mult))]
        stray = [size for size in self.attention_resolutions if size not in sizes]
        if stray:
            raise ValueError(f"attention_resolutions={stray} are none of the levels' {sizes}")

    @property
    def emb_width(self) -> int:
        """Width of the timestep embedding."""
        return self.time_width or 4 * self.channels

    @property
    def has_attention(self) -> bool:
        """Whether any block attends to a context."""
        return self.mid_attention or bool(self.attention_resolutions)

    def attends(self, level: int) -> bool:
        """Whether the blocks of a level have attention."""
        return self.image_size // self.patch // 2**level in self.attention_resolutions


@dataclasses.dataclass(frozen=True)
class _BlockInputs:
    """Inputs shared by all blocks of one forward pass."""

    emb: Array
    context: Array | None
    context_mask: Array | None
    train: bool


class UNet(nn.Module):
    """ADM's U-Net: down, middle and up, with concatenated skip connections."""

    cfg: UNetConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        t: Num[Array, " b"],
        *,
        emb: Float[Array, "b e"] | None = None,
        context: Float[Array, "b m k"] | None = None,
        context_mask: Bool[Array, "b m"] | None = None,
        train: bool = False,
    ) -> Float[Array, "b h w d"]:
        """Returns out_channels at the input's size, float32.

        Args:
            emb: added to the timestep embedding; cfg.emb_width wide.
            context: extra vectors that attention blocks attend to.
            context_mask: False hides a context vector.
        """
        cfg, dtype = self.cfg, self.dtype
        if x.shape[-1] != cfg.in_channels:
            raise ValueError(
                f"input has {x.shape[-1]} channels, the config in_channels={cfg.in_channels}"
            )
        time = TimeEmbedding(cfg.channels, cfg.emb_width, name="time_embed")(t)
        time = time if emb is None else time + emb.astype(jnp.float32)
        context = context.astype(dtype) if cfg.has_attention and context is not None else None
        side = _BlockInputs(constrain(time, "batch", None), context, context_mask, train)
        h = space_to_depth(x.astype(dtype), cfg.patch) if cfg.patch > 1 else x.astype(dtype)
        width = cfg.channels * cfg.channel_mult[0]
        h = conv(width, ("conv_in", "conv_out"), name="conv_in", dtype=dtype)(h)
        h, skips = self._down(constrain(h, *IMAGE_AXES), side)
        h = self._res(h, h.shape[-1], side, "mid_res_1")
        if cfg.mid_attention:
            h = self._attend(h, side, "mid_attn")
        h = self._res(h, h.shape[-1], side, "mid_res_2")
        h = self._up(h, skips, side)
        # The head is float32 whatever the dtype, as in ADM and GLIDE.
        h = nn.silu(GroupNorm(cfg.norm_groups, jnp.float32, name="norm_out")(h))
        out = cfg.out_channels * cfg.patch**2
        h = conv(out, ("conv_in", "conv_out"), name="conv_out", dtype=jnp.float32, init=zeros)(h)
        return depth_to_space(h, cfg.patch) if cfg.patch > 1 else h

    def _down(self, h: Array, side: _BlockInputs) -> tuple[Array, list[Array]]:
        cfg, skips = self.cfg, [h]
        for i, mult in enumerate(cfg.channel_mult):
            for j in range(cfg.res_blocks):
                h = self._res(h, cfg.channels * mult, side, f"down_{i}_res_{j}")
                if cfg.attends(i):
                    h = self._attend(h, side, f"down_{i}_attn_{j}")
                skips.append(h)
            if i + 1 < len(cfg.channel_mult):
                h = self._res(h, h.shape[-1], side, f"down_{i}_down", "down")
                skips.append(h)
        return h, skips

    def _up(self, h: Array, skips: list[Array], side: _BlockInputs) -> Array:
        cfg = self.cfg
        for i, mult in reversed(list(enumerate(cfg.channel_mult))):
            for j in range(cfg.res_blocks + 1):
                h = jnp.concatenate([h, skips.pop()], axis=-1)
                h = self._res(h, cfg.channels * mult, side, f"up_{i}_res_{j}")
                if cfg.attends(i):
                    h = self._attend(h, side, f"up_{i}_attn_{j}")
            if i > 0:
                h = self._res(h, h.shape[-1], side, f"up_{i}_up", "up")
        return h

    def _res(
        self, h: Array, features: int, side: _BlockInputs, name: str, resample: Resample = "none"
    ) -> Array:
        cfg = self.cfg
        block = remat_module(ResBlock, cfg.remat)(
            features, cfg.norm_groups, cfg.scale_shift, cfg.dropout, resample, self.dtype, name=name
        )
        return block(h, side.emb, side.train)

    def _attend(self, h: Array, side: _BlockInputs, name: str) -> Array:
        cfg = self.cfg
        block = remat_module(AttentionBlock, cfg.remat, static_argnums=())
        block = block(cfg.head_channels, cfg.norm_groups, self.dtype, name=name)
        return block(h, side.context, side.context_mask)
