"""Noise schedules and the lists of timesteps to visit: float64 NumPy, nothing traced.

Notation: x_t = alpha_t x_0 + sigma_t eps with alpha_t^2 + sigma_t^2 = 1 and
alpha_bar_t = alpha_t^2, for t = 0 (nearly clean) to T - 1 (nearly noise). beta_t = 1 -
alpha_bar_t / alpha_bar_{t-1} with alpha_bar_{-1} = 1: index -1 (`CLEAN`) names the data itself.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from unclip_jax.core.ready import portable
from unclip_jax.diffusion.config import ScheduleName

CLEAN = -1
COSINE_OFFSET = 0.008
MAX_BETA = 0.999


@portable
@struct.dataclass
class Level:
    """Noise levels: x = alpha x_0 + sigma eps, one for all examples or one per example."""

    alpha: Float[Array, "*b"]
    sigma: Float[Array, "*b"]

    @property
    def ratio(self) -> Float[Array, "*b"]:
        """sigma / alpha: 0 for data, infinite for noise.

        Differences of two ratios lose no digits, which 1 - alpha_bar_t / alpha_bar_s does in
        float32; and for two equal levels they are exactly zero.
        """
        return self.sigma / self.alpha

    def expand(self, ndim: int) -> "Level":
        """Appends axes of size one, so that the levels broadcast over data of rank `ndim`."""
        return Level(alpha=expand(self.alpha, ndim), sigma=expand(self.sigma, ndim))


def expand(coefficient: Float[Array, "..."], ndim: int) -> Float[Array, "..."]:
    """Appends axes of size one to an array of one value per example; leaves a scalar alone."""
    if coefficient.ndim == 0:
        return coefficient
    return coefficient.reshape(coefficient.shape + (1,) * (ndim - coefficient.ndim))


@dataclasses.dataclass(frozen=True, eq=False)
class Schedule:
    """A discrete noise schedule.

    Attributes:
        alpha_bar: float64 [T], strictly decreasing inside (0, 1).
    """

    alpha_bar: np.ndarray

    def __post_init__(self) -> None:
        bar = self.alpha_bar
        if bar.ndim != 1 or bar.dtype != np.float64:
            raise ValueError(f"alpha_bar must be float64 [T], got {bar.dtype} {bar.shape}")
        if not (bar[-1] > 0.0 and bar[0] < 1.0 and np.all(np.diff(bar) < 0.0)):
            raise ValueError("alpha_bar must fall strictly inside (0, 1)")
        bar.setflags(write=False)

    @property
    def num_steps(self) -> int:
        """T."""
        return len(self.alpha_bar)

    @property
    def alpha(self) -> np.ndarray:
        """sqrt(alpha_bar), float64 [T]."""
        return np.sqrt(self.alpha_bar)

    @property
    def sigma(self) -> np.ndarray:
        """sqrt(1 - alpha_bar), float64 [T]."""
        return np.sqrt(1.0 - self.alpha_bar)

    @property
    def beta(self) -> np.ndarray:
        """beta_t = 1 - alpha_bar_t / alpha_bar_{t-1}, float64 [T]."""
        return 1.0 - self.alpha_bar / np.append(1.0, self.alpha_bar[:-1])

    @property
    def snr(self) -> np.ndarray:
        """alpha_bar / (1 - alpha_bar), float64 [T]."""
        return self.alpha_bar / (1.0 - self.alpha_bar)

    def level(self, t: Int[Array, "*b"] | np.ndarray | int, dtype: DTypeLike) -> Level:
        """Looks up noise levels in `dtype`; `CLEAN` (-1) is the data: alpha 1, sigma 0."""
        alpha = jnp.asarray(np.append(self.alpha, 1.0), dtype)
        sigma = jnp.asarray(np.append(self.sigma, 0.0), dtype)
        index = jnp.asarray(t)
        index = jnp.where(index == CLEAN, self.num_steps, index)
        return Level(alpha=alpha[index], sigma=sigma[index])


def alpha_bar_cosine(num_steps: int) -> np.ndarray:
    """Cosine schedule (Nichol & Dhariwal 2021, eq. 17), with beta capped at 0.999.

    f(u) = cos^2((u + 0.008) / 1.008 pi/2);  beta_i = min(1 - f((i+1)/T) / f(i/T), 0.999)
    """
    u = np.arange(num_steps + 1, dtype=np.float64) / num_steps
    f = np.cos((u + COSINE_OFFSET) / (1.0 + COSINE_OFFSET) * np.pi / 2.0) ** 2
    return np.cumprod(1.0 - np.minimum(1.0 - f[1:] / f[:-1], MAX_BETA))


def alpha_bar_linear(num_steps: int) -> np.ndarray:
    """Linear beta (Ho et al. 2020, sec. 4): 1e-4 to 0.02 at T = 1000, scaled by 1000/T else."""
    scale = 1000.0 / num_steps
    beta = np.linspace(scale * 1e-4, scale * 0.02, num_steps, dtype=np.float64)
    return np.cumprod(1.0 - np.minimum(beta, MAX_BETA))


@functools.lru_cache(maxsize=32)
def make_schedule(name: ScheduleName, num_steps: int) -> Schedule:
    """Builds a named schedule, cached: the same arguments give the same object."""
    makers = {"cosine": alpha_bar_cosine, "linear": alpha_bar_linear}
    if name not in makers:
        raise ValueError(f"unknown schedule {name!r}; choose from {sorted(makers)}")
    return Schedule(makers[name](num_steps))


def respaced_steps(num_steps: int, count: int | Sequence[int]) -> np.ndarray:
    """Spreads `count` timesteps over 0..T-1 by OpenAI's rule, in sampling (descending) order.

    t_k = round(k (T - 1) / (count - 1)), ties to even: both ends are visited. A sequence of counts
    divides T into as many sections, each spread so (GLIDE's "10,10,3,2,2"). The rule leaves
    a single step undefined: alone it is T - 1, where sampling begins; in a section, its first.
    """
    if isinstance(count, int | np.integer):
        if count == 1:
            return np.array([num_steps - 1])
        count = (int(count),)
    base, extra = divmod(num_steps, len(count))
    steps: list[int] = []
    start = 0
    for section, number in enumerate(count):
        size = base + (section < extra)
        if not 1 <= number <= size:
            raise ValueError(f"cannot take {number} steps from {size} timesteps")
        stride = (size - 1) / (number - 1) if number > 1 else 1.0
        steps.extend(start + round(k * stride) for k in range(number))
        start += size
    return np.array(steps[::-1])


def check_steps(steps: Sequence[int] | np.ndarray, num_steps: int) -> np.ndarray:
    """Returns the timesteps as int64 [n], refusing a list that is empty, unordered or outside.

    Both directions are accepted (sampling descends, inversion ascends).
    """
    array = np.asarray(steps)
    if array.ndim != 1 or array.size == 0 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"steps must be a non-empty list of integers, got {steps!r}")
    if array.min() < 0 or array.max() >= num_steps:
        raise ValueError(f"steps {array.min()}..{array.max()} leave 0..{num_steps - 1}")
    gaps = np.diff(array)
    if not (np.all(gaps < 0) or np.all(gaps > 0)):
        raise ValueError(f"steps must be strictly ordered, got {array.tolist()}")
    return array.astype(np.int64)
