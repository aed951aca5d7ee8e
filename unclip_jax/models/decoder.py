"""The decoder: a U-Net at 64 pixels conditioned on a CLIP image embedding and a caption.

The image embedding z_i takes two paths (unCLIP §2.1): it is projected and added to the timestep
embedding, and projected into extra context tokens. The caption takes one of two:

    transformer: the stage's own text encoder (GLIDE): its last state joins the timestep embedding,
                 all states are context. The paper's decoder.
    clip_states: states of the frozen CLIP text tower, projected and normed, are context, and z_t
                 joins the timestep embedding. Karlo's decoder.

The context is [image tokens, text tokens]. A dropped z_i is a learned vector or zeros, in the
normalized space; a dropped caption is the encoded empty one, which the caller passes.

Sampling reads all of that once (`Decoder.read_prefix`); a step runs the U-Net alone.
"""

import dataclasses
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, Num

from unclip_jax.core.checks import COUNT, check_ranges
from unclip_jax.core.types import Cond, Size, TextFeatures
from unclip_jax.models.config import ModelConfig, dummy_images, dummy_text, unset, zero_is_none
from unclip_jax.models.embedding_norm import (
    EmbeddingNorm,
    TextEmbInput,
    normalize,
    stats_params,
    text_emb_input,
)
from unclip_jax.models.unet import UNet, UNetConfig
from unclip_jax.nn.attention import PREFIX
from unclip_jax.nn.embeddings import PositionEmbedding, TokenEmbedding
from unclip_jax.nn.layers import LayerNorm, axes, dense, normal
from unclip_jax.nn.transformer import Transformer, TransformerConfig
from unclip_jax.text.context import until_eot

CONDITIONING = ("emb", "context", "context_mask")
"""Arguments of the U-Net that no step changes, by their names in the collection PREFIX."""


@dataclasses.dataclass(frozen=True)
class TextEncoderConfig:
    """Sizes of the decoder's own text encoder.

    Attributes:
        vocab_size: tokens of the vocabulary; None: the CLIP's.
        context: positions, start and end of text included; None: the CLIP's.
        transformer: the stack of blocks.
    """

    vocab_size: int | None
    context: int | None
    transformer: TransformerConfig

    def __post_init__(self):
        """Checks the sizes."""
        zero_is_none(self, "vocab_size", "context")
        check_ranges(self, vocab_size=COUNT, context=COUNT)


