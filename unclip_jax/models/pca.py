"""Principal components of CLIP image embeddings (unCLIP §2.2, §4): fit, project, reconstruct.

They are computed on unit embeddings, z / |z|, the space in which the paper's networks see them:
every function here takes raw embeddings and normalizes them itself, and reconstructions are in the
unit space (their length is near one, not forced to it).

    c = V (z / |z| - mean),    z' = mean + V_k^T c_k

The rows of V are the eigenvectors of the covariance, by decreasing eigenvalue. Moments are summed
in float64 and merge exactly, so hosts can share the work.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from unclip_jax.core.vectors import unit, unit64

SPACE = "unit"
"""Name of the space in files: embeddings divided by their length."""


@struct.dataclass
class Pca:
    """A fitted basis, float32.

    Attributes:
        mean: [d], of the unit embeddings.
        components: [k, d], orthonormal rows by decreasing eigenvalue.
        eigenvalues: [k], the variance along each of them.
        clip: digest of the parameters of the CLIP whose embeddings these are.
    """

    mean: Any
    components: Any
    eigenvalues: Any
    clip: str = struct.field(pytree_node=False, default="")

    @property
    def width(self) -> int:
        """The width of the embeddings."""
        return self.components.shape[1]


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean and scatter (sum of outer products of deviations) of vectors, in float64."""

    count: int
    mean: Float[np.ndarray, " d"]
    scatter: Float[np.ndarray, "d d"]

    @classmethod
    def zero(cls, width: int) -> "Moments":
        """Returns the moments of no vector."""
        return cls(0, np.zeros(width), np.zeros((width, width)))

    @classmethod
    def of(cls, rows: Float[np.ndarray, "n d"]) -> "Moments":
        """Returns the moments of the rows, as they are."""
        rows = np.asarray(rows, np.float64)
        if not len(rows):
            return cls.zero(rows.shape[1])
        mean = rows.mean(axis=0)
        return cls(len(rows), mean, (rows - mean).T @ (rows - mean))

    def __add__(self, other: "Moments") -> "Moments":
        """Merges two samples (Chan, Golub and LeVeque 1979, eq. 1.5)."""
        count = self.count + other.count
        if not count:
            return self
        gap = other.mean - self.mean
        mean = self.mean + gap * (other.count / count)
        spread = np.outer(gap, gap) * (self.count * other.count / count)
        return Moments(count, mean, self.scatter + other.scatter + spread)

    @property
    def covariance(self) -> Float[np.ndarray, "d d"]:
        """The population's covariance, scatter / count."""
        return self.scatter / self.count


def unit_moments(z: Float[np.ndarray, "n d"]) -> Moments:
    """Returns the moments of raw embeddings brought to unit length, in float64."""
    return Moments.of(unit64(z))


def fit_pca(moments: Moments, clip: str = "") -> Pca:
    """Returns the basis of all components; the largest entry of each is made positive.

    Args:
        moments: of unit embeddings (`unit_moments`).
    """
    if moments.count < 2:
        raise ValueError(f"a PCA needs at least two embeddings, not {moments.count}")
    values, vectors = np.linalg.eigh(moments.covariance)  # ascending
    values, rows = np.maximum(values[::-1], 0.0), vectors.T[::-1]
    largest = rows[np.arange(len(rows)), np.abs(rows).argmax(axis=1)]
    rows = rows * np.where(largest < 0, -1.0, 1.0)[:, None]
    mean, rows, values = (np.ascontiguousarray(a, np.float32) for a in (moments.mean, rows, values))
    return Pca(mean, rows, values, clip)


def project(
    pca: Pca, z: Float[Array | np.ndarray, "n d"], dims: int | None = None
) -> Float[Array, "n k"]:
    """Returns the first `dims` coordinates of raw embeddings; None = all of them."""
    components = jnp.asarray(pca.components)[:dims]
    centered = unit(jnp.asarray(z)) - jnp.asarray(pca.mean)[None]
    return jnp.matmul(centered, components.T, precision="highest")


def reconstruct(pca: Pca, codes: Float[Array | np.ndarray, "n k"]) -> Float[Array, "n d"]:
    """Returns the unit-space embeddings of coordinates, of as many as are given."""
    components = jnp.asarray(pca.components)[: codes.shape[1]]
    rows = jnp.matmul(jnp.asarray(codes), components, precision="highest")
    return jnp.asarray(pca.mean)[None] + rows


def keep(pca: Pca, z: Float[Array | np.ndarray, "n d"], dims: int) -> Float[Array, "n d"]:
    """Returns raw embeddings reconstructed from their first `dims` components (unCLIP, fig. 7)."""
    if not 0 <= dims <= len(pca.eigenvalues):
        raise ValueError(f"{dims=} must lie in 0..{len(pca.eigenvalues)}")
    return reconstruct(pca, project(pca, z, dims))


def explained_variance(pca: Pca) -> Float[np.ndarray, " k"]:
    """Returns the share of the variance that the first 1, 2, … components hold, float64."""
    values = np.asarray(pca.eigenvalues, np.float64)
    return np.cumsum(values) / max(values.sum(), 1e-300)


def components_for(pca: Pca, share: float) -> int:
    """Returns how many components hold a share of the variance (the paper: 319 of 1,024, 99%)."""
    return int(np.searchsorted(explained_variance(pca), share * (1 - 1e-12)) + 1)
