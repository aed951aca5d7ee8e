"""The exact network for Gaussian data, and a probe that reads a sampler's affine form."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.oracles import gaussian_x0
from unclip_jax.diffusion.config import DiffusionConfig, SamplingConfig
from unclip_jax.diffusion.denoiser import make_denoiser
from unclip_jax.diffusion.samplers import sample_loop
from unclip_jax.diffusion.schedules import Schedule

MU, S2 = 0.7, 0.3**2
RAW_VARIANCE = -0.4  # the network's variance channel; its fraction is (RAW_VARIANCE + 1) / 2


def exact_network(schedule: Schedule, prediction: str, variance: str = "fixed_small"):
    """Predicts x_0, eps or v exactly for data N(MU, S2), with a constant variance channel."""
    a = schedule.alpha_bar
    slope, offset = gaussian_x0(a, MU, S2)
    table = jnp.asarray(np.stack([slope, offset, np.sqrt(a), np.sqrt(1.0 - a)]))

    def network(x_t, t):
        slope, offset, alpha, sigma = (row[t][:, None] for row in table.astype(x_t.dtype))
        x0 = slope * x_t + offset
        eps = (x_t - alpha * x0) / sigma
        out = {"x0": x0, "eps": eps, "v": alpha * eps - sigma * x0}[prediction]
        if variance != "learned_range":
            return out
        return jnp.concatenate([out, jnp.full_like(out, RAW_VARIANCE)], axis=-1)

    return network


def exact_denoiser(schedule: Schedule, cfg: DiffusionConfig):
    return make_denoiser(exact_network(schedule, cfg.prediction, cfg.variance), schedule, cfg)


def affine_form(
    schedule: Schedule, config: SamplingConfig, cfg: DiffusionConfig, steps, table=None
) -> np.ndarray:
    """[constant, coefficient of x_T, coefficient of each step's noise] of the clean sample.

    One batch: nothing; x_T = 1; each step's noise = 1. The differences are the coefficients.
    """
    n = len(steps)
    x_init = jnp.eye(n + 2)[1][:, None]

    def noise(index, shape):
        return (jnp.arange(shape[0], dtype=jnp.int32) == index + 2).astype(x_init.dtype)[:, None]

    @jax.jit
    def run(x):
        return sample_loop(
            exact_denoiser(schedule, cfg),
            x,
            schedule=schedule,
            config=config,
            diffusion=cfg,
            noise=noise,
            steps=steps,
            variance_table=table,
        )

    out = np.asarray(run(x_init))[:, 0]
    return np.concatenate([out[:1], out[1:] - out[0]])