@dataclasses.dataclass(frozen=True)
class DecoderConfig(ModelConfig):
    """Sizes of the conditioned U-Net; those that are None are taken from the CLIP.

    Attributes:
        unet: the network that is conditioned.
        image_dim: width of CLIP's joint space, of z_i and z_t alike.
        text: the caption path; "none" conditions on z_i alone.
        text_dim: width of the frozen CLIP text states ("clip_states").
        text_context: positions of the frozen CLIP text states.
        text_emb_input: how z_t enters, raw (Karlo) or scaled to unit variance.
        text_encoder: sizes of the own text encoder ("transformer").
        context_dim: width of the context tokens; the text encoder's own width if it has one.
        image_tokens: context tokens made of z_i.
        null_image: the embedding that replaces a dropped z_i.
        mask_text: hides padded text positions from attention (Karlo does, GLIDE does not).
    """

    unet: UNetConfig
    context_dim: int
    image_dim: int | None = None
    text: Literal["none", "clip_states", "transformer"] = "clip_states"
    text_dim: int | None = None
    text_context: int | None = None
    text_emb_input: TextEmbInput = "raw"
    text_encoder: TextEncoderConfig | None = None
    image_tokens: int = 4
    null_image: Literal["learned", "zeros"] = "zeros"
    mask_text: bool = False

    def __post_init__(self):
        """Checks the sizes, and that the chosen caption path is described."""
        sizes = ("image_dim", "text_dim", "text_context")
        zero_is_none(self, *sizes)
        check_ranges(self, **dict.fromkeys((*sizes, "context_dim", "image_tokens"), COUNT))
        if self.text == "transformer":
            if self.text_encoder is None:
                raise ValueError('text="transformer" needs text_encoder')
            width = self.text_encoder.transformer.width
            if width != self.context_dim:
                raise ValueError(f"context_dim={self.context_dim} must be the encoder's {width=}")

    @property
    def open_fields(self) -> tuple[str, ...]:
        """Sizes that the chosen caption path needs and that are not set."""
        if self.reads_clip_states:
            return unset(self, "image_dim", "text_dim", "text_context")
        encoder = self.text_encoder if self.text == "transformer" else None
        own = () if encoder is None else unset(encoder, "vocab_size", "context")
        return unset(self, "image_dim") + tuple(f"text_encoder.{name}" for name in own)

    @property
    def reads_text(self) -> bool:
        """Whether there is a caption path."""
        return self.text != "none"

    @property
    def reads_clip_states(self) -> bool:
        """Whether the caption comes as states of the frozen CLIP's text tower."""
        return self.text == "clip_states"

    @property
    def reads_tokens_alone(self) -> bool:
        """Whether the caption comes as token ids; z_i, which may be absent, is not counted."""
        return self.text == "transformer"

    @property
    def own_context(self) -> int | None:
        """Positions of the own text encoder, if that is the caption path."""
        return self.text_encoder.context if self.text == "transformer" else None

    @property
    def clip_context(self) -> int | None:
        """Positions of the frozen CLIP text states; None where the config leaves them open."""
        return self.text_context

    @property
    def required_cond(self) -> tuple[str, ...]:
        """z_i or, where there is a caption path, the caption."""
        return ("image_emb", "text") if self.reads_text else ("image_emb",)

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
        width = self.text_dim if self.reads_clip_states else None
        text = dummy_text(batch, self.image_dim, self.text_context, width, self.own_context)
        cond = Cond(
            image_emb=jnp.zeros((batch, self.image_dim)),
            image_keep=jnp.ones((batch,), bool),
            text=text if self.reads_text else None,
        )
        return dummy_images(batch, self.unet.image_size), jnp.zeros((batch,), jnp.int32), cond


class TextEncoder(nn.Module):
    """GLIDE's text encoder: bidirectional, with a learned vector for each padded position."""

    cfg: TextEncoderConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "b n"], visible: Bool[Array, "b n"], train: bool
    ) -> Float[Array, "b n d"]:
        """Returns the normed states of all positions; padding is replaced, not masked."""
        cfg, dtype = self.cfg, self.dtype
        width = cfg.transformer.width
        if tokens.shape[1] != cfg.context:
            raise ValueError(f"{tokens.shape[1]} tokens for an encoder with context={cfg.context}")
        x = TokenEmbedding(cfg.vocab_size, width, dtype=dtype, name="token_embed")(tokens)
        x = PositionEmbedding(name="pos_embed")(x)
        init = axes(normal(0.01), "position", "embed")
        pad = self.param("pad_embed", init, (cfg.context, width), jnp.float32).astype(dtype)
        x = jnp.where(visible[..., None], x, pad[None])
        x = Transformer(cfg.transformer, dtype, name="transformer")(x, train=train)
        return LayerNorm(dtype, name="ln_final")(x)


