"""What is fitted to the embeddings before the first step, and stays: statistics, codec.

Both are parameters that the optimiser leaves alone and that ship with their stage.
"""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from unclip_jax.core.errors import UserError
from unclip_jax.core.types import Params
from unclip_jax.core.vectors import unit64
from unclip_jax.models.embedding_norm import EmbeddingStats, with_stats
from unclip_jax.models.pca import Pca, components_for, fit_pca, unit_moments
from unclip_jax.models.pca_codec import make_codec, with_codec
from unclip_jax.models.stages import StageSpec
from unclip_jax.train.frozen import FrozenClip, caption_features, image_embedding
from unclip_jax.train.sharding import place, replicated

EXAMPLES = 4096
"""Training examples whose embeddings are looked at."""


def embeddings(
    clip: FrozenClip | None, frozen: Any, batches: Iterator[Any], count: int, mesh: Mesh
) -> tuple[np.ndarray, np.ndarray]:
    """Returns raw z_i and z_t [n, d] of the next `count` batches, whole on every process."""
    both = functools.partial(_both, clip)
    embed = jax.jit(both, out_shardings=replicated(mesh))
    found = [jax.device_get(embed(frozen, next(batches))) for _ in range(count)]
    image_emb, text_emb = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return image_emb, text_emb


def _both(clip: FrozenClip | None, frozen: Any, batch: Any) -> tuple[Any, Any]:
    return image_embedding(clip, frozen, batch), caption_features(clip, frozen, batch).text_emb


def with_fitted(
    params: Params, spec: StageSpec, image_emb: np.ndarray, text_emb: np.ndarray, pca: Pca | None
) -> Params:
    """Returns fresh parameters with what is fitted in them.

    Args:
        pca: of the codec; None only where the stage has none.
    """
    cfg = spec.model.embedding_codec
    if cfg is None:
        mean = image_emb.mean(0, dtype=np.float64)
        std = np.maximum(image_emb.std(0, dtype=np.float64), 1e-6)
        stats = EmbeddingStats(jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32))
        made = with_stats(params, stats)
    else:
        try:
            codec = make_codec(pca, cfg, (unit64(image_emb) * unit64(text_emb)).sum(1))
        except ValueError as error:
            raise UserError(f"config.model.codec: {error}") from error
        made = with_codec(params, codec)
    put = lambda old, new: old if new is old else place(new, old.sharding)  # noqa: E731
    return jax.tree.map(put, params, made)


def pca_of(image_emb: np.ndarray, clip: str) -> Pca:
    """Returns the PCA of embeddings, for a run that was given none."""
    return fit_pca(unit_moments(image_emb), clip)


def describe(pca: Pca, components: int) -> str:
    """Says what the first components hold, in a line."""
    values = np.asarray(pca.eigenvalues, np.float64)
    share = values[:components].sum() / max(values.sum(), 1e-300)
    return (
        f"{components} of {pca.width} components hold {100 * share:.1f}% of the variance of z_i; "
        f"99% takes {components_for(pca, 0.99)}"
    )
