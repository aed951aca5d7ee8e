"""Distances of feature sets against torch-fidelity's formulas, on the same features."""

import sys
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch

from tests.parity.shells import submodule
from unclip_jax.evals.distributions import (
    frechet_distance,
    inception_score,
    kernel_distance,
    neighborhoods,
)
from unclip_jax.models.pca import Moments

N, DIM = 120, 12


@pytest.fixture
def sets():
    """Real and fake features that overlap in part, with correlated columns."""
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((DIM, DIM))
    real = rng.standard_normal((N, DIM)) @ mix
    fake = 0.8 * rng.standard_normal((N, DIM)) @ mix + 0.5
    return real, fake


@pytest.fixture
def metric(monkeypatch):
    """Returns metric(name): that module of torch-fidelity, without what reads images."""
    monkeypatch.setitem(sys.modules, "torch_fidelity.utils", MagicMock())
    return lambda name: submodule(f"torch_fidelity.metric_{name}")


def test_frechet_distance(metric, sets, agree):
    source = metric("fid")
    both = [source.fid_features_to_statistics(torch.from_numpy(rows)) for rows in sets]
    out = source.fid_statistics_to_metric(*both, verbose=False)["frechet_inception_distance"]
    ours = frechet_distance(*(Moments.of(rows) for rows in sets))
    agree("Frechet distance", [ours], [out], 1e-9)


def test_kernel_distance(metric, sets, agree):
    """A subset is the whole set, so that both draw the same."""
    real, fake = sets
    chosen = {"kid_subsets": 1, "kid_subset_size": N, "verbose": False, "rng_seed": 0}
    kernel = {"kid_kernel": "poly", "kid_kernel_poly_degree": 3, "kid_kernel_poly_coef0": 1}
    made = metric("kid").kid_features_to_metric(
        torch.from_numpy(real), torch.from_numpy(fake), **chosen, **kernel
    )
    ours = kernel_distance(real, fake, subsets=1, size=N)[0]
    agree("kernel distance", [ours], [made["kernel_inception_distance_mean"]], 1e-9)


def test_inception_score(metric, sets, agree):
    """Theirs takes logits; the order is that of the images, without its default shuffling."""
    logits = torch.from_numpy(sets[0])
    made = metric("isc").isc_features_to_metric(logits, splits=10, shuffle=False)
    ours = inception_score(logits.softmax(1).numpy(), splits=10)
    agree("Inception score", ours, [made[f"inception_score_{n}"] for n in ("mean", "std")], 1e-9)


def test_precision_and_recall(metric, sets, agree):
    real, fake = sets
    made = metric("prc").prc_features_to_metric(
        torch.from_numpy(fake), torch.from_numpy(real), prc_neighborhood=3, verbose=False
    )
    ours = neighborhoods(real, fake, k=3)
    assert 0 < ours.precision < 1
    assert 0 < ours.recall < 1
    agree("precision and recall", [ours.precision, ours.recall], list(made.values())[:2], 1e-6)
