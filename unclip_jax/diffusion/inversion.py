"""Inversion of deterministic DDIM: from data to the latent that sampling decodes again."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from unclip_jax.diffusion.denoiser import Denoiser
from unclip_jax.diffusion.process import at_least_float32
from unclip_jax.diffusion.schedules import CLEAN, Level, Schedule, check_steps


def ddim_invert_step(
    x_t: Float[Array, " b *d"], eps: Float[Array, " b *d"], t: Level, s: Level
) -> Float[Array, " b *d"]:
    """Carries x_t to any other level along a given eps (Dhariwal & Nichol 2021, appendix F).

        x_s = alpha_s (x_t - sigma_t eps) / alpha_t + sigma_s eps

    DDIM's deterministic step stated in eps, so that it can also leave the clean level.
    """
    x_t = at_least_float32(x_t)
    t, s = t.expand(x_t.ndim), s.expand(x_t.ndim)
    eps = eps.astype(x_t.dtype)
    return s.alpha * ((x_t - t.sigma * eps) / t.alpha) + s.sigma * eps


def inversion_transitions(
    steps: Sequence[int] | np.ndarray, num_steps: int, *, skip_last: bool = False
) -> np.ndarray:
    """Lists the transitions of `ddim_invert`: int32 rows (level of x, t to ask at, level after).

    Args:
        steps: the sampling list, in either direction.
        skip_last: leave out the transition to the noisiest step, which reconstructs better
            (Dhariwal & Nichol 2021, appendix F); the latent then is at the second step of the
            descending list, where sampling must begin: `sample_loop(..., steps=descending[1:])`.
    """
    ascending = np.sort(check_steps(steps, num_steps))
    if skip_last:
        if len(ascending) < 2:
            raise ValueError("skip_last leaves nothing of a list of one step")
        ascending = ascending[:-1]
    query_t = np.append(ascending[0], ascending[:-1])
    return np.stack([np.append(CLEAN, ascending[:-1]), query_t, ascending], 1).astype(np.int32)


def invert_along(
    denoise: Denoiser,
    x: Float[Array, " b *d"],
    transitions: Int[Array, "n 3"] | Int[np.ndarray, "n 3"],
    schedule: Schedule,
    *,
    refinements: int = 0,
    span: tuple[int | Int[Array, ""], int | Int[Array, ""]] | None = None,
) -> Float[Array, " b *d"]:
    """Runs `inversion_transitions` in one loop; a run cut into chunks is the same.

    Args:
        span: (first transition, the one to stop before) of a run in parts; both may be traced, so
            that one compilation serves parts of whatever length. None is all of them.
        refinements: times each transition is made again with the eps found where it ended:
            fixed-point iterations of the sampling step's own equation,
            x_t = ddim_step(x_s, eps(x_s)).
    """
    x = at_least_float32(x)

    def eps_at(x: Float[Array, " b *d"], t: Int[Array, ""]) -> Float[Array, " b *d"]:
        level = schedule.level(t, x.dtype)
        estimate = denoise(x, jnp.full(x.shape[:1], t)).x0.astype(x.dtype)
        return (x - level.alpha * estimate) / level.sigma

    transitions = jnp.asarray(transitions, jnp.int32)

    def body(index: Int[Array, ""], x: Float[Array, " b *d"]) -> Float[Array, " b *d"]:
        here, query_t, there = transitions[index]
        t, s = schedule.level(here, x.dtype), schedule.level(there, x.dtype)
        moved = ddim_invert_step(x, eps_at(x, query_t), t, s)
        for _ in range(refinements):
            moved = ddim_invert_step(x, eps_at(moved, there), t, s)
        return moved

    start, stop = (0, len(transitions)) if span is None else span
    return jax.lax.fori_loop(start, stop, body, x)


def ddim_invert(
    denoise: Denoiser,
    x0: Float[Array, " b *d"],
    *,
    schedule: Schedule,
    steps: Sequence[int] | np.ndarray,
    skip_last: bool = False,
    refinements: int = 0,
) -> Float[Array, " b *d"]:
    """Encodes data into the latent that deterministic DDIM over the same `steps` decodes.

    Goes clean -> t_1 -> ... -> t_n, each transition along the eps estimated where it starts
    (Dhariwal & Nichol 2021, appendix F); no network knows the clean level, so the first transition
    asks it at t_1.

    Args:
        steps: as of `inversion_transitions`.
        skip_last: as of `inversion_transitions`.
        refinements: as of `invert_along`.
    """
    transitions = inversion_transitions(steps, schedule.num_steps, skip_last=skip_last)
    return invert_along(denoise, x0, transitions, schedule, refinements=refinements)
