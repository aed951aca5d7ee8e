"""DALL·E: one causal transformer over a caption's tokens and then an image's (Ramesh et al. 2021).

The trunk reads [text_0, …, text_(n-1), image_0, …, image_(k-2)] and predicts the token after each
position: the caption's next, then the image's k tokens from the caption's last position on. The
tokens of the image are a discrete VAE's, row by row (§2.2, appendix B).

- A caption starts with the start token. Positions after its end have a learned vector each (B.1).
- Positions of the image have the sum of a vector of their row and one of their column.
- Text and image have an output layer each, which is the one layer of the paper with the tokens of
  the other kind masked out.
- Attention is over all positions before; the paper's sparse patterns change no parameter.
- Dropped text is the empty caption, and guidance mixes logits, l_u + s (l_c - l_u): ours, the
  paper has neither.

A stage's usual inputs (x_t, t, cond) are here (image tokens, t, cond), of which t is not read.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from unclip_jax.core.checks import COUNT, check_ranges
from unclip_jax.core.types import Cond, TextFeatures
from unclip_jax.models.config import ModelConfig, unset, zero_is_none
from unclip_jax.models.dvae import DvaeConfig
from unclip_jax.nn.causal import CausalStack, CrossInputs, empty_caches
from unclip_jax.nn.embeddings import TokenEmbedding
from unclip_jax.nn.layers import LayerNorm, axes, constrain, dense, normal
from unclip_jax.nn.transformer import TransformerConfig
from unclip_jax.text.context import until_eot


@dataclasses.dataclass(frozen=True)
class DalleConfig(ModelConfig):
    """Sizes of the transformer; those that are None are taken from the CLIP's tokenizer.

    Attributes:
        trunk: the causal transformer.
        dvae: the discrete VAE whose tokens it writes, which is trained before.
        vocab_size: tokens of the vocabulary of captions.
        context: positions of a caption, start and end of text included.
    """

    trunk: TransformerConfig
    dvae: DvaeConfig
    vocab_size: int | None = None
    context: int | None = None

    init_method = "all_logits"
    reads_text = True
    reads_tokens_alone = True
    required_cond = ("text",)

    def __post_init__(self):
        """Checks the sizes."""
        zero_is_none(self, "vocab_size", "context")
        check_ranges(self, vocab_size=COUNT, context=COUNT)
        if self.context is not None and self.context < 2:
            raise ValueError(f"context={self.context} must be at least 2, for start and end")

    @property
    def open_fields(self) -> tuple[str, ...]:
        """Sizes of the captions that are not set."""
        return unset(self, "vocab_size", "context")

    @property
    def own_context(self) -> int | None:
        """Positions of a caption."""
        return self.context

    @property
    def clip_context(self) -> int | None:
        """Positions of a caption, as no CLIP reads it."""
        return self.context

    @property
    def frozen(self) -> DvaeConfig:
        """The discrete VAE."""
        return self.dvae

    @property
    def num_codes(self) -> int:
        """Tokens of one image."""
        return self.dvae.grid**2

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one image's tokens."""
        return (self.num_codes,)

    def dummy_inputs(self, batch: int = 1) -> tuple[Array, Array, Cond]:
        """Returns (image tokens, t, cond)."""
        text = TextFeatures(tokens=jnp.zeros((batch, self.context), jnp.int32))
        tokens = jnp.zeros((batch, self.num_codes), jnp.int32)
        return tokens, jnp.zeros((batch,), jnp.int32), Cond(text=text)


