"""Inversion of DDIM on Gaussian data: the exact flow, and the way back by sampling."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests import oracles
from tests.diffusion.gaussian import MU, S2, exact_denoiser
from unclip_jax.diffusion.config import DiffusionConfig, SamplingConfig
from unclip_jax.diffusion.inversion import ddim_invert, inversion_transitions
from unclip_jax.diffusion.samplers import sample_loop
from unclip_jax.diffusion.schedules import CLEAN, make_schedule, respaced_steps

SCHEDULE = make_schedule("cosine", 1000)


def test_transitions_go_from_the_data_to_the_noisiest_step():
    rows = [[CLEAN, 7, 7], [7, 7, 60], [60, 60, 400]]
    for steps in ([400, 60, 7], [7, 60, 400]):
        assert inversion_transitions(steps, 1000).tolist() == rows
        assert inversion_transitions(steps, 1000, skip_last=True).tolist() == rows[:-1]
    with pytest.raises(ValueError, match="skip_last"):
        inversion_transitions([5], 1000, skip_last=True)


@pytest.mark.parametrize("skip_last", [False, True])
def test_invert_then_sample_returns_the_data(skip_last):
    """The error at least nearly halves with each doubling of steps, and is small at 400."""
    cfg = DiffusionConfig()
    denoise = exact_denoiser(SCHEDULE, cfg)
    x = jnp.array([[0.1], [0.7], [1.4]])
    errors = []
    for count in (50, 100, 200, 400):
        steps = respaced_steps(1000, count)
        latent = ddim_invert(denoise, x, schedule=SCHEDULE, steps=steps, skip_last=skip_last)
        back = sample_loop(
            denoise,
            latent,
            schedule=SCHEDULE,
            config=SamplingConfig(sampler="ddim"),
            diffusion=cfg,
            noise=lambda i, shape: jnp.zeros(shape),
            steps=steps[1:] if skip_last else steps,
        )
        errors.append(float(jnp.max(jnp.abs(back - x))))
    assert np.all(np.divide(errors[:-1], errors[1:]) > 1.6), errors
    assert errors[-1] < 0.01


def test_inverted_latent_lies_on_the_flow():
    """The latent of a point is where the exact ODE carries it."""
    cfg = DiffusionConfig()
    x = jnp.array([[0.1], [0.7], [1.4]])
    steps = respaced_steps(1000, 1000)[::-1][:900]
    latent = ddim_invert(exact_denoiser(SCHEDULE, cfg), x, schedule=SCHEDULE, steps=steps)
    truth = oracles.flow(np.asarray(x), 1.0, SCHEDULE.alpha_bar[899], MU, S2)
    np.testing.assert_allclose(latent, truth, atol=0.02)


def test_refined_inversion_is_exact():
    """Fixed-point iterations solve the sampling step's equation, whatever the number of levels."""
    cfg = DiffusionConfig(prediction="x0")
    denoise = exact_denoiser(SCHEDULE, cfg)
    x = jnp.array([[0.1], [0.7], [1.4]])
    steps = respaced_steps(1000, 40)[:-4]  # the iteration contracts where a step is small
    errors = []
    for refinements in (0, 1, 8):
        latent = ddim_invert(
            denoise, x, schedule=SCHEDULE, steps=steps, skip_last=True, refinements=refinements
        )
        back = sample_loop(
            denoise,
            latent,
            schedule=SCHEDULE,
            config=SamplingConfig(sampler="ddim"),
            diffusion=cfg,
            noise=lambda i, shape: jnp.zeros(shape),
            steps=steps[1:],
        )
        errors.append(float(jnp.abs(back - x).max()))
    assert errors[2] < 0.05 * errors[1] < 0.05 * errors[0], errors
