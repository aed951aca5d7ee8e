"""Reverse-process samplers: one step function each, and the one loop that runs them.

A step goes from level t to a less noisy level s. A sampler never sees text, images or guidance,
only a denoiser; clipping and thresholding are the denoiser's wrappers (`denoiser.limited`).
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int

from unclip_jax.core.ready import portable
from unclip_jax.diffusion.config import DiffusionConfig, SamplerName, SamplingConfig, Variance
from unclip_jax.diffusion.denoiser import Denoised, Denoiser
from unclip_jax.diffusion.dpm_solver import dpmpp_step, no_history
from unclip_jax.diffusion.process import at_least_float32, posterior
from unclip_jax.diffusion.schedules import CLEAN, Level, Schedule, check_steps, expand
from unclip_jax.diffusion.timesteps import sampling_steps
from unclip_jax.diffusion.variance import step_variance

# noise(step index, shape) -> standard normal; the index is traced, the shape includes the batch.
NoiseFn = Callable[[Int[Array, ""], tuple[int, ...]], Float[Array, " b *d"]]


def ddpm_step(
    x_t: Float[Array, " b *d"],
    denoised: Denoised,
    t: Level,
    s: Level,
    noise: Float[Array, " b *d"],
    *,
    variance: Variance,
    x0_error: Float[Array, "*b"] | None = None,
) -> Float[Array, " b *d"]:
    """Takes one ancestral step from level t to level s (Ho et al. 2020, algorithm 2).

        x_s = posterior mean of (x_t, x0) + sqrt(variance) noise

    and no noise where s is clean.

    Args:
        x0_error: the variance table's entry at t, for variance "analytic".
    """
    x_t = at_least_float32(x_t)
    step = posterior(t, s)
    mean = expand(step.x0_weight, x_t.ndim) * denoised.x0.astype(x_t.dtype)
    mean = mean + expand(step.xt_weight, x_t.ndim) * x_t
    var = step_variance(variance, t, s, fraction=denoised.variance_frac, x0_error=x0_error).astype(
        x_t.dtype
    )
    is_clean = expand(s.sigma, x_t.ndim) == 0.0
    std = jnp.sqrt(jnp.where(is_clean, 0.0, expand(var, x_t.ndim)))
    return mean + std * noise.astype(x_t.dtype)


def ddim_step(
    x_t: Float[Array, " b *d"],
    x0: Float[Array, " b *d"],
    t: Level,
    s: Level,
    noise: Float[Array, " b *d"] | None = None,
    *,
    eta: float = 0.0,
) -> Float[Array, " b *d"]:
    """Takes one DDIM step from level t to level s (Song et al. 2021, eq. 12 and 16).

        eps = (x_t - alpha_t x0) / sigma_t
        x_s = alpha_s x0 + sqrt(sigma_s^2 - v^2) eps + v noise
        v   = eta (sigma_s / sigma_t) sqrt(1 - (alpha_t / alpha_s)^2)

    With q = (sigma_s alpha_t) / (alpha_s sigma_t), v = eta sigma_s sqrt(1 - q^2), and the middle
    root is sigma_s sqrt(1 - eta^2 + eta^2 q^2): so computed, which loses no digits. With eta = 0
    the step is deterministic and may also go to a noisier level; with eta = 1 it draws from the
    posterior q(x_s | x_t, x0).

    Args:
        x0: the estimate of E[x_0 | x_t], already guided and clipped.
        noise: standard normal; None is allowed with eta = 0.
    """
    x_t = at_least_float32(x_t)
    x0 = x0.astype(x_t.dtype)
    t, s = t.expand(x_t.ndim), s.expand(x_t.ndim)
    eps = (x_t - t.alpha * x0) / t.sigma
    if eta == 0.0:
        return s.alpha * x0 + s.sigma * eps
    if noise is None:
        raise ValueError(f"eta={eta} needs noise")
    q = s.ratio / t.ratio
    direction = s.sigma * jnp.sqrt((1.0 - eta**2) + (eta * q) ** 2)
    spread = eta * s.sigma * jnp.sqrt(jnp.maximum((1.0 - q) * (1.0 + q), 0.0))
    return s.alpha * x0 + direction * eps + spread * noise.astype(x_t.dtype)


@dataclasses.dataclass(frozen=True, eq=False)
class SamplingPlan:
    """Everything static about a run: which levels, which step, which variance.

    Attributes:
        steps: int64 [n], descending; the timesteps that the network is given.
        variance_table: float64 [T] for "analytic" variance (`variance.variance_table`).
    """

    schedule: Schedule
    config: SamplingConfig
    variance: Variance
    steps: np.ndarray
    variance_table: np.ndarray | None = None

    @property
    def num_steps(self) -> int:
        """Number of network evaluations."""
        return len(self.steps)

    @property
    def sampler(self) -> "Sampler":
        """The configuration's entry in SAMPLERS."""
        return SAMPLERS[self.config.sampler]

    @property
    def is_stochastic(self) -> bool:
        """Whether a step uses noise."""
        return self.sampler.is_stochastic(self.config)


