"""Tables of rated images, and linear models of what people like, on unit CLIP embeddings.

A rating is predicted by ridge regression, as unCLIP §5.5 predicts AVA's mean ratings. What people
prefer of two images is predicted by logistic regression on the difference of their embeddings
(unCLIP, appendix A). Both are fitted in float64 on the host; the penalty is chosen by data that the
fit has not seen.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.errors import UserError
from unclip_jax.core.vectors import unit64
from unclip_jax.data.images import decode, read_bytes
from unclip_jax.data.lists import read_rows
from unclip_jax.evals.examples import as_seen
from unclip_jax.sampling.monitor import Progress

TABLES = (".csv", ".tsv", ".jsonl")
RATING = "rating"
LEAST = 20  # ratings of a table, and judgements of pairs
PENALTIES = tuple(10.0**power for power in range(-6, 3))
HELD_OUT = 5  # one in so many is held out
NEWTON_STEPS = 100
SETTLED = 1e-10


@dataclasses.dataclass(frozen=True)
class Rated:
    """A table's images and their ratings."""

    paths: tuple[Path, ...]
    ratings: Float[np.ndarray, " n"]


@dataclasses.dataclass(frozen=True)
class Linear:
    """A linear function of unit embeddings: z @ weights + offset."""

    weights: Float[np.ndarray, " d"]
    offset: float = 0.0

    def __call__(self, emb: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        """Returns its value for raw embeddings, scaled to unit length."""
        return unit64(emb) @ self.weights + self.offset


def read_ratings(path: Path) -> Rated:
    """Reads a table of images and ratings; paths are relative to the table's folder.

    Raises:
        UserError: the table or an image's name is missing, a rating is no number, or there are too
            few of them.
    """
    if path.suffix.lower() not in TABLES:
        raise UserError(f"--ratings takes a table ({', '.join(TABLES)}), not {path.name!r}")
    paths, ratings = [], []
    for row in read_rows(path):
        where = f"{path}, row {row.number}"
        if not row.location:
            raise UserError(f"{where}: {row.problem or 'no path of an image'}")
        paths.append(path.parent / row.location)
        ratings.append(_rating(row.fields.get(RATING), where))
    if len(ratings) < LEAST or len(set(ratings)) < 2:
        raise UserError(
            f"{path} has {len(ratings)} ratings; it takes {LEAST} at least, not all one"
        )
    return Rated(tuple(paths), np.asarray(ratings))


def _rating(value: object, where: str) -> float:
    try:
        rating = float(value) if isinstance(value, (str, int, float)) else math.nan
    except (ValueError, OverflowError):
        rating = math.nan
    if not math.isfinite(rating) or isinstance(value, bool):
        raise UserError(f"{where}: field {RATING!r} must be a number, not {str(value)[:40]!r}")
    return rating


def load_rated(
    rated: Rated, model: Bundle | None, size: int, report: Progress | None
) -> UInt8[np.ndarray, "n s s 3"]:
    """Reads a table's images as the squares that a bundle sees."""
    images = np.empty((len(rated.paths), size, size, 3), np.uint8)
    for row, path in enumerate(rated.paths):
        if report is not None and row % 100 == 0:
            report("reading rated images", row, len(images))
        data = read_bytes(path)
        try:
            images[row] = as_seen(model, decode(data), size)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
    return images


def split_held_out(count: int, seed: int) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " k"]]:
    """Returns random rows to fit and to test, one in HELD_OUT of them held out."""
    order = np.random.default_rng(seed).permutation(count)
    held = max(1, count // HELD_OUT)
    return np.sort(order[held:]), np.sort(order[:held])


def fit_ridge(
    emb: Float[np.ndarray, "n d"], ratings: Float[np.ndarray, " n"]
) -> tuple[Linear, float]:
    """Fits ratings by ridge regression in closed form; the offset is not penalized.

        w = (Z'Z + n a I)^-1 Z'(r - mean r),   Z the centered unit embeddings

    The penalty a is the one of PENALTIES with the least leave-one-out error, which the hat matrix
    gives without refitting: e_i / (1 - h_i).

    Returns:
        The function and the penalty.
    """
    z, r = unit64(emb), np.asarray(ratings, np.float64)
    center, mean = z.mean(axis=0), float(r.mean())
    left, values, right = np.linalg.svd(z - center, full_matrices=False)
    along, count = left.T @ (r - mean), len(r)
    errors = []
    for penalty in PENALTIES:
        shrunk = values**2 / (values**2 + count * penalty)
        hat = 1.0 / count + np.square(left) @ shrunk
        residual = (r - mean) - left @ (shrunk * along)
        errors.append(float(np.square(residual / np.maximum(1.0 - hat, 1e-12)).mean()))
    best = PENALTIES[int(np.argmin(errors))]
    weights = right.T @ (values / (values**2 + count * best) * along)
    return Linear(weights, mean - float(center @ weights)), best


def r_squared(true: Float[np.ndarray, " n"], predicted: Float[np.ndarray, " n"]) -> float:
    """Returns 1 - (squared error) / (squared error of the true mean)."""
    spread = float(np.square(true - true.mean()).sum())
    return 1.0 - float(np.square(true - predicted).sum()) / max(spread, 1e-300)


def correlation(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> float:
    """Returns Pearson's correlation, 0 if one of the two is constant."""
    one, two = a - a.mean(), b - b.mean()
    length = float(np.linalg.norm(one) * np.linalg.norm(two))
    return float(one @ two) / length if length > 0.0 else 0.0


def fit_preference(
    preferred: Float[np.ndarray, "n d"], other: Float[np.ndarray, "n d"], penalty: float
) -> Linear:
    """Fits f so that P(y preferred to x) = 1 / (1 + exp(f(x) - f(y))) (unCLIP, appendix A).

    That is logistic regression on y - x without an offset, which pairs cannot tell. Newton's steps,
    halved until the loss falls, minimize mean log(1 + exp(-m)) + penalty |w|^2 / 2.
    """
    x = unit64(preferred) - unit64(other)
    weights = np.zeros(x.shape[1])
    loss = lambda w: np.logaddexp(0.0, -x @ w).mean() + 0.5 * penalty * w @ w  # noqa: E731
    for _ in range(NEWTON_STEPS):
        chance = 1.0 / (1.0 + np.exp(np.clip(x @ weights, -500, 500)))  # of the other answer
        slope = penalty * weights - x.T @ chance / len(x)
        bend = (x.T * (chance * (1.0 - chance))) @ x / len(x) + penalty * np.eye(len(weights))
        step = np.linalg.solve(bend, slope)
        size = 1.0
        while size > SETTLED and loss(weights - size * step) > loss(weights):
            size /= 2.0
        weights = weights - size * step
        if np.abs(slope).max() < SETTLED:
            break
    return Linear(weights)


def held_out_margins(
    preferred: Float[np.ndarray, "n d"],
    other: Float[np.ndarray, "n d"],
    questions: Sequence[str],
    penalty: float,
) -> Float[np.ndarray, " n"]:
    """Returns f(y) - f(x) of each judgement by a fit to other questions, in HELD_OUT parts."""
    names, member = np.unique(np.asarray(questions), return_inverse=True)
    part = np.random.default_rng(0).permutation(len(names))[member] % HELD_OUT
    margins = np.zeros(len(preferred))
    for number in range(HELD_OUT):
        own = part == number
        if own.any() and not own.all():
            fitted = fit_preference(preferred[~own], other[~own], penalty)
            margins[own] = fitted(preferred[own]) - fitted(other[own])
    return margins


def choose_penalty(
    preferred: Float[np.ndarray, "n d"], other: Float[np.ndarray, "n d"], questions: Sequence[str]
) -> tuple[float, Float[np.ndarray, " n"]]:
    """Returns the penalty of the least held-out log loss, and the held-out margins with it."""
    found = [held_out_margins(preferred, other, questions, penalty) for penalty in PENALTIES]
    best = int(np.argmin([np.logaddexp(0.0, -margins).mean() for margins in found]))
    return PENALTIES[best], found[best]
