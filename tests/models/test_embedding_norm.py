"""Spaces of image embeddings: definitions, round trips, statistics that do not train."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import networks
from unclip_jax.core.config import build
from unclip_jax.core.renamed import RenamedWarning
from unclip_jax.core.trees import flatten_paths
from unclip_jax.models.embedding_norm import (
    EmbeddingNorm,
    EmbeddingStats,
    denormalize,
    normalize,
    stats_of,
    text_emb_input,
    with_stats,
)
from unclip_jax.models.unet import UNetConfig

Z = networks.normal(4, 6) * 3 + 1
STATS = EmbeddingStats(networks.normal(6, seed=1), jnp.abs(networks.normal(6, seed=2)) + 0.5)


def test_l2_has_the_scale_as_length_and_returns_directions():
    norm = EmbeddingNorm("l2", 17.2)
    z = normalize(Z, norm)
    np.testing.assert_allclose(jnp.linalg.norm(z, axis=-1), 17.2, rtol=1e-6)
    unit = Z / jnp.linalg.norm(Z, axis=-1, keepdims=True)
    np.testing.assert_allclose(denormalize(z, norm), unit, rtol=1e-5)


def test_standardize_subtracts_the_mean_and_comes_back():
    norm = EmbeddingNorm("standardize")
    z = normalize(Z, norm, STATS)
    np.testing.assert_allclose(z, (Z - STATS.mean[None]) / STATS.std[None], rtol=1e-6)
    np.testing.assert_allclose(denormalize(z, norm, STATS), Z, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="needs the mean and std"):
        normalize(Z, norm)


def test_none_scales_only():
    norm = EmbeddingNorm("none", 0.5)
    np.testing.assert_allclose(denormalize(normalize(Z, norm), norm), Z)
    np.testing.assert_allclose(normalize(Z, norm), Z / 2)


def test_the_old_spelling_is_read():
    with pytest.warns(RenamedWarning, match="x.kind='standardise' is now called 'standardize'"):
        assert build(EmbeddingNorm, {"kind": "standardise"}, "x") == EmbeddingNorm("standardize")


def test_text_input_has_unit_variance_or_is_raw():
    np.testing.assert_allclose(jnp.square(text_emb_input(Z, "unit")).mean(-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(text_emb_input(Z, "raw"), Z)


def test_statistics_are_parameters_without_gradient():
    norm = EmbeddingNorm("standardize")
    unet = UNetConfig(8, 8, (1,), 1, out_channels=6, mid_attention=False, norm_groups=4)
    spec = networks.decoder_spec(unet, norm, text="none")
    module, params, _ = networks.make(spec)
    fitted = spec.fitted_names & set(flatten_paths(params))
    assert fitted == {"clip_mean", "clip_std"}
    inputs = networks.decoder_inputs()
    loss = jax.jit(jax.grad(lambda p: jnp.square(module.apply({"params": p}, *inputs)).sum()))
    grads = loss(params)
    assert all(jnp.abs(grads[name]).max() == 0 for name in fitted)
    moved = EmbeddingStats(networks.normal(networks.DIM), jnp.ones(networks.DIM))
    changed = with_stats(params, moved)
    np.testing.assert_array_equal(stats_of(changed).mean, moved.mean)
    assert stats_of({"out_proj": {}}) is None
