"""How far the features of generated images are from those of real ones, as distributions.

Everything is float64 NumPy on features of any network. A number is only as good as its features:
the names FID and KID belong to those of Inception; with others they are Fréchet and kernel
distances of that network. Sets are compared in blocks of rows, so memory does not grow with n * m.
"""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float

from unclip_jax.core.vectors import unit64
from unclip_jax.models.pca import Moments

Rows = Float[np.ndarray, "n d"]
Others = Float[np.ndarray, "m d"]
Kernel = Callable[[Rows, Others], Float[np.ndarray, "n m"]]

BLOCK = 1024  # rows of a block of pairwise distances
CMMD_SIGMA, CMMD_SCALE = 10.0, 1000.0  # Jayasumana et al. 2024, section 4
PR_NEIGHBORS, DC_NEIGHBORS = 3, 5  # Kynkäänniemi et al. 2019; Naeem et al. 2020


def frechet_distance(real: Moments, fake: Moments) -> float:
    """Returns the squared Fréchet distance of two Gaussians (Heusel et al. 2017, eq. 6).

        |m1 - m2|^2 + tr(C1 + C2 - 2 (C1^(1/2) C2 C1^(1/2))^(1/2))

    C is the sample covariance, scatter / (n - 1); that of one vector is 0. Moments add up over
    batches and hosts, so any number of images fits. With few images it is biased upwards (Chong
    and Forsyth 2020): compare distances of equal n, and next to that of real images to real ones.
    """
    return frechet_from(real)(fake)


def frechet_from(real: Moments) -> Callable[[Moments], float]:
    """Returns `frechet_distance` from one set, whose square root is taken once."""
    one = _sample_covariance(real)
    root = _square_root(one)

    def distance(fake: Moments) -> float:
        two = _sample_covariance(fake)
        cross = np.sqrt(np.maximum(np.linalg.eigvalsh(_symmetric(root @ two @ root)), 0.0)).sum()
        gap = np.square(real.mean - fake.mean).sum()
        return float(max(gap + np.trace(one) + np.trace(two) - 2.0 * cross, 0.0))

    return distance


def unit_frechet_distance(a: Rows, b: Others) -> float:
    """Returns the Fréchet distance of embeddings scaled to unit length; it lies in 0 … 4."""
    return unit_frechet_from(a)(b)


def unit_frechet_from(a: Rows) -> Callable[[Others], float]:
    """Returns `unit_frechet_distance` from one set."""
    distance = frechet_from(Moments.of(unit64(a)))
    return lambda b: distance(Moments.of(unit64(b)))


def diversity(draws: Float[np.ndarray, "k n d"]) -> Float[np.ndarray, " n"]:
    """Returns the mean cosine distance between pairs of the k draws of each example."""
    unit = unit64(draws)
    count = len(unit)
    cosines = np.einsum("ind,jnd->nij", unit, unit)
    between = cosines.sum((1, 2)) - np.einsum("nii->n", cosines)
    return 1.0 - between / (count * (count - 1))


def inception_score(
    probabilities: Float[np.ndarray, "n k"], *, splits: int = 10, run: int | None = None
) -> tuple[float, float]:
    """Returns the Inception score's mean and deviation over splits (Salimans et al. 2016, sec. 4).

    exp(E_x KL(p(y|x) || p(y))) of each of `splits` runs of images in the order given. 1 is the
    least; k is the most, for k classes.

    Args:
        run: images of a run, in place of a number of splits; the last run has what remains, as in
            guided-diffusion's evaluator.
    """
    rows = np.asarray(probabilities, np.float64)
    if run is None and len(rows) < splits:
        raise ValueError(f"{len(rows)} images are fewer than {splits} splits")
    ends = range(run, len(rows), run) if run else splits
    scores = []
    for part in np.array_split(rows, ends):
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.where(part > 0, np.log(part / part.mean(axis=0)), 0.0)
        scores.append(np.exp((part * logs).sum(axis=1).mean()))
    return float(np.mean(scores)), float(np.std(scores))


def cubic_kernel(a: Rows, b: Others) -> Float[np.ndarray, "n m"]:
    """The kernel of KID: (a.b / d + 1)^3 (Bińkowski et al. 2018, eq. 4)."""
    return (a @ b.T / a.shape[1] + 1.0) ** 3


