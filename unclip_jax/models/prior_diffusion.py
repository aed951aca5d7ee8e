"""The diffusion prior: a causal transformer that predicts the clean image embedding (unCLIP §2.2).

The sequence is [caption, z_t, timestep, noised z_i, query]; the output at the query, projected, is
the estimate of z_i. x_t lives in the normalized space of `EmbeddingNorm`. The caption is either the
states of the frozen CLIP text tower (Karlo) or token embeddings trained here, read by the same
causal transformer (our reading of the paper's "encoded text" with its context of 256). z_t enters
raw, as Karlo's does, or scaled to unit variance.

Caption and z_t stand before everything that a sampling step changes, and see nothing of it. So
sampling reads them once: `PriorDiffusion.read_prefix` keeps their keys and values, and a step
computes the three positions after them.
"""

import dataclasses
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Num

from unclip_jax.core.checks import COUNT, check_ranges
from unclip_jax.core.types import Cond, TextFeatures
from unclip_jax.models.config import ModelConfig, dummy_text, unset, zero_is_none
from unclip_jax.models.embedding_norm import (
    EmbeddingNorm,
    TextEmbInput,
    stats_params,
    text_emb_input,
)
from unclip_jax.nn.attention import causal_mask, key_mask
from unclip_jax.nn.embeddings import PositionEmbedding, TimeEmbedding, TokenEmbedding
from unclip_jax.nn.layers import LayerNorm, axes, dense, normal
from unclip_jax.nn.transformer import Transformer, TransformerConfig
from unclip_jax.text.context import until_eot

EXTRA = 4
"""Positions after the caption: z_t, timestep, noised z_i, query."""
STEPPED = 3
"""Those of them that change from step to step: all but z_t."""


