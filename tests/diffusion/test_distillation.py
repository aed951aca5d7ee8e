"""Targets and schedule of few-step distillation, against closed forms for Gaussian data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import oracles
from tests.diffusion.gaussian import MU, S2, exact_denoiser
from unclip_jax.diffusion.config import DiffusionConfig
from unclip_jax.diffusion.distillation import (
    distilled_x0,
    halving_steps,
    span_at,
    student_steps,
    truncated_snr,
)
from unclip_jax.diffusion.schedules import make_schedule

SCHEDULE = make_schedule("cosine", 1000)
STEPS = (999, 870, 760, 610, 500, 333, 170, 40)
BAR = np.append(SCHEDULE.alpha_bar[list(STEPS)], 1.0)  # the last level is clean


def target(x, start, span, prediction="v"):
    """The code's target at float32 x [n], all of one start and span."""
    teacher = exact_denoiser(SCHEDULE, DiffusionConfig(prediction=prediction))
    options = {"steps": STEPS, "schedule": SCHEDULE, "most": 4}

    @jax.jit
    def run(x, start, span):
        return distilled_x0(teacher, x, start, span, **options)

    x = jnp.asarray(x, jnp.float32)[:, None]
    return np.asarray(run(x, jnp.full(x.shape[0], start), jnp.int32(span)))[:, 0]


def salimans_ho(x, start, span):
    """Teacher's DDIM steps in float64, then the x_0 of one step to the same end (appendix G)."""
    alpha, sigma = np.sqrt(BAR), np.sqrt(1.0 - BAR)
    end = np.asarray(x, np.float64)
    for i in range(start, start + span):
        slope, offset = oracles.gaussian_x0(BAR[i], MU, S2)
        x0 = slope * end + offset
        end = alpha[i + 1] * x0 + sigma[i + 1] / sigma[i] * (end - alpha[i] * x0)
    ratio = sigma[start + span] / sigma[start]
    return (end - ratio * x) / (alpha[start + span] - ratio * alpha[start])


@pytest.mark.parametrize("prediction", ["x0", "v", "eps"])
def test_the_target_of_two_steps_is_the_closed_form(prediction):
    x = np.linspace(-2.0, 3.0, 7)
    start = 2 if prediction == "eps" else 0  # eps has no x_0 at t = 999
    np.testing.assert_allclose(
        target(x, start, 2, prediction), salimans_ho(x, start, 2), rtol=2e-5, atol=2e-6
    )


@pytest.mark.parametrize(("start", "span"), [(3, 1), (6, 2), (4, 4), (1, 4)])
def test_the_target_of_any_span_is_the_closed_form(start, span):
    """The last steps end at clean data; a span shorter than the scan leaves the rest out."""
    x = np.linspace(-2.0, 3.0, 7)
    np.testing.assert_allclose(
        target(x, start, span), salimans_ho(x, start, span), rtol=2e-5, atol=2e-6
    )


def test_a_student_that_meets_its_targets_samples_as_its_teacher():
    """Two DDIM steps with the targets of spans of 4 are the teacher's eight."""
    x = np.array([0.0, 1.0])
    alpha, sigma = np.sqrt(BAR), np.sqrt(1.0 - BAR)
    assert student_steps(STEPS, 4).tolist() == [999, 500]
    for start in (0, 4):
        x0, end = target(x, start, 4), start + 4
        x = alpha[end] * x0 + sigma[end] / sigma[start] * (x - alpha[start] * x0)
    constant, slope, *_ = oracles.ddim_chain(BAR[:-1], MU, S2, 0.0)
    np.testing.assert_allclose(x, [constant, constant + slope], atol=1e-5)


def test_the_span_doubles_at_even_parts_of_the_early_share():
    """Of 100 steps 1, 2 and 4 share the first 60; the finished span of 8 has the last 40."""
    halvings = halving_steps(100, first_span=1, last_span=8, last_share=0.4)
    assert halvings == (20, 40, 60)
    spans = [int(span_at(step, halvings, 1)) for step in (0, 19, 20, 39, 40, 59, 60, 99, 200)]
    assert spans == [1, 1, 2, 2, 4, 4, 8, 8, 8]
    assert halving_steps(100, first_span=2, last_span=8, last_share=0.5) == (25, 50)
    assert int(span_at(50, (25, 50), 2)) == 8
    assert halving_steps(100, first_span=2, last_span=2, last_share=0.5) == ()
    assert int(span_at(7, (), 2)) == 2


def test_the_weight_is_the_snr_but_at_least_one():
    bar = oracles.cosine_alpha_bar(1000)
    t = np.array([10, 300, 700, 999])
    wanted = np.maximum(bar[t] / (1.0 - bar[t]), 1.0)
    assert wanted[-1] == 1.0 and wanted[0] > 100
    np.testing.assert_allclose(truncated_snr(jnp.asarray(t), SCHEDULE), wanted, rtol=1e-5)


def test_steps_that_cannot_be_divided_are_refused():
    with pytest.raises(ValueError, match="9 steps are no multiple of 2"):
        student_steps(range(9), 2)
