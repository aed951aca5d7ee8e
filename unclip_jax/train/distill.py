"""From the config of a few-step student to that of its run, and the teacher it learns from.

`config.sampling` says how the teacher is sampled. A run keeps the teacher's timesteps and guidance
in `config.train.distill`, and the student's own settings in `config.sampling`: every so many of
these timesteps, ddim, guidance 1. So the stage of a bundle is sampled like any other.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from unclip_jax.checkpoint import bundle
from unclip_jax.checkpoint.runs import params_digest
from unclip_jax.core.config import build, to_dict
from unclip_jax.core.errors import UserError
from unclip_jax.diffusion.config import DiffusionConfig, SamplingConfig
from unclip_jax.diffusion.distillation import student_steps
from unclip_jax.diffusion.schedules import check_steps
from unclip_jax.diffusion.timesteps import sampling_steps
from unclip_jax.models.stages import STAGES, StageSpec
from unclip_jax.train.config import DistillConfig
from unclip_jax.train.frozen_stage import FrozenStage
from unclip_jax.train.throughput import with_remat

TEACHER = "teacher"
"""Name of the digest of the teacher's parameters in a run's record."""


def with_student(config: Mapping[str, Any], *, needs_teacher: bool = True) -> Mapping[str, Any]:
    """Returns the config of a student with its sampling settings, any other config as it is.

    Args:
        needs_teacher: whether the config must name the bundle of the teacher.

    Raises:
        UserError: what the config asks for cannot be distilled.
    """
    train = config.get("train")
    if not isinstance(train, Mapping) or "distill" not in train:
        return config
    distill = build(DistillConfig, train["distill"], "train.distill")
    if not distill.halvings:
        return config
    _check_stage(config.get("stage"))
    if needs_teacher and not config.get("init_from"):
        raise UserError(
            "a few-step student needs its teacher: pass --config.init_from=BUNDLE (unclip export "
            "RUN)"
        )
    diffusion = build(DiffusionConfig, config.get("diffusion"), "diffusion")
    _check_prediction(diffusion, distill)
    teacher = build(SamplingConfig, config.get("sampling"), "sampling")
    if (distill.step_list, distill.guidance) != (None, None):
        _check_written(distill, teacher, diffusion.num_steps)
        return config
    _check_teacher(teacher)
    try:
        steps = sampling_steps(teacher, diffusion.num_steps)
    except ValueError as error:
        raise UserError(f"config.sampling: {error}") from error
    if len(steps) % distill.last_span:
        raise UserError(
            f"config.sampling has {len(steps)} steps, which cannot be halved "
            f"{distill.halvings} times: pass --config.sampling.steps=N with a multiple of "
            f"{distill.last_span}"
        )
    own = student_steps(steps, distill.last_span)
    learned = {"step_list": steps.tolist(), "guidance": teacher.guidance}
    changes = {"steps": len(own), "step_list": own.tolist(), "guidance": 1.0}
    sampling = to_dict(teacher) | changes | {"distilled_guidance": teacher.guidance}
    return {
        **config,
        "train": {**train, "distill": to_dict(distill) | learned},
        "sampling": sampling,
    }


def _check_stage(stage: Any) -> None:
    row = STAGES.get(stage) if isinstance(stage, str) else None
    if row is not None and not (row.is_diffused and row.kind in ("decoder", "upsampler")):
        able = [name for name, row in STAGES.items() if row.is_diffused and not row.gives_embedding]
        raise UserError(f"config.train.distill is for {', '.join(able)}, not for stage {stage}")


def _check_prediction(diffusion: DiffusionConfig, distill: DistillConfig) -> None:
    """Refuses a student of the noise, and one that changes what it predicts in one leap."""
    if diffusion.prediction == "eps":
        raise UserError(
            "config.diffusion.prediction='eps' has no x_0 in strong noise, where a few-step "
            "student needs it most: pass --config.diffusion.prediction=v, and the teacher's as "
            "--config.train.distill.prediction=eps"
        )
    given = distill.teacher_prediction(diffusion.prediction)
    if given != diffusion.prediction and distill.first_span != 1:
        raise UserError(
            f"a student that predicts {diffusion.prediction} in place of its teacher's {given} "
            "first learns single steps: pass --config.train.distill.first_span=1"
        )


def _check_written(distill: DistillConfig, own: SamplingConfig, num_steps: int) -> None:
    """Refuses a student's steps and guidance that are not those that a run has written down."""
    try:
        steps = check_steps(distill.step_list or (), num_steps)
        fits = student_steps(steps, distill.last_span).tolist() == list(own.step_list or ())
    except ValueError:
        fits = False
    if not fits or own.distilled_guidance != distill.guidance:
        raise UserError(
            "config.train.distill.step_list and .guidance are filled in by a run: leave them None, "
            "and set config.sampling, which says how the teacher is sampled"
        )


def _check_teacher(sampling: SamplingConfig) -> None:
    """Refuses a way of sampling that a student's single steps could not follow."""
    needed = {"sampler": "ddim", "eta": 0.0, "guidance_interval": None}
    for name, value in needed.items():
        if getattr(sampling, name) != value:
            raise UserError(
                f"config.sampling.{name}={getattr(sampling, name)!r}: a student learns from "
                f"deterministic steps guided at all levels; pass --config.sampling.{name}={value}"
            )


def load_teacher(spec: StageSpec, name: str, distill: DistillConfig) -> FrozenStage:
    """Loads the network that a student starts from and learns from.

    Args:
        spec: the student's.
        name: of the bundle.

    Raises:
        UserError: the bundle's stage is another network, diffuses in another way or is itself a
            student.
    """
    found = bundle.load(name, stages=[spec.stage]).stage(spec.stage)
    given, where = found.spec, f"the {spec.stage} in {name}"
    if getattr(given.sampling, "distilled_guidance", None) is not None:
        raise UserError(f"{where} is a student already: distill the bundle that it learned from")
    same = with_remat(given.model, "none") == with_remat(spec.model, "none")
    if not same or given.norm != spec.norm:
        raise UserError(
            f"{where} has other sizes than config.model or config.embedding_norm, which a student "
            "shares with its teacher: set them to its config"
        )
    prediction = distill.teacher_prediction(spec.diffusion.prediction)
    if given.diffusion.prediction != prediction:
        raise UserError(
            f"{where} predicts {given.diffusion.prediction}, not {prediction}: pass "
            f"--config.train.distill.prediction={given.diffusion.prediction}"
        )
    for field in ("schedule", "num_steps"):
        own, other = getattr(spec.diffusion, field), getattr(given.diffusion, field)
        if own != other:
            raise UserError(f"{where} has {field}={other}: pass --config.diffusion.{field}={other}")
    return FrozenStage(jax.tree.map(jnp.asarray, found.params), params_digest(found.params))
