"""Every sampler on Gaussian data with the exact denoiser, against closed forms in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import oracles
from tests.diffusion.gaussian import MU, RAW_VARIANCE, S2, affine_form, exact_denoiser
from unclip_jax.diffusion.config import DiffusionConfig, SamplingConfig
from unclip_jax.diffusion.denoiser import Denoised
from unclip_jax.diffusion.dpm_solver import dpmpp_step, no_history
from unclip_jax.diffusion.samplers import (
    SAMPLERS,
    ddim_step,
    ddpm_step,
    init_state,
    make_plan,
    run_steps,
    sample_loop,
)
from unclip_jax.diffusion.schedules import Level, Schedule, make_schedule, respaced_steps

STEPS = (999, 830, 700, 555, 401, 250, 133, 60, 7)  # irregular, and not ending at 0
MOMENT_TOLERANCE = 1e-6
PREDICTIONS = ("eps", "x0", "v")
VARIANCES = ("fixed_small", "fixed_large", "learned_range", "analytic")
SCHEDULE = make_schedule("cosine", 1000)
BAR = SCHEDULE.alpha_bar[list(STEPS)]
FRACTION = (RAW_VARIANCE + 1.0) / 2.0


def check(form, expected):
    """The affine forms agree, and so do the moments from any start."""
    np.testing.assert_allclose(form, expected, rtol=0, atol=MOMENT_TOLERANCE)
    for start in ((0.0, 1.0), (1.5, 0.2)):
        got, want = oracles.moments(form, *start), oracles.moments(expected, *start)
        np.testing.assert_allclose(got, want, rtol=0, atol=MOMENT_TOLERANCE)


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_ddpm_moments(prediction, variance):
    cfg = DiffusionConfig(prediction=prediction, variance=variance)
    table = oracles.gaussian_x0_variance(SCHEDULE.alpha_bar, S2)
    form = affine_form(SCHEDULE, SamplingConfig(sampler="ddpm"), cfg, STEPS, table)
    check(form, oracles.ddpm_chain(BAR, MU, S2, variance, fraction=FRACTION))


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_ddim_moments(prediction, eta):
    cfg = DiffusionConfig(prediction=prediction)
    form = affine_form(SCHEDULE, SamplingConfig(sampler="ddim", eta=eta), cfg, STEPS)
    check(form, oracles.ddim_chain(BAR, MU, S2, eta))


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_dpmpp_moments(prediction):
    cfg = DiffusionConfig(prediction=prediction)
    form = affine_form(SCHEDULE, SamplingConfig(sampler="dpm++"), cfg, STEPS)
    check(form, oracles.dpmpp_2m_chain(BAR, MU, S2))


def test_linear_schedule_and_learned_variance_under_ddim():
    schedule = make_schedule("linear", 400)
    steps = respaced_steps(400, 10)
    cfg = DiffusionConfig(schedule="linear", num_steps=400, variance="learned_range")
    form = affine_form(schedule, SamplingConfig(sampler="ddim", eta=0.5), cfg, steps)
    check(form, oracles.ddim_chain(schedule.alpha_bar[steps], MU, S2, 0.5))


CHAINS = {
    "ddpm": lambda levels: oracles.ddpm_chain(levels, MU, S2, "fixed_small"),
    "ddim": lambda levels: oracles.ddim_chain(levels, MU, S2, 0.0),
    "dpm++": lambda levels: oracles.dpmpp_2m_chain(levels, MU, S2),
}
"""The clean sample of every sampler as an affine form, from its levels of alpha_bar."""


@pytest.mark.parametrize("steps", [STEPS, (999,), (0,), (999, 998), (500, 0)])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_on_long_and_short_lists(sampler, steps):
    form = affine_form(SCHEDULE, SamplingConfig(sampler=sampler), DiffusionConfig(), steps)
    check(form, CHAINS[sampler](SCHEDULE.alpha_bar[list(steps)]))


def test_analytic_variance_keeps_every_marginal():
    """With the optimal variance the chain has exactly q's marginals, whatever the step count."""
    cfg = DiffusionConfig(prediction="x0", variance="analytic")
    table = oracles.gaussian_x0_variance(SCHEDULE.alpha_bar, S2)
    config = SamplingConfig(sampler="ddpm", step_list=STEPS)
    plan = make_plan(SCHEDULE, config, cfg, variance_table=table)
    n = len(STEPS)
    x_init = jnp.eye(n + 2)[1][:, None]

    def noise(i, shape):
        return (jnp.arange(shape[0], dtype=jnp.int32) == i + 2).astype(x_init.dtype)[:, None]

    denoise = exact_denoiser(SCHEDULE, cfg)
    _, path = jax.jit(lambda x: run_steps(denoise, init_state(x), plan, noise, keep=True))(x_init)
    path = np.asarray(path)[..., 0]
    start = np.sqrt(BAR[0]) * MU, BAR[0] * S2 + 1.0 - BAR[0]
    for x, a in zip(path[:-1], BAR[1:], strict=True):
        form = np.concatenate([x[:1], x[1:] - x[0]])
        got = oracles.moments(form, *start)
        np.testing.assert_allclose(got, (np.sqrt(a) * MU, a * S2 + 1.0 - a), atol=1e-9)


