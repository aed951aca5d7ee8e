"""The autoregressive prior: a causal transformer that writes z_i code by code (unCLIP §2.2).

The paper leaves open how the caption reaches the transformer, whose context of 384 has no room for
256 text states before 319 codes. Our choices:

- The trunk reads [dot, z_t, BOS, c_1, …, c_(k-1)] and predicts c_1, …, c_k from BOS on. `dot` is
  the quantized cosine of z_i and z_t; the loss is on the codes alone.
- The caption enters by cross-attention in every block, from a bidirectional text encoder over its
  own tokens (the paper's context of 256) or over the states of the frozen CLIP tower. Padded
  positions are hidden.
- One vocabulary of codes and one output layer for all positions; positions have their own vectors.
- Dropped text is the encoded empty caption with its own z_t, as in the diffusion prior; the dot
  token is never dropped. Guidance mixes logits: l_u + s (l_c - l_u).

A stage's usual inputs (x_t, t, cond) are here (codes, dot, cond).
"""

import dataclasses
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from unclip_jax.core.checks import ANY, COUNT, NOT_NEGATIVE, check_ranges
from unclip_jax.core.renamed import renamed
from unclip_jax.core.types import Cond, TextFeatures
from unclip_jax.models.config import ModelConfig, dummy_text, unset, zero_is_none
from unclip_jax.models.embedding_norm import TextEmbInput, text_emb_input
from unclip_jax.models.pca_codec import PARAMS, CodecConfig, codec_params
from unclip_jax.nn.attention import key_mask
from unclip_jax.nn.causal import CausalStack, CrossInputs, empty_caches
from unclip_jax.nn.embeddings import PositionEmbedding, TokenEmbedding
from unclip_jax.nn.layers import LayerNorm, axes, constrain, dense, normal
from unclip_jax.nn.transformer import Transformer, TransformerConfig
from unclip_jax.text.context import until_eot

PREFIX = 3
"""Positions before the codes: dot, z_t, BOS."""


