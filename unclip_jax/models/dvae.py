r"""The discrete VAE of DALL·E: an image as a grid of tokens, and back (Ramesh et al. 2021, §2.1).

    q(z | x) = softmax(logits(x))  at each position,    p(x | z) = decode(one_hot(z)),

with a uniform p(z) over K codes. Encoder and decoder are convolutional ResNets with bottleneck
blocks and no norms (appendix A.1; sizes as in the released weights): 7 x 7 at first, 2 x 2 max
pooling and nearest-neighbor upsampling between groups, branches scaled by 1 / blocks^2, 1 x 1 at
the ends, which are float32. Tokens are in row-major order.

The likelihood of a pixel, for training:

    logit_laplace: x in [-1, 1] is squeezed to u = (1 - 2 eps) (x + 1) / 2 + eps, eps = 0.1, and
        f(u | mu, b) = exp(-|logit(u) - mu| / b) / (2 b u (1 - u)); the decoder gives mu and ln b
        (appendix A.3). An image is the u with logit(u) = mu, stretched back.
    l2: a normal of fixed deviation `pixel_std`; the decoder gives its mean. For drawings: where
        pixels are exactly constant, b falls to 0 and the logit-Laplace likelihood has no bound.

A stage's usual inputs (x_t, t, cond) are here (images, t, cond), of which t and cond are not read.
"""

import dataclasses
import math
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from unclip_jax.core.checks import COUNT, POSITIVE, check_ranges
from unclip_jax.core.types import Cond
from unclip_jax.models.config import ModelConfig, dummy_images
from unclip_jax.nn.embeddings import depth_to_space, space_to_depth
from unclip_jax.nn.layers import axes, constrain, conv, normal

EPS = 0.1
"""How far the squeezed values of logit_laplace stay from 0 and 1."""

MOST_GROUPS = 8
IMAGE_AXES = ("batch", None, None, None)

relu_init = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
"""Deviation 1 / sqrt(fan_in), as the released code."""


