"""CLIP: image and text towers, and the contrastive loss (Radford et al. 2021, OpenAI's code).

The towers return raw embeddings; the loss normalizes them. Images are NHWC in [-1, 1]; they are
resized and normalized here, so callers need to know neither the tower's size nor its statistics.
"""

import dataclasses
import math
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from unclip_jax.core.checks import ANY, COUNT, POSITIVE, check_ranges
from unclip_jax.core.types import Params, TextFeatures
from unclip_jax.core.vectors import unit
from unclip_jax.models.config import ModelConfig, dummy_images, unset, zero_is_none
from unclip_jax.nn.attention import causal_mask
from unclip_jax.nn.embeddings import PatchEmbedding, PositionEmbedding, TokenEmbedding
from unclip_jax.nn.layers import LayerNorm, axes, dense, normal
from unclip_jax.nn.remat import Remat
from unclip_jax.nn.transformer import Transformer, TransformerConfig, check_stack

MAX_LOGIT_SCALE = math.log(100.0)
INIT_LOGIT_SCALE = math.log(1 / 0.07)

Activation = Literal["gelu", "quick_gelu"]

Fit = Literal["squash", "center_crop", "pad"]
"""How an image becomes the square that a model sees: stretched, cut, or with white at the sides."""


@dataclasses.dataclass(frozen=True)
class VisionConfig:
    """Sizes of the vision transformer.

    Attributes:
        image_size: side of the input, in pixels.
        patch_size: side of a patch, in pixels; must divide `image_size`.
        width: channels of a token.
        layers: number of blocks.
        heads: attention heads of a block.
        mlp_ratio: hidden width of the MLP over `width`.
        dropout: share of the residual branches' values that training drops.
    """

    image_size: int
    patch_size: int
    width: int
    layers: int
    heads: int
    mlp_ratio: float = 4.0
    dropout: float = 0.0

    def __post_init__(self):
        """Checks the sizes, and that patches tile the image."""
        check_ranges(self, image_size=COUNT, patch_size=COUNT)
        check_stack(self)
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size={self.image_size} must be a multiple of patch_size={self.patch_size}"
            )


@dataclasses.dataclass(frozen=True)
class TextConfig:
    """Sizes of the text transformer.

    Attributes:
        vocab_size: tokens of the vocabulary; None: that of the vocabulary trained on the captions.
        width: channels of a token.
        layers: number of blocks.
        heads: attention heads of a block.
        context: positions, start and end of text included.
        mlp_ratio: hidden width of the MLP over `width`.
        dropout: share of the residual branches' values that training drops.
    """

    vocab_size: int | None
    width: int
    layers: int
    heads: int
    context: int = 77
    mlp_ratio: float = 4.0
    dropout: float = 0.0

    def __post_init__(self):
        """Checks the sizes."""
        zero_is_none(self, "vocab_size")
        check_ranges(self, vocab_size=COUNT, context=COUNT)
        check_stack(self)


@dataclasses.dataclass(frozen=True)
class ClipConfig(ModelConfig):
    """Both towers.

    Attributes:
        embed_dim: width of the joint space of z_i and z_t.
        vision: the image tower; None for an imported text tower that came alone.
        text: the text tower.
        activation: of the MLPs of both towers.
        image_mean: subtracted from the channels of images in [0, 1]; default: OpenAI's.
        image_std: divides them after that.
        resize: how images that are not square are fitted, wherever a bundle embeds or inverts one.
        scan_layers: compiles one block of each tower and stacks the parameters.
        remat: what a block keeps for its backward pass (nn/remat.py).
    """

    embed_dim: int
    vision: VisionConfig | None
    text: TextConfig
    activation: Activation = "quick_gelu"
    image_mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    image_std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    resize: Fit = "squash"
    scan_layers: bool = False
    remat: Remat = "none"

    def __post_init__(self):
        """Checks the sizes."""
        check_ranges(self, embed_dim=COUNT, image_mean=ANY, image_std=POSITIVE)

    @property
    def init_method(self) -> str | None:
        """A CLIP without an image tower has `encode_text` alone."""
        return "encode_text" if self.vision is None else None

    @property
    def open_fields(self) -> tuple[str, ...]:
        """The vocabulary's size, until it is known."""
        return tuple(f"text.{name}" for name in unset(self.text, "vocab_size"))

    @property
    def clip_context(self) -> int:
        """Positions of the text tower."""
        return self.text.context

    def dummy_inputs(self, batch: int = 1) -> tuple[Array, ...]:
        """Returns (images, tokens), without an image tower tokens alone."""
        tokens = jnp.zeros((batch, self.text.context), jnp.int32)
        if self.vision is None:
            return (tokens,)
        return dummy_images(batch, self.vision.image_size), tokens


