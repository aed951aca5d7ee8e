"""Types shared by several folders: encoded captions, conditioning, parameters.

Fields are typed `Any` on purpose. JAX rebuilds a struct with whatever a tree map returns (shapes,
shardings, vmap axes, None), so an array type on a field would reject valid trees. The shapes are in
the docstrings, and functions check the arrays they take out.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool

from unclip_jax.core.ready import portable

Params = Mapping[str, Any]
"""Plain nested dict of arrays, without partitioning boxes: {"block_0": {"kernel": array}}."""

Size = Any
"""A dimension's size: an int, or a symbol in a program exported with a symbolic batch size."""


@portable
@struct.dataclass
class TextFeatures:
    """A batch of encoded captions; fields that the consumer does not use are None.

    Attributes:
        text_emb (float [n, d]): the CLIP text embedding z_t, as the tower gives it, not
            normalized.
        text_states (float [n, ctx, w]): the last-layer states of the CLIP text tower.
        text_mask (bool [n, ctx]): True where clip_tokens holds a token rather than padding.
        clip_tokens (int32 [n, ctx]): token ids of the CLIP text tower.
        tokens (int32 [n, ctx2]): token ids of a stage's own text transformer.
    """

    text_emb: Any = None
    text_states: Any = None
    text_mask: Any = None
    clip_tokens: Any = None
    tokens: Any = None


@portable
@struct.dataclass
class Cond:
    """Conditioning of a diffusion network; None means not given.

    Attributes:
        image_emb (float [n, d]): raw CLIP image embeddings z_i; None is the null embedding for all.
        image_keep (bool [n]): False replaces that z_i by the null embedding; None = all True.
        negative_emb (float [n, d]): raw z_i of guidance's unconditional half, which it moves away
            from; None = the null embedding. The networks themselves do not read it.
        text (TextFeatures): n captions; a dropped caption is the encoded empty one (`where_text`).
        low_res (float [n, h, w, 3]): images in [-1, 1] at the size that an upsampler takes.
        image_tokens (int32 [n, k]): codes of a discrete VAE, row by row.
    """

    image_emb: Any = None
    image_keep: Any = None
    negative_emb: Any = None
    text: TextFeatures | None = None
    low_res: Any = None
    image_tokens: Any = None


def where_text(keep: Bool[Array, " n"], text: TextFeatures, empty: TextFeatures) -> TextFeatures:
    """Replaces captions by the empty caption where `keep` is False.

    Args:
        empty: the encoded empty caption, for one example or for n; with the same None fields as
            `text`.
    """

    def select(given: Array, null: Array) -> Array:
        mask = keep.reshape(keep.shape + (1,) * (given.ndim - 1))
        return jnp.where(mask, given, jnp.broadcast_to(null, given.shape).astype(given.dtype))

    return jax.tree.map(select, text, empty)