def test_eta_one_is_ddpm_fixed_small():
    forms = [
        affine_form(SCHEDULE, config, DiffusionConfig(), STEPS)
        for config in (SamplingConfig(sampler="ddim", eta=1.0), SamplingConfig(sampler="ddpm"))
    ]
    np.testing.assert_allclose(*forms, atol=1e-9)


def test_strided_steps_equal_the_respaced_process():
    """All steps of the respaced schedule, asked at the original t, are the full one's strided."""
    kept = np.sort(STEPS)
    short = Schedule(SCHEDULE.alpha_bar[kept])
    cfg = DiffusionConfig()
    denoise_full = exact_denoiser(SCHEDULE, cfg)
    seen = []

    def denoise_short(x_t, t):
        seen.append(t)
        return denoise_full(x_t, jnp.asarray(kept)[t])

    x = jnp.linspace(-2.0, 2.0, 5)[:, None]

    def noise(i, shape):
        return jnp.full(shape, 0.3)

    config = SamplingConfig(sampler="ddpm")
    kwargs = {"config": config, "diffusion": cfg, "noise": noise}
    full = sample_loop(denoise_full, x, schedule=SCHEDULE, steps=STEPS, **kwargs)
    every = range(len(STEPS) - 1, -1, -1)
    strided = sample_loop(denoise_short, x, schedule=short, steps=list(every), **kwargs)
    np.testing.assert_allclose(strided, full, rtol=1e-9, atol=1e-9)
    assert len(seen) == 1  # one trace, so a scan


# Orders of convergence, on levels that are no schedule's: uniform in log-SNR.


def uniform_levels(count: int) -> tuple[Level, np.ndarray]:
    log_snr = np.linspace(-3.0, 3.0, count + 1)
    bar = 1.0 / (1.0 + np.exp(-2.0 * log_snr))
    return Level(alpha=jnp.sqrt(bar), sigma=jnp.sqrt(1.0 - bar)), bar


def exact_x0(x, level):
    variance = level.alpha**2 * S2 + level.sigma**2
    return (S2 * level.alpha * x + MU * level.sigma**2) / variance


def solve(method: str, count: int) -> float:
    levels, _ = uniform_levels(count)
    t, s = (jax.tree.map(lambda a, i=i: a[i : i + count], levels) for i in (0, 1))
    x = jnp.array([[1.2]])

    def body(carry, pair):
        x, before, level = carry
        t, s = pair
        x0 = exact_x0(x, t)
        x_s = ddim_step(x, x0, t, s) if method == "ddim" else dpmpp_step(x, x0, before, t, s, level)
        return (x_s, x0, t), None

    (x, _, _), _ = jax.lax.scan(body, (x, jnp.zeros_like(x), no_history(x)), (t, s))
    return float(x[0, 0])


@pytest.mark.parametrize(("method", "order"), [("ddim", 1), ("dpm++", 2)])
def test_ode_order(method, order):
    _, bar = uniform_levels(1)
    truth = oracles.flow(1.2, bar[0], bar[-1], MU, S2)
    errors = [abs(solve(method, n) - truth) for n in (40, 80, 160)]
    np.testing.assert_allclose(np.log2(np.divide(errors[:-1], errors[1:])), order, atol=0.15)


def step_form(method: str, t: Level, s: Level) -> np.ndarray:
    """One stochastic step at many levels at once: rows [constant, of x_t, of noise]."""
    rows = []
    for x, e in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)):
        x_t, noise = jnp.full((t.alpha.shape[0], 1), x), jnp.full((t.alpha.shape[0], 1), e)
        x0 = exact_x0(x_t, t.expand(2))
        if method.startswith("ddim"):
            out = ddim_step(x_t, x0, t, s, noise, eta=float(method[4:]))
        else:
            out = ddpm_step(x_t, Denoised(x0=x0), t, s, noise, variance=method)
        rows.append(np.asarray(out)[:, 0])
    return np.stack([rows[0], rows[1] - rows[0], rows[2] - rows[0]])


@pytest.mark.parametrize("method", ["fixed_small", "fixed_large", "ddim0.5", "ddim1.0"])
def test_stochastic_samplers_converge_to_the_marginal(method):
    """Mean and variance approach q's at first order in the step."""
    errors = []
    for count in (100, 200, 400):
        levels, bar = uniform_levels(count)
        t, s = (jax.tree.map(lambda a, i=i, n=count: a[i : i + n], levels) for i in (0, 1))
        mean, variance = np.sqrt(bar[0]) * MU, bar[0] * S2 + 1.0 - bar[0]
        for constant, slope, std in step_form(method, t, s).T:
            mean, variance = constant + slope * mean, slope**2 * variance + std**2
        want = np.array([np.sqrt(bar[-1]) * MU, bar[-1] * S2 + 1.0 - bar[-1]])
        errors.append(np.abs(np.array([mean, variance]) - want))
    errors = np.array(errors)
    orders = np.log2(errors[:-1, 1] / errors[1:, 1])
    np.testing.assert_allclose(orders, 1.0, atol=0.15)
    assert np.all(errors[-1] < 0.02)
