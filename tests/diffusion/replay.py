"""Replays a recorded scheduler run through our own loop and steps."""

import jax
import jax.numpy as jnp
import numpy as np

from unclip_jax.diffusion.config import DiffusionConfig, SamplingConfig
from unclip_jax.diffusion.denoiser import limited, make_denoiser
from unclip_jax.diffusion.inversion import ddim_invert_step
from unclip_jax.diffusion.samplers import init_state, make_plan, run_steps
from unclip_jax.diffusion.schedules import make_schedule


def replay(case: dict) -> np.ndarray:
    """The sample after each step, on the recorded outputs and noises: float64 [n, b, h, w, c]."""
    schedule = make_schedule("cosine", 1000)
    steps = np.asarray(case["steps"])
    outputs, noises = jnp.asarray(case["outputs"]), jnp.asarray(case["noises"])
    if case["sampler"] == "ddim_inverse":
        return replay_inversion(case, schedule, steps, outputs)
    cfg = DiffusionConfig(prediction=str(case["prediction"]), variance=str(case["variance"]))
    config = SamplingConfig(
        sampler=str(case["sampler"]), eta=float(case["eta"]), x0_bound=float(case["clip"]) or None
    )

    def network(x, t):
        del x
        return outputs[jnp.argmax(jnp.asarray(steps, t.dtype) == t[0])]

    denoise = limited(make_denoiser(network, schedule, cfg), config)
    plan = make_plan(schedule, config, cfg, steps=steps)
    run = jax.jit(lambda x: run_steps(denoise, x, plan, lambda i, shape: noises[i], keep=True)[1])
    return np.asarray(run(init_state(jnp.asarray(case["x"]))))


def replay_inversion(case, schedule, steps, outputs) -> np.ndarray:
    x, path, here = jnp.asarray(case["x"]), [], -1
    for step, eps in zip(steps.tolist(), outputs, strict=True):
        levels = (schedule.level(i, x.dtype) for i in (here, step))
        x, here = ddim_invert_step(x, eps, *levels), step
        path.append(np.asarray(x))
    return np.stack(path)


def step_errors(path: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """The largest error at each step, relative to the largest entry if that exceeds 1."""
    axes = tuple(range(1, path.ndim))
    scale = np.maximum(np.abs(expected).max(axis=axes), 1.0)
    return np.abs(path - expected).max(axis=axes) / scale