@dataclasses.dataclass(frozen=True)
class PriorDiffusionConfig(ModelConfig):
    """Sizes of the prior; those that are None are taken from the CLIP.

    Attributes:
        transformer: the causal transformer.
        image_dim: width of CLIP's joint space.
        text: "clip_states" reads TextFeatures.text_states, "tokens" reads TextFeatures.tokens.
        text_dim: width of the frozen CLIP text states ("clip_states").
        vocab_size: of the token embedding ("tokens").
        context: text positions.
        text_emb_input: how z_t enters, raw (Karlo) or scaled to unit variance.
        mask_text: hides padded text positions as keys (Karlo).
    """

    transformer: TransformerConfig
    image_dim: int | None = None
    text: Literal["clip_states", "tokens"] = "clip_states"
    text_dim: int | None = None
    vocab_size: int | None = None
    context: int | None = None
    text_emb_input: TextEmbInput = "raw"
    mask_text: bool = False

    reads_text = True
    required_cond = ("text",)

    def __post_init__(self):
        """Checks the sizes."""
        sizes = ("image_dim", "text_dim", "vocab_size", "context")
        zero_is_none(self, *sizes)
        check_ranges(self, **dict.fromkeys(sizes, COUNT))

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
        """Positions of the caption that this transformer embeds itself."""
        return self.context if self.text == "tokens" else None

    @property
    def clip_context(self) -> int:
        """Text positions."""
        return self.context

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of z_i."""
        return (self.image_dim,)

    def dummy_inputs(self, batch: int = 1) -> tuple[Array, Array, Cond]:
        """Returns (x_t, t, cond)."""
        width = self.text_dim if self.reads_clip_states else None
        text = dummy_text(batch, self.image_dim, self.context, width, self.own_context)
        return (
            jnp.zeros((batch, self.image_dim)),
            jnp.zeros((batch,), jnp.int32),
            Cond(text=text),
        )


class PriorDiffusion(nn.Module):
    """The prior's network; with "standardize" the statistics of z_i are among its parameters."""

    cfg: PriorDiffusionConfig
    norm: EmbeddingNorm = EmbeddingNorm()
    dtype: DTypeLike = jnp.float32

    def __call__(
        self, x_t: Float[Array, "n d"], t: Num[Array, " n"], cond: Cond, train: bool = False
    ) -> Float[Array, "n d"]:
        """Predicts the clean embedding, in the space of x_t, float32."""
        return self._read(cond, (x_t, t), train=train)

    def read_prefix(self, cond: Cond) -> None:
        """Keeps what caption and z_t give to the positions after them, in the collection PREFIX."""
        self._read(cond)

    def after_prefix(
        self, x_t: Float[Array, "n d"], t: Num[Array, " n"], cond: Cond
    ) -> Float[Array, "n d"]:
        """Returns `__call__`'s prediction from the collection that `read_prefix` filled."""
        return self._read(cond, (x_t, t), follows_prefix=True)

    @nn.compact
    def _read(
        self,
        cond: Cond,
        stepped: tuple[Array, Array] | None = None,
        *,
        train: bool = False,
        follows_prefix: bool = False,
    ) -> Float[Array, "n d"] | None:
        """Runs the network over the whole sequence, its prefix alone, or what follows that."""
        cfg = self.cfg
        if cond.text is None:
            raise ValueError("cond.text is None; pass the encoded empty caption to drop it")
        stats_params(self, self.norm, cfg.image_dim)
        parts = [] if follows_prefix else self._prefix(cond.text)
        if stepped is not None:
            parts = [*parts, *self._stepped(*stepped)]
        length = cfg.context + EXTRA
        first = length - STEPPED if follows_prefix else 0
        x = PositionEmbedding(length=length, name="pos_embed")(jnp.concatenate(parts, 1), first)
        mask = self._mask(cond.text)[..., first : first + x.shape[1], : first + x.shape[1]]
        x = Transformer(cfg.transformer, self.dtype, name="transformer")(x, mask=mask, train=train)
        if stepped is None:
            return None
        # The head is float32 whatever the dtype.
        x = LayerNorm(jnp.float32, name="ln_final")(x[:, -1])
        return dense(cfg.image_dim, ("embed", "cond"), name="out_proj", dtype=jnp.float32)(x)

    def _prefix(self, text: TextFeatures) -> list[Float[Array, "n _ w"]]:
        """Returns the caption's positions and that of z_t."""
        cfg, dtype, width = self.cfg, self.dtype, self.cfg.transformer.width
        if cfg.text == "clip_states":
            states = dense(width, ("cond", "embed"), name="text_states_proj", dtype=dtype)(
                text.text_states
            )
        else:
            table = TokenEmbedding(cfg.vocab_size, width, dtype=dtype, name="token_embed")
            states = table(text.tokens)
        if states.shape[1] != cfg.context:
            raise ValueError(
                f"{states.shape[1]} text positions for a prior with context={cfg.context}"
            )
        text_emb = text_emb_input(text.text_emb, cfg.text_emb_input)
        proj = dense(width, ("cond", "embed"), name="text_emb_proj", dtype=dtype)
        return [states, proj(text_emb)[:, None]]

    def _stepped(self, x_t: Array, t: Array) -> list[Float[Array, "n 1 w"]]:
        """Returns the positions of the timestep, the noised z_i and the query."""
        dtype, width = self.dtype, self.cfg.transformer.width
        query = self.param("query", axes(normal(0.02), "embed"), (width,), jnp.float32)
        tail = (
            TimeEmbedding(width, width, name="time_embed")(t).astype(dtype),
            dense(width, ("cond", "embed"), name="image_emb_proj", dtype=dtype)(x_t),
            jnp.broadcast_to(query.astype(dtype)[None], (x_t.shape[0], width)),
        )
        return [row[:, None] for row in tail]

    def _mask(self, text: TextFeatures) -> Bool[Array, "#n 1 all all"]:
        """Returns what every position of the whole sequence sees."""
        mask = causal_mask(self.cfg.context + EXTRA)
        if not self.cfg.mask_text:
            return mask
        visible = until_eot(text.tokens) if self.cfg.text == "tokens" else text.text_mask
        visible = jnp.pad(visible, ((0, 0), (0, EXTRA)), constant_values=True)
        return mask & key_mask(visible)
