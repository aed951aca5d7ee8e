"""The task that trains a few-step student of a decoder or an upsampler.

The student's estimate of x_0 at a timestep of its own is drawn to the x_0 with which one DDIM step
ends where several guided steps of the teacher end (diffusion/distillation.py). Conditions are
dropped as in any training, and the teacher is guided whatever is left, so the student has the
guidance in its weights for each of them (Meng et al. 2023, at one scale).
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from unclip_jax.core.types import Cond, Params
from unclip_jax.diffusion.denoiser import Denoiser, read_output
from unclip_jax.diffusion.distillation import (
    distilled_x0,
    halving_steps,
    span_at,
    truncated_snr,
)
from unclip_jax.diffusion.losses import LossTerms, mean_flat
from unclip_jax.diffusion.process import convert, q_sample
from unclip_jax.diffusion.schedules import make_schedule
from unclip_jax.diffusion.timesteps import spread_timesteps
from unclip_jax.models.clip import Clip
from unclip_jax.models.denoising import prepare, prepared_network, stage_denoiser
from unclip_jax.models.stages import StageSpec
from unclip_jax.train.config import TrainConfig
from unclip_jax.train.task import Batch, Keys, Metrics, StepConstants, Task, weighted
from unclip_jax.train.tasks.diffusion import (
    NOISE,
    QUARTILES,
    TIME,
    loss_metrics,
    make_inputs,
    purpose_keys,
)


def make_distill_task(
    spec: StageSpec, module: nn.Module, train_cfg: TrainConfig, clip: Clip | None
) -> Task:
    """Returns the task of a student, whose teacher is `StepConstants.frozen`."""
    inputs, names = make_inputs(spec, train_cfg, clip)
    schedule = make_schedule(spec.diffusion.schedule, spec.diffusion.num_steps)
    distill = train_cfg.distill
    steps, first, last = distill.step_list, distill.first_span, distill.last_span
    halvings = halving_steps(
        train_cfg.steps, first_span=first, last_span=last, last_share=distill.last_share
    )
    teacher_of = make_teacher(spec, module, train_cfg)

    def loss(
        params: Params, constants: StepConstants, batch: Batch, keys: Keys, train: bool
    ) -> tuple[Float[Array, ""], Metrics]:
        x0, cond = inputs(params, constants, batch, keys, train)
        rows = x0.shape[0]
        if keys.step is None:  # held-out data: as the finished student
            span = jnp.int32(last)
            start = jnp.asarray(spread_timesteps(rows, len(steps) // last)) * last
        else:
            span = span_at(keys.step, halvings, first)
            start = draw_starts(keys, len(steps), span)
        t = jnp.asarray(steps, jnp.int32)[start]
        noise = jax.vmap(lambda key: jax.random.normal(key, x0.shape[1:]))(
            purpose_keys(keys, NOISE)
        )
        x_t = q_sample(x0, t, noise, schedule)
        target = distilled_x0(
            teacher_of(constants, cond),
            x_t,
            start,
            span,
            steps=steps,
            schedule=schedule,
            most=max(first, last),
        )
        output = module.apply({"params": params}, x_t, t, cond, False)  # a target has no dropout
        prediction, _ = read_output(output.astype(x_t.dtype), x_t.shape[-1], spec.diffusion)
        level = schedule.level(t, x_t.dtype)
        own = convert(prediction, x_t, level, source=spec.diffusion.prediction, target="x0")
        mse = mean_flat((own - jax.lax.stop_gradient(target)) ** 2)
        terms = LossTerms(loss=truncated_snr(t, schedule) * mse, mse=mse, vb=None)
        metrics = loss_metrics(terms, t, schedule.num_steps)
        return terms.loss.mean(), metrics | {"span": weighted(span, rows)}

    return Task(spec.row.key_id, ("loss", "mse", *QUARTILES, "span"), loss, names)


def draw_starts(keys: Keys, count: int, span: Int[Array, ""]) -> Int[Array, " b"]:
    """Draws where among the teacher's `count` timesteps a step of the student starts, by row."""
    draw = lambda key: span * jax.random.randint(key, (), 0, count // span)  # noqa: E731
    return jax.vmap(draw)(purpose_keys(keys, TIME))


def make_teacher(spec: StageSpec, module: nn.Module, train_cfg: TrainConfig):
    """Returns f(constants, cond) -> the teacher's guided and limited denoiser.

    Args:
        spec: the student's, which differs from the teacher's in what is predicted.
    """
    distill = train_cfg.distill
    prediction = distill.teacher_prediction(spec.diffusion.prediction)
    diffusion = dataclasses.replace(spec.diffusion, prediction=prediction)
    teacher = dataclasses.replace(spec, diffusion=diffusion)
    scale = None if distill.guidance == 1.0 else distill.guidance
    network = prepared_network(module)

    def teacher_of(constants: StepConstants, cond: Cond) -> Denoiser:
        prepared = prepare(
            network,
            constants.frozen,
            cond,
            is_guided=scale is not None,
            uncond_text=constants.empty,
        )
        return stage_denoiser(
            teacher, network, constants.frozen, prepared, scale=scale, limits=spec.sampling
        )

    return teacher_of