class Decoder(nn.Module):
    """The U-Net and its conditioning."""

    cfg: DecoderConfig
    norm: EmbeddingNorm = EmbeddingNorm()
    dtype: DTypeLike = jnp.float32

    def __call__(
        self,
        x_t: Float[Array, "n h w c"],
        t: Num[Array, " n"],
        cond: Cond,
        train: bool = False,
    ) -> Float[Array, "n h w c2"]:
        """Returns the raw network output, float32: noise estimate and variance channels."""
        return self._read(cond, (x_t, t), train=train)

    def read_prefix(self, cond: Cond) -> None:
        """Keeps what z_i and the caption give to every step, in the collection PREFIX."""
        self._read(cond)

    def after_prefix(
        self, x_t: Float[Array, "n h w c"], t: Num[Array, " n"], cond: Cond
    ) -> Float[Array, "n h w c2"]:
        """Returns `__call__`'s output from the collection that `read_prefix` filled."""
        return self._read(cond, (x_t, t), follows_prefix=True)

    @nn.compact
    def _read(
        self,
        cond: Cond,
        stepped: tuple[Array, Array] | None = None,
        *,
        train: bool = False,
        follows_prefix: bool = False,
    ) -> Float[Array, "n h w c2"] | None:
        """Reads the condition, or takes it as it was read; runs the U-Net on `stepped`."""
        if follows_prefix:
            read = {name: self.get_variable(PREFIX, name) for name in CONDITIONING}
        else:
            n = jax.tree.leaves(cond if stepped is None else stepped)[0].shape[0]
            read = self._conditioning(cond, n, train)
        if stepped is None:
            for name, value in read.items():
                if value is not None:
                    self.put_variable(PREFIX, name, value)
            return None
        return UNet(self.cfg.unet, self.dtype, name="unet")(*stepped, **read, train=train)

    def _conditioning(self, cond: Cond, n: Size, train: bool) -> dict[str, Array | None]:
        """Returns the U-Net's arguments of a condition of n examples, CONDITIONING."""
        cfg = self.cfg
        z = self._image_emb(cond, n)
        emb = self._dense(cfg.unet.emb_width, "time", "image_time_proj")(z)
        context, masks = [], []
        if cfg.unet.has_attention and cfg.image_tokens:
            tokens = self._dense(cfg.image_tokens * cfg.context_dim, "cond", "image_token_proj")(z)
            # Token j, channel c is output c * image_tokens + j: Karlo's layout.
            tokens = tokens.reshape(-1, cfg.context_dim, cfg.image_tokens).swapaxes(1, 2)
            context.append(tokens)
            masks.append(jnp.ones(tokens.shape[:2], bool))
        if cfg.text != "none":
            if cond.text is None:
                raise ValueError("cond.text is None; pass the encoded empty caption to drop it")
            states, visible, text_emb = self._text(cond.text, train)
            emb = emb + text_emb
            if states is not None:
                context.append(states)
                masks.append(visible)
        return {
            "emb": emb,
            "context": jnp.concatenate(context, 1) if context else None,
            "context_mask": jnp.concatenate(masks, 1) if masks and cfg.mask_text else None,
        }

    def _image_emb(self, cond: Cond, n: Size) -> Float[Array, "n d"]:
        cfg, width = self.cfg, self.cfg.image_dim
        stats = stats_params(self, self.norm, width)
        null = jnp.zeros((width,), jnp.float32)
        if cfg.null_image == "learned":
            null = self.param("null_image_emb", axes(normal(0.02), "cond"), (width,), jnp.float32)
        null = jnp.broadcast_to(null[None], (n, width)).astype(jnp.float32)
        if cond.image_emb is None:
            return null
        z = normalize(cond.image_emb, self.norm, stats)
        return z if cond.image_keep is None else jnp.where(cond.image_keep[:, None], z, null)

    def _text(self, text: TextFeatures, train: bool) -> tuple[Array | None, Array, Array]:
        """Returns context tokens (None without attention), their visibility, a time embedding."""
        cfg, dtype = self.cfg, self.dtype
        to_time = self._dense(cfg.unet.emb_width, "time", "text_time_proj")
        if cfg.text == "transformer":
            visible = until_eot(text.tokens)
            encoder = TextEncoder(cfg.text_encoder, dtype, name="text_encoder")
            states = encoder(text.tokens, visible, train)
            return states, visible, to_time(states[:, -1])
        emb = to_time(text_emb_input(text.text_emb, cfg.text_emb_input))
        if not cfg.unet.has_attention:
            return None, text.text_mask, emb
        states = self._dense(cfg.context_dim, "embed", "text_states_proj")(text.text_states)
        return LayerNorm(dtype, name="text_states_norm")(states), text.text_mask, emb

    def _dense(self, features: int, out: str, name: str) -> nn.Dense:
        names = ("embed" if out == "cond" else "cond", out)
        return dense(features, names, name=name, dtype=self.dtype)