@struct.dataclass
class ClipOutput:
    """Raw embeddings of a batch of pairs, and the logarithm of the inverse temperature."""

    image_emb: Float[Array, "n d"]
    text_emb: Float[Array, "n d"]
    logit_scale: Float[Array, ""]


class TextEncoding(NamedTuple):
    """Output of the text tower: the embedding z_t and the normed states of all positions."""

    text_emb: Array
    text_states: Array


class VisionTower(nn.Module):
    """ViT: class token, norm before the blocks, norm and projection of the class token after."""

    cfg: ClipConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, "n h w 3"], *, train: bool) -> Float[Array, "n d"]:
        """Embeds images that already have the tower's size and statistics."""
        cfg, dtype = self.cfg.vision, self.dtype
        std = cfg.width**-0.5
        x = PatchEmbedding(cfg.patch_size, cfg.width, dtype, name="patch_embed")(images)
        init = axes(normal(std), "embed")
        token = self.param("class_embed", init, (cfg.width,), jnp.float32).astype(dtype)
        token = jnp.broadcast_to(token[None, None], (x.shape[0], 1, cfg.width))
        x = PositionEmbedding(std, name="pos_embed")(jnp.concatenate([token, x], axis=1))
        x = LayerNorm(dtype, name="ln_pre")(x)
        stack = Transformer(_stack_config(self.cfg, cfg), dtype, name="transformer")
        x = LayerNorm(dtype, name="ln_post")(stack(x, train=train)[:, 0])
        return _projection(self.cfg.embed_dim, std, dtype)(x).astype(jnp.float32)


class TextTower(nn.Module):
    """Causal transformer; the state of the end-of-text position, projected, is the embedding."""

    cfg: ClipConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, tokens: Int[Array, "n ctx"], *, train: bool) -> TextEncoding:
        """Encodes token ids; padding needs no mask: the end-of-text state never sees it."""
        cfg, dtype = self.cfg.text, self.dtype
        if tokens.shape[1] != cfg.context:
            raise ValueError(f"{tokens.shape[1]} tokens for a tower with context={cfg.context}")
        x = TokenEmbedding(cfg.vocab_size, cfg.width, dtype=dtype, name="token_embed")(tokens)
        x = PositionEmbedding(name="pos_embed")(x)
        stack = Transformer(_stack_config(self.cfg, cfg), dtype, name="transformer")
        x = stack(x, mask=causal_mask(cfg.context), train=train)
        states = LayerNorm(dtype, name="ln_final")(x)
        last = jnp.take_along_axis(states, tokens.argmax(-1)[:, None, None], axis=1)[:, 0]
        text_emb = _projection(self.cfg.embed_dim, cfg.width**-0.5, dtype)(last)
        return TextEncoding(text_emb.astype(jnp.float32), states.astype(jnp.float32))


class Clip(nn.Module):
    """Both towers and the temperature."""

    cfg: ClipConfig
    dtype: DTypeLike = jnp.float32

    def setup(self):
        """Declares the towers `vision` and `text` and the scalar `logit_scale`."""
        if self.cfg.vision is not None:
            self.vision = VisionTower(self.cfg, self.dtype)
        self.text = TextTower(self.cfg, self.dtype)
        init = axes(nn.initializers.constant(INIT_LOGIT_SCALE))
        self.logit_scale = self.param("logit_scale", init, (), jnp.float32)

    def __call__(
        self, images: Float[Array, "n h w 3"], tokens: Int[Array, "n ctx"], train: bool = False
    ) -> ClipOutput:
        """Embeds a batch of pairs for `clip_loss`."""
        image_emb = self.encode_image(images, train)
        return ClipOutput(image_emb, self.encode_text(tokens, train).text_emb, self.logit_scale)

    def encode_image(
        self, images: Float[Array, "n h w 3"], train: bool = False
    ) -> Float[Array, "n d"]:
        """Embeds images in [-1, 1] of any size, not normalized to unit length."""
        return self.vision(preprocess(images, self.cfg), train=train)

    def encode_text(self, tokens: Int[Array, "n ctx"], train: bool = False) -> TextEncoding:
        """Embeds token ids; see TextEncoding."""
        return self.text(tokens, train=train)


