"""Few-step distillation: targets for a student whose step spans several DDIM steps of a teacher.

Progressive distillation (Salimans & Ho 2022) with one teacher throughout: where theirs replaces the
teacher by the student after each halving of the steps, ours takes 2, 4, 8, ... of its steps, so
that no student learns the error of another and no teacher has to be kept in a checkpoint.

Notation: a step of the student goes from level t to level e, past levels t = l_0, l_1, ..., l_K = e
of the teacher, whose estimates of x_0 there are m_0, ..., m_{K-1}.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from unclip_jax.diffusion.denoiser import Denoiser
from unclip_jax.diffusion.process import at_least_float32
from unclip_jax.diffusion.samplers import ddim_step
from unclip_jax.diffusion.schedules import CLEAN, Schedule, expand


def student_steps(steps: Sequence[int] | np.ndarray, span: int) -> np.ndarray:
    """Returns every `span`-th of the teacher's timesteps, those that the student visits.

    Raises:
        ValueError: the span does not divide their number.
    """
    if len(steps) % span:
        raise ValueError(f"{len(steps)} steps are no multiple of {span}")
    return np.asarray(steps)[::span]


def halving_steps(
    total: int, *, first_span: int, last_span: int, last_share: float
) -> tuple[int, ...]:
    """Returns the training steps at which the span doubles, ascending.

    The last span has `last_share` of all steps; the others share the rest evenly.
    """
    halvings = (last_span // first_span).bit_length() - 1
    early = total * (1.0 - last_share)
    return tuple(round(early * (i + 1) / halvings) for i in range(halvings))


def span_at(step: Int[Array, ""] | int, halvings: Sequence[int], first_span: int) -> Int[Array, ""]:
    """Returns the span of a training step: the first one, doubled at each of `halvings` so far."""
    done = jnp.sum(jnp.asarray(step) >= jnp.asarray(halvings, jnp.int32), dtype=jnp.int32)
    return jnp.left_shift(jnp.int32(first_span), done)


def distilled_x0(
    teacher: Denoiser,
    x_t: Float[Array, " b *d"],
    start: Int[Array, " b"],
    span: Int[Array, ""],
    *,
    steps: Sequence[int] | np.ndarray,
    schedule: Schedule,
    most: int,
) -> Float[Array, " b *d"]:
    """Returns the x_0 with which one DDIM step ends where `span` DDIM steps of the teacher end.

        x_0 = (x_e - (sigma_e / sigma_t) x_t) / (alpha_e - (sigma_e / sigma_t) alpha_t)

    (Salimans & Ho 2022, appendix G). A DDIM step moves x / sigma by x_0 times the rise of
    alpha / sigma, so this is the mean of the teacher's m_i, each weighted by the rise of its step.
    It is computed as that running mean, in ratios r = sigma / alpha, which loses no digits, has the
    teacher's last estimate where e is clean, and never leaves the teacher's bounds:

        mean_i = mean_{i-1} + (1 - r_{i+1} / r_i) / (1 - r_{i+1} / r_0) (m_i - mean_{i-1})

    Args:
        teacher: already guided and limited.
        start: where in `steps` x_t lies.
        span: teacher's steps, at most `most`; the work is that of `span` evaluations.
        steps: the teacher's timesteps, descending; clean data comes after the last.
    """
    x_t = at_least_float32(x_t)
    visited = jnp.asarray(np.append(np.asarray(steps), CLEAN), jnp.int32)
    first = schedule.level(visited[start], x_t.dtype)

    def advance(
        carry: tuple[Float[Array, " b *d"], Float[Array, " b *d"]], i: Int[Array, ""]
    ) -> tuple[Float[Array, " b *d"], Float[Array, " b *d"]]:
        x, mean = carry
        here, after = visited[start + i], visited[start + i + 1]
        t, s = schedule.level(here, x.dtype), schedule.level(after, x.dtype)
        x0 = teacher(x, here).x0.astype(x.dtype)
        share = (1.0 - s.ratio / t.ratio) / (1.0 - s.ratio / first.ratio)
        return ddim_step(x, x0, t, s), mean + expand(share, x.ndim) * (x0 - mean)

    def body(
        carry: tuple[Float[Array, " b *d"], Float[Array, " b *d"]], i: Int[Array, ""]
    ) -> tuple[tuple[Float[Array, " b *d"], Float[Array, " b *d"]], None]:
        # A scan of fixed length, whose work can be counted; what lies past the span is skipped.
        return jax.lax.cond(i < span, advance, lambda carry, i: carry, carry, i), None

    carry = (x_t, jnp.zeros_like(x_t))
    (_, mean), _ = jax.lax.scan(body, carry, jnp.arange(most, dtype=jnp.int32))
    return mean


def truncated_snr(t: Int[Array, " b"], schedule: Schedule) -> Float[Array, " b"]:
    """Weight of the squared error of x_0: max(SNR, 1) (Salimans & Ho 2022, sec. 4)."""
    return jnp.asarray(np.maximum(schedule.snr, 1.0))[t]