@dataclasses.dataclass(frozen=True)
class PriorArConfig(ModelConfig):
    """Sizes of the prior; those that are None are taken from the CLIP.

    Attributes:
        trunk: the causal transformer over codes.
        codec: how z_i is written in codes.
        encoder: the text encoder; None reads the frozen CLIP states as they are.
        image_dim: width of CLIP's joint space.
        text: "tokens" reads TextFeatures.tokens, "clip_states" reads TextFeatures.text_states.
        text_dim: width of the frozen CLIP text states ("clip_states").
        vocab_size: of the token embedding ("tokens").
        context: text positions.
        text_emb_input: how z_t enters, raw or scaled to unit variance.
        positions: of the trunk; at least the codes and two more.
    """

    trunk: TransformerConfig = renamed("decoder")
    codec: CodecConfig
    image_dim: int | None = None
    encoder: TransformerConfig | None = None
    text: Literal["clip_states", "tokens"] = "tokens"
    text_dim: int | None = None
    vocab_size: int | None = None
    context: int | None = None
    text_emb_input: TextEmbInput = "unit"
    positions: int = 384

    reads_text = True
    required_cond = ("text",)
    fitted_names = frozenset(PARAMS)

    def __post_init__(self):
        """Checks sizes, that the caption path is described, and that the codes have room."""
        sizes = ("image_dim", "text_dim", "vocab_size", "context")
        zero_is_none(self, *sizes)
        check_ranges(self, **dict.fromkeys(sizes, COUNT), positions=COUNT)
        if self.text == "tokens" and self.encoder is None:
            raise ValueError('text="tokens" needs an encoder')
        needed = self.codec.components + PREFIX - 1
        if self.positions < needed:
            raise ValueError(
                f"positions={self.positions} must be at least {needed}, for codes and prefix"
            )
        kept = self.codec.components
        if self.image_dim is not None and kept > self.image_dim:
            raise ValueError(f"codec.components={kept} exceeds image_dim={self.image_dim}")

    @property
    def open_fields(self) -> tuple[str, ...]:
        """Sizes that the chosen caption path needs and that are not set."""
        text = "text_dim" if self.reads_clip_states else "vocab_size"
        return unset(self, "image_dim", text, "context")

    @property
    def reads_clip_states(self) -> bool:
        """Whether the caption comes as states of the frozen CLIP's text tower."""
        return self.text == "clip_states"

    @property
    def own_context(self) -> int | None:
        """Positions of the caption that the encoder embeds itself."""
        return self.context if self.text == "tokens" else None

    @property
    def clip_context(self) -> int:
        """Text positions."""
        return self.context

    @property
    def embedding_codec(self) -> CodecConfig:
        """The codec of z_i."""
        return self.codec

    @property
    def num_codes(self) -> int:
        """Codes of one z_i."""
        return self.codec.components

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of z_i."""
        return (self.image_dim,)

    def dummy_inputs(self, batch: int = 1) -> tuple[Array, Array, Cond]:
        """Returns (codes, dot, cond)."""
        width = self.text_dim if self.reads_clip_states else None
        text = dummy_text(batch, self.image_dim, self.context, width, self.own_context)
        codes = jnp.zeros((batch, self.codec.components), jnp.int32)
        return codes, jnp.zeros((batch,), jnp.int32), Cond(text=text)


@dataclasses.dataclass(frozen=True)
class CodeSampling:
    """Sampling settings of the codes.

    Attributes:
        guidance: classifier-free guidance scale on the logits; 1 is off.
        temperature: divides the logits; 0 takes the likeliest code.
        top_p: codes are drawn from the likeliest that together have this probability; 1 is all.
        dot_percentile: the dot token is drawn above this percentile of the training pairs'.
        num_candidates: embeddings drawn per example, of which the one nearest to z_t is kept.
    """

    guidance: float = 1.0
    temperature: float = 1.0
    top_p: float = 1.0
    dot_percentile: float = 50.0
    num_candidates: int = renamed("draws", default=1)

    def __post_init__(self):
        """Refuses numbers out of range."""
        check_ranges(
            self,
            guidance=ANY,
            temperature=NOT_NEGATIVE,
            top_p=(5e-324, 1.0),
            dot_percentile=(0.0, 100.0),
            num_candidates=COUNT,
        )


class PriorAr(nn.Module):
    """The network; the codec is among its parameters but is never trained."""

    cfg: PriorArConfig
    dtype: DTypeLike = jnp.float32

    def setup(self):
        """Declares the text encoder, the trunk, their embeddings and the output layer."""
        cfg, dtype, width = self.cfg, self.dtype, self.cfg.trunk.width
        codec_params(self, cfg.codec, cfg.image_dim)
        self.caption = CaptionEncoder(cfg, dtype)
        self.code_embed = TokenEmbedding(cfg.codec.buckets, width, dtype=dtype)
        self.dot_embed = TokenEmbedding(cfg.codec.dot_buckets, width, dtype=dtype)
        names = ("cond", "embed")
        self.text_emb_proj = dense(width, names, name="text_emb_proj", dtype=dtype)
        self.bos = self.param("bos", axes(normal(0.02), "embed"), (width,), jnp.float32)
        init = axes(normal(0.01), "position", "embed")
        self.pos_embed = self.param("pos_embed", init, (cfg.positions, width), jnp.float32)
        self.trunk = CausalStack(cfg.trunk, dtype, name="decoder")
        # The head is float32 whatever the dtype.
        self.ln_final = LayerNorm(jnp.float32)
        self.head = dense(cfg.codec.buckets, ("embed", "vocab"), name="head", dtype=jnp.float32)

    def __call__(
        self, codes: Int[Array, "n k"], dot: Int[Array, " n"], cond: Cond, train: bool = False
    ) -> Float[Array, "n k buckets"]:
        """Returns the logits of every code given those before it, float32."""
        if codes.shape[1] != self.cfg.codec.components:
            raise ValueError(f"{codes.shape[1]} codes for a prior of {self.cfg.codec.components}")
        x = jnp.concatenate([self._prefix(dot, cond), self.code_embed(codes[:, :-1])], axis=1)
        x = x + self.pos_embed[None, : x.shape[1]].astype(x.dtype)
        x, _ = self.trunk(x, CrossInputs(*self.caption(cond.text, train)), train=train)
        return self._logits(x[:, PREFIX - 1 :])

    def begin(self, dot: Int[Array, " n"], cond: Cond) -> tuple[Float[Array, "n buckets"], Any]:
        """Reads the prefix; returns the logits of the first code and the state to go on from."""
        rows, positions = dot.shape[0], self.cfg.codec.components + PREFIX - 1
        caches = empty_caches(self.cfg.trunk, rows, positions, self.dtype)
        context, visible = self.caption(cond.text, False)
        x = self._prefix(dot, cond)
        x = x + self.pos_embed[None, :PREFIX].astype(x.dtype)
        x, caches = self.trunk(x, CrossInputs(context, visible, jnp.int32(0)), caches)
        return self._logits(x[:, -1:])[:, 0], (caches, visible)

    def step(
        self, code: Int[Array, " n"], number: Int[Array, ""], state: Any
    ) -> tuple[Float[Array, "n buckets"], Any]:
        """Reads code c_number (from 1 on); returns the logits of the next and the new state."""
        caches, visible = state
        index = number + PREFIX - 1
        x = self.code_embed(code[:, None])
        x = x + jnp.take(self.pos_embed, index, axis=0)[None, None].astype(x.dtype)
        x, caches = self.trunk(x, CrossInputs(None, visible, index), caches)
        return self._logits(x)[:, 0], (caches, visible)

    def _prefix(self, dot: Int[Array, " n"], cond: Cond) -> Float[Array, "n 3 w"]:
        if cond.text is None:
            raise ValueError("cond.text is None; pass the encoded empty caption to drop it")
        text_emb = text_emb_input(cond.text.text_emb, self.cfg.text_emb_input)
        first = self.dot_embed(dot[:, None])
        second = self.text_emb_proj(text_emb)[:, None]
        bos = jnp.broadcast_to(self.bos.astype(first.dtype)[None, None], first.shape)
        return jnp.concatenate([first, second, bos], axis=1)

    def _logits(self, x: Float[Array, "n m w"]) -> Float[Array, "n m buckets"]:
        return constrain(self.head(self.ln_final(x)), "batch", None, "vocab")


class CaptionEncoder(nn.Module):
    """Encodes the caption for the trunk's cross-attention."""

    cfg: PriorArConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, text: TextFeatures, train: bool
    ) -> tuple[Float[Array, "n ctx w"], Bool[Array, "n ctx"]]:
        """Encodes tokens or CLIP states bidirectionally, with padding hidden."""
        cfg, dtype, stack = self.cfg, self.dtype, self.cfg.encoder
        if cfg.text == "tokens":
            table = TokenEmbedding(cfg.vocab_size, stack.width, dtype=dtype, name="token_embed")
            x, visible = table(text.tokens), until_eot(text.tokens)
        else:
            x, visible = text.text_states, text.text_mask
            if stack is not None:
                x = dense(stack.width, ("cond", "embed"), name="states_proj", dtype=dtype)(x)
        if x.shape[1] != cfg.context:
            raise ValueError(f"{x.shape[1]} text positions for a prior with context={cfg.context}")
        if stack is None:
            return x, visible
        x = PositionEmbedding(name="pos_embed")(x)
        blocks = Transformer(stack, dtype, name="transformer")
        x = blocks(x, mask=key_mask(visible), train=train)
        return LayerNorm(dtype, name="ln_final")(x), visible
