"""The upsamplers: attention-free U-Nets that see the low-res image (unCLIP §2.1; Karlo's SR).

The low-res image is resized to the size of x_t and concatenated on channels. Corrupting it in
training and rounding it to 8 bits in sampling are left to the caller.
"""

import dataclasses
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Num

from unclip_jax.core.checks import COUNT, check_ranges
from unclip_jax.core.types import Cond
from unclip_jax.models.config import ModelConfig, dummy_images
from unclip_jax.models.unet import UNet, UNetConfig


@dataclasses.dataclass(frozen=True)
class UpsamplerConfig(ModelConfig):
    """A U-Net whose input is [x_t, resized low-res image].

    Attributes:
        unet: the network; it reads 3 channels of each image.
        low_res_size: side of the low-res image when sampling; training may crop both.
        resize: bicubic (antialiased where it shrinks) or bilinear.
    """

    unet: UNetConfig
    low_res_size: int
    resize: Literal["cubic", "linear"] = "cubic"

    required_cond = ("low_res",)

    def __post_init__(self):
        """Checks that the input has room for the low-res image."""
        check_ranges(self, low_res_size=COUNT)
        if self.unet.in_channels != 6:
            given = self.unet.in_channels
            raise ValueError(f"unet.in_channels={given} must be 6: x_t and the low-res image")

    @property
    def out_channels(self) -> int:
        """Channels of the U-Net's output."""
        return self.unet.out_channels

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of an image."""
        return (self.unet.image_size, self.unet.image_size, 3)

    def dummy_inputs(self, batch: int = 1) -> tuple[Array, Array, Cond]:
        """Returns (x_t, t, cond)."""
        cond = Cond(low_res=dummy_images(batch, self.low_res_size))
        return dummy_images(batch, self.unet.image_size), jnp.zeros((batch,), jnp.int32), cond


class Upsampler(nn.Module):
    """Denoises at the large size, conditioned on the low-res image alone."""

    cfg: UpsamplerConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x_t: Float[Array, "n h w 3"], t: Num[Array, " n"], cond: Cond, train: bool = False
    ) -> Float[Array, "n h w c"]:
        """Returns the raw network output, float32."""
        if cond.low_res is None:
            raise ValueError("an upsampler needs cond.low_res")
        low_res = cond.low_res.astype(jnp.float32)
        if low_res.shape != x_t.shape:
            low_res = jax.image.resize(low_res, x_t.shape, self.cfg.resize)
        x = jnp.concatenate([x_t.astype(jnp.float32), low_res], axis=-1)
        return UNet(self.cfg.unet, self.dtype, name="unet")(x, t, train=train)
