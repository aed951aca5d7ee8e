"""Schedules and step lists against published values and the defining formulas."""

import numpy as np
import pytest

from tests.oracles import cosine_alpha_bar
from unclip_jax.diffusion.config import SamplingConfig
from unclip_jax.diffusion.schedules import CLEAN, Schedule, make_schedule, respaced_steps
from unclip_jax.diffusion.timesteps import sampling_steps, spread_timesteps


def test_cosine_values():
    schedule = make_schedule("cosine", 1000)
    np.testing.assert_allclose(
        schedule.beta[[0, 500, 999]], [4.128422e-05, 3.155691e-03, 0.999], rtol=2e-7
    )
    np.testing.assert_allclose(
        schedule.alpha_bar[[500, 998, 999]], [0.492285, 2.428767e-06, 2.428767e-09], rtol=6e-7
    )
    np.testing.assert_allclose(schedule.alpha_bar, cosine_alpha_bar(1000), rtol=1e-12)


def test_linear_values():
    schedule = make_schedule("linear", 1000)
    np.testing.assert_allclose(schedule.beta[[0, 999]], [1e-4, 0.02], rtol=1e-9)
    np.testing.assert_allclose(schedule.alpha_bar[[500, 999]], [0.0777967, 4.0358e-05], rtol=1e-5)


def test_other_lengths_keep_the_end():
    for name in ("cosine", "linear"):
        short, long = make_schedule(name, 200), make_schedule(name, 1000)
        np.testing.assert_allclose(short.alpha_bar[99], long.alpha_bar[499], rtol=3e-2)


def test_openai_step_lists():
    assert respaced_steps(1000, 7).tolist() == [999, 832, 666, 500, 333, 166, 0]
    steps = respaced_steps(1000, 64)[::-1]
    assert steps[:6].tolist() == [0, 16, 32, 48, 63, 79]
    assert steps[-3:].tolist() == [967, 983, 999]
    steps = respaced_steps(1000, 250)[::-1]
    assert len(steps) == 250
    assert steps[:3].tolist() == [0, 4, 8]
    assert steps[-3:].tolist() == [991, 995, 999]
    assert respaced_steps(1000, 1000)[::-1].tolist() == list(range(1000))
    assert respaced_steps(1000, 1).tolist() == [999]


def test_glide_sections():
    steps = respaced_steps(1000, [10, 10, 3, 2, 2])[::-1].tolist()
    assert len(steps) == 27
    assert steps[:2] == [0, 22]
    assert steps[8:11] == [177, 199, 200]
    assert steps[18:] == [377, 399, 400, 500, 599, 600, 799, 800, 999]


def test_karlo_respaced_process():
    """Karlo's seven-step upsampler: its respaced betas and posterior variances."""
    steps = np.sort(respaced_steps(1000, 7))
    assert steps.tolist() == [0, 166, 333, 500, 666, 832, 999]
    short = Schedule(make_schedule("cosine", 1000).alpha_bar[steps])
    beta = [4.128e-05, 0.07236, 0.20011, 0.33652, 0.50029, 0.73081, 1.0]
    np.testing.assert_allclose(short.beta, beta, rtol=2e-4)
    before = np.append(1.0, short.alpha_bar[:-1])
    variance = short.beta * (1.0 - before) / (1.0 - short.alpha_bar)
    expected = [0.0, 4.126e-05, 0.05615, 0.17102, 0.33688, 0.59011, 0.93378]
    np.testing.assert_allclose(variance, expected, rtol=2e-4)


def test_levels_and_the_clean_one():
    schedule = make_schedule("linear", 50)
    level = schedule.level(np.array([0, 49, CLEAN]), np.float64)
    np.testing.assert_allclose(level.alpha**2 + level.sigma**2, 1.0, rtol=1e-15)
    np.testing.assert_allclose(level.alpha[:2] ** 2, schedule.alpha_bar[[0, 49]], rtol=1e-14)
    assert (float(level.alpha[2]), float(level.sigma[2])) == (1.0, 0.0)


@pytest.mark.parametrize("steps", [(0, 5), (5, 5), (50,), (-1,), ()])
def test_bad_step_lists_are_refused(steps):
    with pytest.raises(ValueError):
        sampling_steps(SamplingConfig(step_list=steps), 50)


def test_held_out_timesteps_are_stratified():
    assert spread_timesteps(4, 1000).tolist() == [125, 375, 625, 875]