def make_plan(
    schedule: Schedule,
    config: SamplingConfig,
    diffusion: DiffusionConfig,
    *,
    steps: Sequence[int] | np.ndarray | None = None,
    variance_table: np.ndarray | None = None,
) -> SamplingPlan:
    """Builds the plan of a run; `steps` overrides the configuration's."""
    if steps is None:
        chosen = sampling_steps(config, schedule.num_steps)
    else:
        chosen = check_steps(steps, schedule.num_steps)
    if len(chosen) > 1 and chosen[0] < chosen[-1]:
        raise ValueError(f"sampling steps must descend, got {chosen.tolist()}")
    if SAMPLERS[config.sampler].uses_variance and diffusion.variance == "analytic":
        if variance_table is None:
            raise ValueError("variance='analytic' needs a variance table")
        variance_table = np.asarray(variance_table, np.float64)
        if variance_table.shape != (schedule.num_steps,):
            raise ValueError(f"{variance_table.shape=} must be ({schedule.num_steps},)")
    return SamplingPlan(schedule, config, diffusion.variance, chosen, variance_table)


@portable
@struct.dataclass
class SamplerState:
    """State carried from one step to the next.

    Attributes:
        x: the sample at the level of the next step (after the last: the clean sample).
        x0: the last estimate of x_0; zeros before the first step.
        level: the level that estimate was made at; `no_history` before the first step.
    """

    x: Float[Array, " b *d"]
    x0: Float[Array, " b *d"]
    level: Level


def init_state(x: Float[Array, " b *d"]) -> SamplerState:
    """State before a first step, at the level of the plan's step to be run first."""
    x = at_least_float32(x)
    return SamplerState(x=x, x0=jnp.zeros_like(x), level=no_history(x))


@dataclasses.dataclass(frozen=True, eq=False)
class StepInputs:
    """Inputs of a sampler's step from level t to level s.

    Attributes:
        state: x at level t, and the estimate of the step before.
        denoised: the denoiser's output at that x.
        noise: standard normal; None for a sampler that is not stochastic.
        x0_error: the variance table's entry at t, None without a table.
    """

    plan: SamplingPlan
    state: SamplerState
    denoised: Denoised
    t: Level
    s: Level
    noise: Float[Array, " b *d"] | None
    x0_error: Float[Array, ""] | None

    @property
    def x0(self) -> Float[Array, " b *d"]:
        """The estimate of x_0 in the sample's dtype."""
        return self.denoised.x0.astype(self.state.x.dtype)


@dataclasses.dataclass(frozen=True)
class Sampler:
    """Definition of a sampler: a row of SAMPLERS.

    Attributes:
        step: StepInputs -> x at level s.
        is_stochastic: whether a step draws noise, under these settings.
        uses_variance: whether `DiffusionConfig.variance` applies.
        order: of the solver; one of a higher order needs fewer steps than DDIM.
    """

    step: Callable[[StepInputs], Float[Array, " b *d"]]
    is_stochastic: Callable[[SamplingConfig], bool]
    uses_variance: bool = False
    order: int = 1


def _ddpm(given: StepInputs) -> Float[Array, " b *d"]:
    x, variance, error = given.state.x, given.plan.variance, given.x0_error
    return ddpm_step(
        x, given.denoised, given.t, given.s, given.noise, variance=variance, x0_error=error
    )


