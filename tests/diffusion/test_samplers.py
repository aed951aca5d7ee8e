"""What every step and the loop must do whatever the data: identity, independence, chunks, dtype."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.diffusion.gaussian import exact_denoiser, exact_network
from unclip_jax.diffusion.config import SAMPLER_NAMES, DiffusionConfig, SamplingConfig
from unclip_jax.diffusion.denoiser import Denoised, limited, make_denoiser
from unclip_jax.diffusion.dpm_solver import dpmpp_step
from unclip_jax.diffusion.samplers import (
    SAMPLERS,
    ddim_step,
    ddpm_step,
    init_state,
    make_plan,
    run_steps,
    sample_loop,
)
from unclip_jax.diffusion.schedules import make_schedule

SCHEDULE = make_schedule("cosine", 1000)
LEARNED = DiffusionConfig(variance="learned_range", loss="hybrid")
CONFIGS = {
    "ddpm": SamplingConfig(sampler="ddpm", steps=6),
    "ddim": SamplingConfig(sampler="ddim", steps=6, eta=0.6),
    "dpm++": SamplingConfig(sampler="dpm++", steps=6),
}


def stepped(method: str, t: jax.Array, s: jax.Array) -> tuple[np.ndarray, jax.Array]:
    rng = np.random.default_rng(0)
    x_t, x0, before, noise = (jnp.asarray(rng.normal(size=(3, 2, 2))) for _ in range(4))
    t, s = SCHEDULE.level(t, x_t.dtype), SCHEDULE.level(s, x_t.dtype)
    if method == "dpm++":
        earlier = SCHEDULE.level(jnp.full((3,), 998), x_t.dtype)
        return np.asarray(dpmpp_step(x_t, x0, before, t, s, earlier)), x_t
    if method == "ddim":
        return np.asarray(ddim_step(x_t, x0, t, s, noise, eta=0.7)), x_t
    denoised = Denoised(x0=x0, variance_frac=jnp.full_like(x0, 0.3))
    error = jnp.full((3,), 0.2)
    out = ddpm_step(x_t, denoised, t, s, noise, variance=method, x0_error=error)
    return np.asarray(out), x_t


METHODS = ["fixed_small", "fixed_large", "learned_range", "analytic", "ddim", "dpm++"]


@pytest.mark.parametrize("method", METHODS)
def test_step_to_the_same_level_is_the_identity(method):
    t = jnp.array([0, 400, 990])
    out, x_t = stepped(method, t, t)
    np.testing.assert_allclose(out, x_t, rtol=0, atol=1e-13)


@pytest.mark.parametrize("method", METHODS)
def test_levels_may_differ_by_example(method):
    t, s = jnp.array([30, 400, 990]), jnp.array([-1, 350, 2])
    together, _ = stepped(method, t, s)
    for i in range(3):
        alone, _ = stepped(method, jnp.full((3,), t[i]), jnp.full((3,), s[i]))
        np.testing.assert_allclose(together[i], alone[i], rtol=1e-14)


@pytest.mark.parametrize("name", list(CONFIGS))
@pytest.mark.parametrize("threshold", [None, 0.9])
def test_no_example_sees_another(name, threshold):
    """The gradient of one example's sample in another's start is exactly zero."""
    config = SamplingConfig(sampler=name, steps=3, eta=0.5, threshold=threshold, x0_bound=1.0)
    denoise = limited(exact_denoiser(SCHEDULE, LEARNED), config)

    def sample(x):
        return sample_loop(
            denoise,
            x,
            schedule=SCHEDULE,
            config=config,
            diffusion=LEARNED,
            noise=lambda i, shape: jnp.full(shape, 0.1),
            steps=(700, 500, 300),
        )

    x = jnp.array([[0.3, 0.9], [0.5, 0.2], [0.6, -0.8]])
    jacobian = np.asarray(jax.jit(jax.jacrev(sample))(x))  # [b, d, b, d]
    off = jacobian * (1.0 - np.eye(3))[:, None, :, None]
    assert np.all(off == 0.0)
    assert np.all(np.abs(np.einsum("idid->id", jacobian)).sum(-1) > 0.0)


@pytest.mark.parametrize("name", list(CONFIGS))
def test_chunks_give_the_same_numbers(name):
    """One scan, or chunks of two through one compiled function with a traced start: the same."""
    denoise = exact_denoiser(SCHEDULE, LEARNED)
    plan = make_plan(SCHEDULE, CONFIGS[name], LEARNED)
    key = jax.random.key(1)

    def noise(i, shape):
        return jax.random.normal(jax.random.fold_in(key, i), shape, jnp.float32)

    x = jax.random.normal(jax.random.key(0), (4, 3), jnp.float32)
    whole = jax.jit(lambda state: run_steps(denoise, state, plan, noise, keep=True))
    state, path = whole(init_state(x))
    traces = []

    @jax.jit
    def chunk(state, start):
        traces.append(start)
        return run_steps(denoise, state, plan, noise, start=start, count=2)[0]

    piece = init_state(x)
    for start in (0, 2, 4):
        piece = chunk(piece, jnp.int32(start))
        np.testing.assert_array_equal(piece.x, path[start + 1])
    np.testing.assert_array_equal(piece.x, state.x)
    assert len(traces) == 1
    kwargs = {"schedule": SCHEDULE, "config": CONFIGS[name], "diffusion": LEARNED, "noise": noise}
    np.testing.assert_array_equal(jax.jit(lambda x: sample_loop(denoise, x, **kwargs))(x), state.x)
    assert state.x.dtype == jnp.float32


def test_no_trajectory_unless_asked():
    plan = make_plan(SCHEDULE, CONFIGS["ddim"], LEARNED)

    def run(keep):
        return jax.eval_shape(
            lambda x: run_steps(
                exact_denoiser(SCHEDULE, LEARNED),
                init_state(x),
                plan,
                lambda i, shape: jnp.zeros(shape),
                keep=keep,
            )[1],
            jnp.zeros((2, 3)),
        )

    assert run(False) is None
    assert run(True).shape == (6, 2, 3)


@pytest.mark.parametrize("name", list(CONFIGS))
def test_network_is_told_the_listed_timesteps_and_noise_its_index(name):
    told, indices = [], []

    def network(x_t, t):
        jax.debug.callback(lambda t: told.append(np.asarray(t).tolist()), t, ordered=True)
        return jnp.zeros_like(x_t)

    def noise(index, shape):
        jax.debug.callback(lambda i: indices.append(int(i)), index, ordered=True)
        return jnp.zeros(shape)

    cfg = DiffusionConfig()
    out = sample_loop(
        make_denoiser(network, SCHEDULE, cfg),
        jnp.ones((2, 3)),
        schedule=SCHEDULE,
        config=CONFIGS[name],
        diffusion=cfg,
        noise=noise,
        steps=(901, 77, 3),
    )
    jax.block_until_ready(out)
    jax.effects_barrier()
    assert told == [[901, 901], [77, 77], [3, 3]]
    assert indices == ([] if name == "dpm++" else [0, 1, 2])


def test_float32_is_accurate():
    """A float32 run stays within rounding, amplified by 1 / alpha, of the float64 run."""
    cfg = DiffusionConfig(prediction="x0")
    for config in CONFIGS.values():
        outs = [
            sample_loop(
                make_denoiser(exact_network(SCHEDULE, "x0"), SCHEDULE, cfg),
                jnp.linspace(-1.0, 1.0, 4, dtype=dtype)[:, None],
                schedule=SCHEDULE,
                config=config,
                diffusion=cfg,
                noise=lambda i, shape, dtype=dtype: jnp.full(shape, 0.5, dtype),
            )
            for dtype in (jnp.float32, jnp.float64)
        ]
        assert [out.dtype for out in outs] == [jnp.float32, jnp.float64]
        np.testing.assert_allclose(*outs, atol=1e-5)


def test_half_precision_start_is_sampled_in_float32():
    cfg = DiffusionConfig()
    out = sample_loop(
        make_denoiser(lambda x, t: jnp.zeros(x.shape, jnp.bfloat16), SCHEDULE, cfg),
        jnp.ones((2, 3), jnp.bfloat16),
        schedule=SCHEDULE,
        config=CONFIGS["ddim"],
        diffusion=cfg,
        noise=lambda i, shape: jnp.zeros(shape, jnp.bfloat16),
    )
    assert out.dtype == jnp.float32


def test_misuse_is_refused():
    cfg = DiffusionConfig(variance="analytic")
    with pytest.raises(ValueError, match="variance table"):
        make_plan(SCHEDULE, CONFIGS["ddpm"], cfg)
    with pytest.raises(ValueError, match="shape"):
        make_plan(SCHEDULE, CONFIGS["ddpm"], cfg, variance_table=np.ones(6))
    with pytest.raises(ValueError, match="descend"):
        make_plan(SCHEDULE, CONFIGS["ddim"], cfg, steps=[1, 5])
    with pytest.raises(ValueError, match="eta"):
        SamplingConfig(eta=1.5)
    with pytest.raises(ValueError, match="channels"):
        make_denoiser(exact_network(SCHEDULE, "eps"), SCHEDULE, LEARNED)(
            jnp.ones((1, 1)), jnp.array([5])
        )


def test_every_name_of_a_sampler_has_its_step():
    assert tuple(SAMPLERS) == SAMPLER_NAMES
    stochastic = {name: SAMPLERS[name].is_stochastic(SamplingConfig(name)) for name in SAMPLERS}
    assert stochastic == {"ddpm": True, "ddim": False, "dpm++": False}
    assert SAMPLERS["ddim"].is_stochastic(SamplingConfig("ddim", eta=0.5))
