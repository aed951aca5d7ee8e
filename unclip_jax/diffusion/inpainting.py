"""Filling a part of an array with any denoiser: masked replacement with resampling (RePaint).

After every step the known part is replaced by the data, noised to the step's level; at intervals
the sample is noised back a few levels and denoised again, so that the filled part comes to agree
with the known one (Lugmayr et al. 2022, algorithm 1 and section 4.2).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from unclip_jax.diffusion.denoiser import Denoiser
from unclip_jax.diffusion.process import at_least_float32
from unclip_jax.diffusion.samplers import NoiseFn, ddim_step
from unclip_jax.diffusion.schedules import CLEAN, Level, Schedule, check_steps


def repaint_transitions(
    steps: Sequence[int] | np.ndarray, num_steps: int, *, jump: int, resamples: int
) -> np.ndarray:
    """Lists the transitions of a run: int32 rows (from level, to level), CLEAN at the end.

    Args:
        steps: the sampling list, descending.
        jump: levels gone back at a time; a list of at most so many levels has no jumps.
        resamples: times each stretch between jumps is denoised; 1 is without jumps.
    """
    if jump < 1 or resamples < 1:
        raise ValueError(f"{jump=} and {resamples=} must be at least 1")
    levels = np.append(check_steps(steps, num_steps), CLEAN)
    last = len(levels) - 2  # the least noisy level that still has noise
    left = {p: resamples - 1 for p in range(last, jump - 1, -jump)}
    transitions, here = [], 0
    while here <= last:
        if left.get(here, 0) > 0:
            left[here] -= 1
            transitions.append((levels[here], levels[here - jump]))
            here -= jump
        transitions.append((levels[here], levels[here + 1]))
        here += 1
    return np.asarray(transitions, np.int32)


def renoise(
    x: Float[Array, " b *d"], t: Level, s: Level, noise: Float[Array, " b *d"]
) -> Float[Array, " b *d"]:
    """Takes x from level t to the noisier level s by the forward process q(x_s | x_t).

    x_s = r x_t + sqrt(sigma_s^2 - r^2 sigma_t^2) noise,   r = alpha_s / alpha_t
    """
    t, s = t.expand(x.ndim), s.expand(x.ndim)
    r = s.alpha / t.alpha
    return r * x + jnp.sqrt(jnp.maximum(s.sigma**2 - (r * t.sigma) ** 2, 0.0)) * noise


def repaint_along(
    denoise: Denoiser,
    x: Float[Array, " b *d"],
    known: Float[Array, " b *d"],
    fill: Bool[Array, " b *d"],
    transitions: Int[Array | np.ndarray, "n 2"],
    schedule: Schedule,
    noise: NoiseFn,
    *,
    span: tuple[int | Int[Array, ""], int | Int[Array, ""]] | None = None,
) -> Float[Array, " b *d"]:
    """Runs `repaint_transitions` in one loop, with DDIM at eta 1 as the step downwards.

    Args:
        known: clean data, kept where `fill` is False.
        noise: called with 2 i and 2 i + 1 for transition i.
        span: (first transition, the one to stop before) of a run in parts; both may be traced, so
            that one compilation serves parts of whatever length. None is all of them.
    """
    x = at_least_float32(x)

    def down(x: Array, index: Array, a: Array, t: Level, s: Level) -> Array:
        estimate = denoise(x, jnp.full(x.shape[:1], a)).x0.astype(x.dtype)
        made = ddim_step(x, estimate, t, s, noise(2 * index, x.shape), eta=1.0)
        level = s.expand(x.ndim)
        kept = level.alpha * known + level.sigma * noise(2 * index + 1, x.shape)
        return jnp.where(fill, made, kept)

    def up(x: Array, index: Array, a: Array, t: Level, s: Level) -> Array:
        return renoise(x, t, s, noise(2 * index, x.shape))

    transitions = jnp.asarray(transitions, jnp.int32)

    def body(index: Int[Array, ""], x: Array) -> Array:
        a, b = transitions[index]
        t, s = schedule.level(a, x.dtype), schedule.level(b, x.dtype)
        return jax.lax.cond(b > a, up, down, x, index, a, t, s)

    start, stop = (0, len(transitions)) if span is None else span
    return jax.lax.fori_loop(start, stop, body, x)
