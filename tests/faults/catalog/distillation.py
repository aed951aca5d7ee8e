"""Planted faults of few-step distillation: target, schedule, guidance."""

from tests.faults.catalog import Fault, faults_in

UNIT = "tests/diffusion/test_distillation.py"
TRAIN = "tests/train/test_distill.py"

FAULTS: list[Fault] = [
    *faults_in(
        "unclip_jax/diffusion/distillation.py",
        (
            "student_learns_the_last_estimate_alone",
            "/ (1.0 - s.ratio / first.ratio)",
            "/ (1.0 - s.ratio / t.ratio)",
            f"{UNIT}::test_the_target_of_any_span_is_the_closed_form",
        ),
        (
            "teacher_goes_a_step_too_far",
            "jax.lax.cond(i < span,",
            "jax.lax.cond(i <= span,",
            f"{UNIT}::test_the_target_of_any_span_is_the_closed_form",
        ),
        (
            "span_doubles_a_step_late",
            "jnp.asarray(step) >= jnp",
            "jnp.asarray(step) > jnp",
            f"{UNIT}::test_the_span_doubles_at_even_parts_of_the_early_share",
        ),
        (
            "last_span_has_no_share_of_its_own",
            "total * (1.0 - last_share)",
            "total * 1.0",
            f"{UNIT}::test_the_span_doubles_at_even_parts_of_the_early_share",
        ),
        (
            "snr_weight_not_truncated",
            "np.maximum(schedule.snr, 1.0)",
            "np.minimum(schedule.snr, 1e9)",
            f"{UNIT}::test_the_weight_is_the_snr_but_at_least_one",
        ),
    ),
    *faults_in(
        "unclip_jax/train/tasks/distill.py",
        (
            "student_of_an_unguided_teacher",
            "scale = None if distill.guidance == 1.0 else distill.guidance",
            "scale = None",
            f"{TRAIN}::test_the_loss_is_that_of_the_guided_teachers_two_steps",
        ),
        (
            "student_of_an_unbounded_teacher",
            "limits=spec.sampling",
            "limits=None",
            f"{TRAIN}::test_the_loss_is_that_of_the_guided_teachers_two_steps",
        ),
        (
            "student_starts_anywhere",
            "span * jax.random.randint(key, (), 0, count // span)",
            "jax.random.randint(key, (), 0, count)",
            f"{TRAIN}::test_rows_start_at_timesteps_of_the_student",
        ),
    ),
    *faults_in(
        "unclip_jax/train/distill.py",
        (
            "student_is_guided_again",
            '"guidance": 1.0}',
            '"guidance": teacher.guidance}',
            f"{TRAIN}::test_a_student_takes_every_eighth_step_of_its_teacher_without_guidance",
        ),
    ),
]