def _ddim(given: StepInputs) -> Float[Array, " b *d"]:
    eta = given.plan.config.eta
    return ddim_step(given.state.x, given.x0, given.t, given.s, given.noise, eta=eta)


def _dpmpp(given: StepInputs) -> Float[Array, " b *d"]:
    state = given.state
    return dpmpp_step(state.x, given.x0, state.x0, given.t, given.s, state.level)


SAMPLERS: dict[SamplerName, Sampler] = {
    "ddpm": Sampler(_ddpm, lambda config: True, uses_variance=True),
    "ddim": Sampler(_ddim, lambda config: config.eta > 0.0),
    "dpm++": Sampler(_dpmpp, lambda config: False, order=2),
}
"""Every sampler by its name; to add one, add its row here and its name to `SamplerName`."""


def _advance(
    state: SamplerState,
    index: Int[Array, ""],
    denoise: Denoiser,
    plan: SamplingPlan,
    noise: NoiseFn,
) -> SamplerState:
    """Runs step `index` of the plan."""
    x = state.x
    targets = np.append(plan.steps[1:], CLEAN)
    t_index = jnp.asarray(plan.steps, jnp.int32)[index]
    t = plan.schedule.level(t_index, x.dtype)
    s = plan.schedule.level(jnp.asarray(targets, jnp.int32)[index], x.dtype)
    denoised = denoise(x, jnp.full(x.shape[:1], t_index))
    draw = noise(index, x.shape) if plan.is_stochastic else None
    error = None
    if plan.variance_table is not None:
        error = jnp.asarray(plan.variance_table, x.dtype)[t_index]
    given = StepInputs(plan, state, denoised, t, s, draw, error)
    return SamplerState(x=plan.sampler.step(given), x0=given.x0, level=t)


def run_steps(
    denoise: Denoiser,
    state: SamplerState,
    plan: SamplingPlan,
    noise: NoiseFn,
    *,
    start: int | Int[Array, ""] = 0,
    count: int | Int[Array, ""] | None = None,
    keep: bool = False,
) -> tuple[SamplerState, Float[Array, " n b *d"] | None]:
    """Runs `count` steps of a plan: the only loop over steps there is.

    A run cut into chunks computes the same steps: pass each chunk's state to the next, with `start`
    the number of steps done. One compilation serves all chunks of whatever length if `start` and
    `count` are traced; with a static `count` the loop is a scan, whose work can be counted.

    Args:
        noise: called with the plan's step index, whatever the chunk; not called by deterministic
            samplers.
        count: steps to run; None is all from `start`, which must then be static.
        keep: also return x after each of these steps, whose `count` must then be static.
    """
    if count is None:
        count = plan.num_steps - int(start)

    def body(
        state: SamplerState, index: Int[Array, ""]
    ) -> tuple[SamplerState, Float[Array, " b *d"] | None]:
        state = _advance(state, index, denoise, plan, noise)
        return state, state.x if keep else None

    first = jnp.asarray(start, jnp.int32)
    if isinstance(count, jax.Array):
        return jax.lax.fori_loop(first, first + count, lambda i, s: body(s, i)[0], state), None
    return jax.lax.scan(body, state, first + jnp.arange(count, dtype=jnp.int32))


def sample_loop(
    denoise: Denoiser,
    x_init: Float[Array, " b *d"],
    *,
    schedule: Schedule,
    config: SamplingConfig,
    diffusion: DiffusionConfig,
    noise: NoiseFn,
    steps: Sequence[int] | np.ndarray | None = None,
    variance_table: np.ndarray | None = None,
) -> Float[Array, " b *d"]:
    """Samples from x_init, at the level of the first listed t, down to clean data.

    Pure and jit-able. The level after the last listed t is clean (alpha_bar = 1). For chunks or
    the trajectory use `make_plan`, `init_state` and `run_steps`, which this calls.

    Args:
        denoise: already guided and limited; the loop does not apply `config`'s guidance, x0_bound
            and threshold.
        x_init: standard normal for a fresh sample, or the latent of `ddim_invert`.
        steps: descending timesteps, instead of the configuration's.
    """
    plan = make_plan(schedule, config, diffusion, steps=steps, variance_table=variance_table)
    state, _ = run_steps(denoise, init_state(x_init), plan, noise)
    return state.x
