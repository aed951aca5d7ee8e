"""Fréchet distance and diversity of embedding sets.

Fréchet distance of the Gaussians with the sets' moments (Dowson and Landau 1982), in float64:

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1^(1/2) C2 C1^(1/2))^(1/2))

Vectors are scaled to unit length, so the distance lies in 0 … 4. With fewer vectors than dimensions
it is biased upwards: compare only distances over sets of the same size.
"""

import numpy as np
from jaxtyping import Float

from unclip_jax.core.vectors import unit64
from unclip_jax.models.pca import Moments


def frechet_distance(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> float:
    """Returns the Fréchet distance of two sets of embeddings scaled to unit length."""
    one, two = Moments.of(unit64(a)), Moments.of(unit64(b))
    root = _square_root(one.covariance)
    cross = np.trace(_square_root(root @ two.covariance @ root))
    spread = np.trace(one.covariance) + np.trace(two.covariance) - 2 * cross
    return float(max(np.square(one.mean - two.mean).sum() + spread, 0.0))


def _square_root(matrix: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


def diversity(draws: Float[np.ndarray, "k n d"]) -> Float[np.ndarray, " n"]:
    """Returns the mean cosine distance between pairs of the k draws of each example."""
    unit = unit64(draws)
    count = len(unit)
    cosines = np.einsum("ind,jnd->nij", unit, unit)
    between = cosines.sum((1, 2)) - np.einsum("nii->n", cosines)
    return 1.0 - between / (count * (count - 1))