def kernel_distance(
    real: Rows,
    fake: Others,
    *,
    subsets: int = 100,
    size: int = 1000,
    seed: int = 0,
    kernel: Kernel = cubic_kernel,
) -> tuple[float, float]:
    """Returns the mean and deviation of the unbiased MMD^2 over random subsets: KID.

    Args:
        size: vectors of a subset, or as many as the smaller set has.
        kernel: Bińkowski et al.'s by default.
    """
    real, fake = np.asarray(real, np.float64), np.asarray(fake, np.float64)
    size = min(size, len(real), len(fake))
    if size < 2:
        raise ValueError("a kernel distance needs two vectors a set")
    rng, found = np.random.default_rng(seed), []
    for _ in range(subsets):
        one = real[rng.choice(len(real), size, replace=False)]
        two = fake[rng.choice(len(fake), size, replace=False)]
        within = [(gram.sum() - np.trace(gram)) for gram in (kernel(one, one), kernel(two, two))]
        between = kernel(one, two).mean()
        found.append(sum(within) / (size * (size - 1)) - 2.0 * between)
    return float(np.mean(found)), float(np.std(found))


def cmmd(real: Rows, fake: Others) -> float:
    """Returns CMMD: 1000 times the MMD^2 of unit CLIP embeddings (Jayasumana et al. 2024, eq. 3).

    The kernel is Gaussian with sigma 10. All pairs count, also a vector with itself, as in the
    authors' code, so two equal sets are at 0.
    """
    one, two = unit64(real), unit64(fake)
    return CMMD_SCALE * (_mean_rbf(one, one) + _mean_rbf(two, two) - 2.0 * _mean_rbf(one, two))


@dataclasses.dataclass(frozen=True)
class Neighborhoods:
    """How two sets overlap, by balls that reach to the k-th neighbor in the own set.

    Attributes:
        precision: share of fake vectors inside any real ball.
        recall: share of real vectors inside any fake ball (Kynkäänniemi et al. 2019, eq. 2, 3).
        density: real balls that hold a fake vector, over k, averaged; may exceed 1.
        coverage: share of real balls that hold a fake vector (Naeem et al. 2020, eq. 4, 5).
    """

    precision: float
    recall: float
    density: float
    coverage: float


def neighborhoods(
    real: Rows, fake: Others, *, k: int = PR_NEIGHBORS, k_density: int = DC_NEIGHBORS
) -> Neighborhoods:
    """Returns precision and recall with k neighbors, density and coverage with k_density.

    Raises:
        ValueError: a set is not larger than the neighbors asked for.
    """
    real, fake = np.asarray(real, np.float64), np.asarray(fake, np.float64)
    if min(len(real), len(fake)) <= max(k, k_density):
        raise ValueError(f"sets of {len(real)} and {len(fake)} vectors are too small for k={k}")
    real_radius, real_wide = _radii(real, (k, k_density))
    (fake_radius,) = _radii(fake, (k,))
    inside, counts, covered = [], [], np.zeros(len(real), bool)
    held = np.zeros(len(real), bool)
    for distances in _blocks(fake, real):
        start = sum(map(len, inside))
        inside.append((distances <= real_radius).any(axis=1))
        held |= (distances <= fake_radius[start : start + len(distances), None]).any(axis=0)
        within = distances <= real_wide
        counts.append(within.sum(axis=1))
        covered |= within.any(axis=0)
    return Neighborhoods(
        precision=float(np.concatenate(inside).mean()),
        recall=float(held.mean()),
        density=float(np.concatenate(counts).mean() / k_density),
        coverage=float(covered.mean()),
    )


def _radii(rows: Rows, ks: tuple[int, ...]) -> list[Float[np.ndarray, " n"]]:
    """Returns each vector's distance to its k-th neighbor other than itself, for each k."""
    parts = [np.partition(block, ks, axis=1)[:, list(ks)] for block in _blocks(rows, rows)]
    return list(np.concatenate(parts).T)


def _blocks(a: Rows, b: Others) -> Iterator[Float[np.ndarray, "b m"]]:
    """Yields the distances of blocks of rows of `a` to all rows of `b`."""
    norms = np.square(b).sum(axis=1)
    for start in range(0, len(a), BLOCK):
        rows = a[start : start + BLOCK]
        squares = np.square(rows).sum(axis=1)[:, None] + norms - 2.0 * rows @ b.T
        if a is b:  # exact where rounding would leave a small distance to itself
            squares[np.arange(len(rows)), start + np.arange(len(rows))] = 0.0
        yield np.sqrt(np.maximum(squares, 0.0))


def _mean_rbf(a: Rows, b: Others) -> float:
    total = sum(np.exp(-np.square(d) / (2.0 * CMMD_SIGMA**2)).sum() for d in _blocks(a, b))
    return float(total) / (len(a) * len(b))


def _sample_covariance(moments: Moments) -> Float[np.ndarray, "d d"]:
    return moments.scatter / max(moments.count - 1, 1)


def _square_root(matrix: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    values, vectors = np.linalg.eigh(_symmetric(matrix))
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


def _symmetric(matrix: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    return (matrix + matrix.T) / 2.0