def fit_images(images: Float[Array, "n h w 3"], cfg: ClipConfig) -> Float[Array, "n s s 3"]:
    """Resizes images to the tower's square where the size differs (bicubic, antialiased)."""
    n, h, w, _ = images.shape
    size = cfg.vision.image_size
    if (h, w) == (size, size):
        return images
    if cfg.resize == "pad" and h != w:
        above, before = (max(h, w) - h) // 2, (max(h, w) - w) // 2
        sides = (above, max(h, w) - h - above), (before, max(h, w) - w - before)
        images = jnp.pad(images, ((0, 0), *sides, (0, 0)), constant_values=1.0)
    new_h = new_w = size
    if cfg.resize == "center_crop":
        new_h, new_w = (side * size // min(h, w) for side in (h, w))  # rounds down, as HF does
    images = jax.image.resize(images, (n, new_h, new_w, 3), "cubic")
    top, left = (new_h - size) // 2, (new_w - size) // 2
    return images[:, top : top + size, left : left + size]


def preprocess(images: Float[Array, "n h w 3"], cfg: ClipConfig) -> Float[Array, "n s s 3"]:
    """Resizes images in [-1, 1] to the tower's size and normalizes them to its statistics."""
    images = fit_images(images, cfg)
    mean = jnp.array(cfg.image_mean, jnp.float32)[None, None, None]
    std = jnp.array(cfg.image_std, jnp.float32)[None, None, None]
    return ((images.astype(jnp.float32) + 1) / 2 - mean) / std


def clip_loss(
    image_emb: Float[Array, "n d"], text_emb: Float[Array, "n d"], logit_scale: Float[Array, ""]
) -> Float[Array, ""]:
    """The symmetric contrastive loss over the whole batch (Radford et al. 2021, §2.3, fig. 3).

        logits = exp(s) I T^T, unit rows;  loss = (CE(logits) + CE(logits^T)) / 2, targets 0..n-1

    s is not clamped here: `clamp_logit_scale` keeps exp(s) at most 100 after each update, and a
    clamp in the loss would have no gradient where SAM has moved s beyond it.
    """
    image_emb, text_emb = unit(image_emb), unit(text_emb)
    logits = jnp.exp(logit_scale) * (image_emb @ text_emb.T)
    # The trace is a masked sum, which stays where the rows lie; a diagonal is gathered.
    rows = jnp.trace(jax.nn.log_softmax(logits, axis=1))
    columns = jnp.trace(jax.nn.log_softmax(logits, axis=0))
    return -(rows + columns) / (2 * logits.shape[0])


def clamp_logit_scale(params: Params) -> Params:
    """Returns CLIP's params with logit_scale clamped to [0, ln 100]; for use after each update."""
    return {**params, "logit_scale": jnp.clip(params["logit_scale"], 0.0, MAX_LOGIT_SCALE)}


def text_features(
    module: Clip,
    params: Params,
    tokens: Int[Array, "n ctx"],
    mask: Bool[Array, "n ctx"],
    prior_tokens: Int[Array, "n ctx2"] | None = None,
) -> TextFeatures:
    """Encodes captions into all the text features that a stage may be conditioned on.

    Args:
        mask: True on tokens, False on padding.
        prior_tokens: ids for stages that train their own text transformer.
    """
    encoding = module.apply({"params": params}, tokens, method="encode_text")
    return TextFeatures(
        text_emb=encoding.text_emb,
        text_states=encoding.text_states,
        text_mask=mask,
        clip_tokens=tokens,
        tokens=prior_tokens,
    )


def _stack_config(cfg: ClipConfig, tower: VisionConfig | TextConfig) -> TransformerConfig:
    return TransformerConfig(
        width=tower.width,
        layers=tower.layers,
        heads=tower.heads,
        mlp_ratio=tower.mlp_ratio,
        activation=cfg.activation,
        dropout=tower.dropout,
        scan_layers=cfg.scan_layers,
        remat=cfg.remat,
    )


def _projection(features: int, std: float, dtype: DTypeLike) -> Any:
    names, init = ("embed", "cond"), normal(std)
    return dense(features, names, name="proj", dtype=dtype, init=init, use_bias=False)