@dataclasses.dataclass(frozen=True)
class DvaeConfig(ModelConfig):
    """Sizes of the two ResNets, and the likelihood of a pixel.

    Attributes:
        image_size: side of an image in pixels.
        codes: K, size of the vocabulary of image tokens.
        channels: of the outermost group.
        channel_mult: channels of each group over `channels`, outermost first; a halving of the side
            between two groups.
        res_blocks: blocks of a group.
        code_width: width of a code's vector, the decoder's input.
        patch: side of the pixel blocks that the first and last convolution take as channels; 1 is
            DALL·E's.
        likelihood: of a pixel.
        pixel_std: deviation of a pixel in [-1, 1] under "l2".
    """

    image_size: int
    codes: int
    channels: int
    channel_mult: tuple[int, ...] = (1, 2, 4, 8)
    res_blocks: int = 2
    code_width: int = 128
    patch: int = 1
    likelihood: Literal["logit_laplace", "l2"] = "logit_laplace"
    pixel_std: float = 0.1

    required_cond = ("image_tokens",)

    def __post_init__(self):
        """Checks the sizes."""
        sizes = ("image_size", "codes", "channels", "res_blocks", "code_width", "patch")
        check_ranges(self, **dict.fromkeys(sizes, COUNT), pixel_std=POSITIVE)
        if not 1 <= len(self.channel_mult) <= MOST_GROUPS or min(self.channel_mult) < 1:
            raise ValueError(
                f"channel_mult={self.channel_mult} must be 1 to {MOST_GROUPS} positive numbers"
            )
        if self.channels % 4:
            raise ValueError(f"channels={self.channels} must be a multiple of 4")
        if self.image_size % self.shrinks:
            raise ValueError(f"image_size={self.image_size} must be a multiple of {self.shrinks}")

    @property
    def shrinks(self) -> int:
        """Side of a token's square of pixels."""
        return self.patch * 2 ** (len(self.channel_mult) - 1)

    @property
    def grid(self) -> int:
        """Tokens in a row of an image."""
        return self.image_size // self.shrinks

    @property
    def num_blocks(self) -> int:
        """Blocks of the encoder, and of the decoder."""
        return len(self.channel_mult) * self.res_blocks

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of an image."""
        return (self.image_size, self.image_size, 3)

    def dummy_inputs(self, batch: int = 1) -> tuple[Array, Array, Cond]:
        """Returns (images, t, cond)."""
        return dummy_images(batch, self.image_size), jnp.zeros((batch,), jnp.int32), Cond()


@dataclasses.dataclass(frozen=True)
class TokenDecoding:
    """Sampling settings of the decoder of tokens, which has none: it runs once, without noise."""

    @property
    def guidance(self) -> float:
        """Off."""
        return 1.0

    @property
    def num_candidates(self) -> int:
        """One image for each grid of tokens."""
        return 1


class Dvae(nn.Module):
    """The encoder of images, the table of codes and the decoder of tokens."""

    cfg: DvaeConfig
    dtype: DTypeLike = jnp.float32

    def setup(self):
        """Declares the two networks and the codes' vectors."""
        cfg = self.cfg
        self.encoder = Encoder(cfg, self.dtype)
        self.decoder = ImageDecoder(cfg, self.dtype)
        init = axes(normal(1.0), "vocab", "embed")
        self.codebook = self.param("codebook", init, (cfg.codes, cfg.code_width), jnp.float32)

    def __call__(
        self,
        images: Float[Array, "n h w 3"],
        t: Any = None,
        cond: Cond | None = None,
        train: bool = False,
    ) -> Float[Array, "n h w 3"]:
        """Returns the images made of their likeliest tokens."""
        return self.decode_tokens(self.encode(images))

    def encode(self, images: Float[Array, "n h w 3"]) -> Int[Array, "n k"]:
        """Returns the likeliest tokens of images in [-1, 1]."""
        tokens = self.logits(images).argmax(-1)
        return tokens.reshape(images.shape[0], -1).astype(jnp.int32)

    def logits(self, images: Float[Array, "n h w 3"]) -> Float[Array, "n g g codes"]:
        """Returns the logits of q(z | x), float32."""
        return self.encoder(images)

    def decode(self, weights: Float[Array, "n g g codes"]) -> Float[Array, "n h w c"]:
        """Returns the parameters of p(x | z), float32: mu and, if the likelihood has it, ln b.

        Args:
            weights: one-hot, or any other weights of the codes.
        """
        weights = constrain(weights.astype(jnp.float32), "batch", None, None, "vocab")
        return self.decoder(jnp.einsum("nhwk,kc->nhwc", weights, self.codebook))

    def decode_tokens(self, tokens: Int[Array, "n k"]) -> Float[Array, "n h w 3"]:
        """Returns the images of tokens, in [-1, 1]."""
        cfg = self.cfg
        if tokens.shape[1] != cfg.grid**2:
            raise ValueError(f"{tokens.shape[1]} tokens for an image of {cfg.grid**2}")
        vectors = jnp.take(self.codebook, tokens.reshape(-1, cfg.grid, cfg.grid), axis=0)
        return mean_image(self.decoder(vectors), cfg)


class Encoder(nn.Module):
    """Images to the logits of their tokens."""

    cfg: DvaeConfig
    dtype: DTypeLike

    @nn.compact
    def __call__(self, images: Float[Array, "n h w 3"]) -> Float[Array, "n g g codes"]:
        """Encodes images in [-1, 1]."""
        cfg, dtype = self.cfg, self.dtype
        x = images if cfg.likelihood == "l2" else squeeze(images)
        x = space_to_depth(x, cfg.patch).astype(dtype)
        stem = {"size": 7, "init": relu_init, "dtype": dtype}
        x = conv(cfg.channels, ("conv_in", "conv_out"), name="conv_in", **stem)(x)
        for i, mult in enumerate(cfg.channel_mult):
            if i:
                x = nn.max_pool(x, (2, 2), (2, 2))
            for j in range(cfg.res_blocks):
                sides = (3, 3, 3, 1)
                x = Bottleneck(cfg, mult * cfg.channels, sides, dtype, name=f"block_{i}_{j}")(x)
        x = nn.relu(x).astype(jnp.float32)
        head = {"size": 1, "init": relu_init, "dtype": jnp.float32}
        return conv(cfg.codes, ("embed", "vocab"), name="conv_out", **head)(x)


