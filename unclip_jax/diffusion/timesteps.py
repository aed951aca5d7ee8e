"""Which timesteps to use: draws for training, fixed ones for held-out loss, lists for sampling."""

import jax
import numpy as np
from jaxtyping import Array, Int, Key

from unclip_jax.diffusion.config import SamplingConfig
from unclip_jax.diffusion.schedules import check_steps, respaced_steps


def uniform_timesteps(keys: Key[Array, " b"], num_steps: int) -> Int[Array, " b"]:
    """Draws t ~ U{0..T-1}, each example from its own key."""
    return jax.vmap(lambda key: jax.random.randint(key, (), 0, num_steps))(keys)


def spread_timesteps(count: int, num_steps: int) -> np.ndarray:
    """Gives `count` fixed timesteps, the centers of equal strata of 0..T-1: for held-out losses."""
    return ((np.arange(count) + 0.5) * num_steps / count).astype(np.int32)


def sampling_steps(config: SamplingConfig, num_steps: int) -> np.ndarray:
    """Resolves a sampling configuration's timesteps, int [n], descending."""
    if config.step_list is None:
        return respaced_steps(num_steps, config.steps)
    steps = check_steps(config.step_list, num_steps)
    if len(steps) > 1 and steps[0] < steps[-1]:
        raise ValueError(f"step_list must descend, got {config.step_list}")
    return steps