class Dalle(nn.Module):
    """The network."""

    cfg: DalleConfig
    dtype: DTypeLike = jnp.float32

    def setup(self):
        """Declares the tables, the trunk and the two output layers."""
        cfg, dtype, width = self.cfg, self.dtype, self.cfg.trunk.width
        self.text_embed = TokenEmbedding(cfg.vocab_size, width, dtype=dtype)
        self.image_embed = TokenEmbedding(cfg.dvae.codes, width, dtype=dtype)
        positions = axes(normal(0.01), "position", "embed")
        shapes = {"text_pos": cfg.context, "pad": cfg.context}
        shapes |= {"row_pos": cfg.dvae.grid, "column_pos": cfg.dvae.grid}
        for name, count in shapes.items():
            value = self.param(f"{name}_embed", positions, (count, width), jnp.float32)
            setattr(self, f"{name}_embed", value)
        self.trunk = CausalStack(cfg.trunk, dtype)
        # The heads are float32 whatever the dtype.
        self.ln_final = LayerNorm(jnp.float32)
        head = {"names": ("embed", "vocab"), "dtype": jnp.float32}
        self.text_head = dense(cfg.vocab_size, name="text_head", **head)
        self.image_head = dense(cfg.dvae.codes, name="image_head", **head)

    def __call__(
        self, tokens: Int[Array, "n k"], t: Any, cond: Cond, train: bool = False
    ) -> Float[Array, "n k codes"]:
        """Returns the logits of every image token given caption and the tokens before, float32."""
        return self.all_logits(tokens, t, cond, train)[1]

    def all_logits(
        self, tokens: Int[Array, "n k"], t: Any, cond: Cond, train: bool = False
    ) -> tuple[Float[Array, "n m vocab"], Float[Array, "n k codes"]]:
        """Returns the logits of the caption's tokens from the second on, and of the image's."""
        cfg = self.cfg
        if tokens.shape[1] != cfg.num_codes:
            raise ValueError(f"{tokens.shape[1]} tokens for images of {cfg.num_codes}")
        image = self.image_embed(tokens) + self._image_positions()[None].astype(self.dtype)
        x = jnp.concatenate([self._caption(cond), image[:, :-1]], axis=1)
        x = self.ln_final(self.trunk(x, CrossInputs(), train=train)[0])
        last = cfg.context - 1
        text, image = self.text_head(x[:, :last]), self.image_head(x[:, last:])
        return constrain(text, "batch", None, "vocab"), constrain(image, "batch", None, "vocab")

    def begin(self, cond: Cond) -> tuple[Float[Array, "n codes"], Any]:
        """Reads the caption; returns the logits of the first image token, and the state."""
        x = self._caption(cond)
        positions = self.cfg.context + self.cfg.num_codes - 1
        caches = empty_caches(self.cfg.trunk, x.shape[0], positions, self.dtype)
        x, caches = self.trunk(x, CrossInputs(index=jnp.int32(0)), caches)
        return self.image_head(self.ln_final(x[:, -1])), caches

    def step(
        self, token: Int[Array, " n"], number: Int[Array, ""], state: Any
    ) -> tuple[Float[Array, "n codes"], Any]:
        """Reads image token `number` - 1; returns the logits of token `number`, and the state."""
        position = jnp.take(self._image_positions(), number - 1, axis=0)
        x = self.image_embed(token[:, None]) + position[None, None].astype(self.dtype)
        x, caches = self.trunk(x, CrossInputs(index=self.cfg.context + number - 1), state)
        return self.image_head(self.ln_final(x[:, 0])), caches

    def _caption(self, cond: Cond) -> Float[Array, "n ctx w"]:
        if cond.text is None or cond.text.tokens is None:
            raise ValueError("cond.text has no tokens; pass the empty caption to drop it")
        tokens, context = cond.text.tokens, self.cfg.context
        if tokens.shape[1] != context:
            raise ValueError(f"{tokens.shape[1]} caption tokens for a {context=}")
        pad = self.pad_embed[None].astype(self.dtype)
        x = jnp.where(until_eot(tokens)[..., None], self.text_embed(tokens), pad)
        return x + self.text_pos_embed[None].astype(self.dtype)

    def _image_positions(self) -> Float[Array, "k w"]:
        both = self.row_pos_embed[:, None] + self.column_pos_embed[None]
        return both.reshape(self.cfg.num_codes, -1)


def token_losses(
    logits: Float[Array, "n m vocab"], tokens: Int[Array, "n m"]
) -> Float[Array, "n m"]:
    """Returns -ln p of each token in nats."""
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[..., None], axis=-1)
    return -chosen[..., 0]