class ImageDecoder(nn.Module):
    """Vectors of tokens to the parameters of the pixels' likelihood."""

    cfg: DvaeConfig
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "n g g d"]) -> Float[Array, "n h w c"]:
        """Decodes the codes' vectors."""
        cfg, dtype = self.cfg, self.dtype
        x = x.astype(dtype)
        for i in reversed(range(len(cfg.channel_mult))):
            for j in range(cfg.res_blocks):
                sides, out = (1, 3, 3, 3), cfg.channel_mult[i] * cfg.channels
                x = Bottleneck(cfg, out, sides, dtype, name=f"block_{i}_{j}")(x)
            if i:
                x = x.repeat(2, axis=1).repeat(2, axis=2)
        x = nn.relu(x).astype(jnp.float32)
        out = (3 if cfg.likelihood == "l2" else 6) * cfg.patch**2
        head = {"size": 1, "init": relu_init, "dtype": jnp.float32}
        x = conv(out, ("conv_in", "conv_out"), name="conv_out", **head)(x)
        return depth_to_space(x, cfg.patch)


class Bottleneck(nn.Module):
    """skip(x) + branch(x) / blocks^2 of four convolutions, ReLU before each."""

    cfg: DvaeConfig
    out: int
    sides: tuple[int, int, int, int]
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w d"]:
        """Applies the block."""
        kinds = {"init": relu_init, "dtype": self.dtype}
        skip = x
        if x.shape[-1] != self.out:
            skip = conv(self.out, ("conv_in", "conv_out"), name="skip", size=1, **kinds)(x)
        for i, side in enumerate(self.sides):
            is_last = i == len(self.sides) - 1
            width = self.out if is_last else self.out // 4
            names = ("mlp", "embed") if is_last else ("conv_in" if i else "embed", "mlp")
            layer = conv(width, names, name=f"conv_{i}", size=side, **kinds)
            x = constrain(layer(nn.relu(x)), *IMAGE_AXES)
        return constrain(skip + x * (1.0 / self.cfg.num_blocks**2), *IMAGE_AXES)


def squeeze(images: Float[Array, " *d"]) -> Float[Array, " *d"]:
    """Maps [-1, 1] to [EPS, 1 - EPS]."""
    return (1.0 - 2.0 * EPS) * (images + 1.0) / 2.0 + EPS


def mean_image(out: Float[Array, "n h w c"], cfg: DvaeConfig) -> Float[Array, "n h w 3"]:
    """Returns the images in [-1, 1] that the decoder's output stands for."""
    mu = out[..., :3]
    if cfg.likelihood == "logit_laplace":
        mu = 2.0 * (nn.sigmoid(mu) - EPS) / (1.0 - 2.0 * EPS) - 1.0
    return jnp.clip(mu, -1.0, 1.0)


def negative_log_likelihood(
    out: Float[Array, "n h w c"], images: Float[Array, "n h w 3"], cfg: DvaeConfig
) -> Float[Array, " n"]:
    """Returns -ln p(x | z) of each image in nats, of the squeezed values for logit_laplace.

    Source: Ramesh et al. 2021, appendix A.3, equation 2.
    """
    mu = out[..., :3]
    if cfg.likelihood == "l2":
        var = cfg.pixel_std**2
        nats = jnp.square(images - mu) / (2.0 * var) + 0.5 * math.log(2.0 * math.pi * var)
    else:
        u, log_b = squeeze(images), out[..., 3:]
        distance = jnp.abs(jnp.log(u) - jnp.log1p(-u) - mu)
        nats = distance * jnp.exp(-log_b) + log_b + jnp.log(2.0 * u * (1.0 - u))
    return nats.sum((1, 2, 3))


def kl_to_uniform(logits: Float[Array, "n g g codes"]) -> Float[Array, " n"]:
    """Returns KL(q(z | x) || uniform) of each image in nats: sum of q (ln q + ln K)."""
    log_q = jax.nn.log_softmax(logits)
    return (jnp.exp(log_q) * (log_q + math.log(logits.shape[-1]))).sum((1, 2, 3))


def gumbel_softmax(
    logits: Float[Array, "n g g codes"], gumbel: Float[Array, "n g g codes"], temperature: Any
) -> Float[Array, "n g g codes"]:
    """Returns the relaxed draw softmax((logits + gumbel) / temperature).

    Toward temperature 0 it is the one-hot draw of q (Jang et al. 2017; Maddison et al. 2017).
    """
    return jax.nn.softmax((logits + gumbel) / temperature, axis=-1)
