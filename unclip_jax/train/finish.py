"""What is made once, at the end of a training: the analytic variance's table."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import PartitionSpec

from unclip_jax.core.files import whole_file
from unclip_jax.core.prng import VARIANCE_TABLE_STEP, root_key, stage_key, step_key
from unclip_jax.core.types import Params
from unclip_jax.diffusion.schedules import make_schedule
from unclip_jax.diffusion.variance import variance_table, x0_error
from unclip_jax.models.denoising import network_fn, stage_denoiser
from unclip_jax.models.stages import StageSpec
from unclip_jax.train.step import batch_keys
from unclip_jax.train.tasks.diffusion import NOISE, Inputs, purpose_keys

VARIANCE_TABLE = "variance_table.npy"


def estimate_variance_table(
    spec: StageSpec,
    module: nn.Module,
    inputs: Inputs,
    params: Params,
    frozen: Any,
    batches: Sequence[Any],
    seed: int,
    passes: int,
) -> np.ndarray:
    """Estimates E|x_0 - x0_hat|^2 / d at every t on held-out data (Analytic-DPM's table), [T].

    Each pass goes over all batches; the timesteps of all rows together are spread evenly over
    0..T-1 and dealt out at random, and `variance_table` pools and smooths what they give.
    """
    num_steps = spec.diffusion.num_steps
    schedule = make_schedule(spec.diffusion.schedule, num_steps)
    key = step_key(stage_key(root_key(seed), spec.row.key_id), VARIANCE_TABLE_STEP)
    rows = jax.tree.leaves(batches[0])[0].shape[0]

    @functools.partial(jax.jit, out_shardings=PartitionSpec())  # whole for every process
    def errors(params: Params, frozen: Any, batch: Any, t: Any, number: Any) -> tuple[Any, Any]:
        keys = batch_keys(jax.random.fold_in(key, number), rows)
        x0, cond = inputs(params, frozen, batch, keys, False)
        noise = jax.vmap(lambda k: jax.random.normal(k, x0.shape[1:]))(purpose_keys(keys, NOISE))
        denoise = stage_denoiser(spec, network_fn(module), params, cond)
        return x0_error(denoise, x0, t, noise, schedule), x0

    count = passes * len(batches) * rows
    spread = ((np.arange(count) + 0.5) * num_steps / count).astype(np.int32)
    dealt = np.random.default_rng(seed).permutation(spread).reshape(passes, len(batches), rows)
    seen, first = [], []
    for i in range(passes):
        for j, batch in enumerate(batches):
            number = i * len(batches) + j
            error, x0 = errors(params, frozen, batch, dealt[i, j], number)
            seen.append(np.asarray(error))
            if i == 0:
                first.append(np.asarray(x0))
    data_variance = float(np.concatenate(first).var(axis=0, dtype=np.float64).mean())
    return variance_table(
        dealt.reshape(-1),
        np.concatenate(seen),
        num_steps=num_steps,
        data_variance=data_variance,
        snr=schedule.snr,
    )


def write_variance_table(workdir: Path, table: np.ndarray) -> None:
    """Saves the table in the run, float64 [T], for export; it is there whole or not at all."""
    with whole_file(workdir / VARIANCE_TABLE) as part, part.open("wb") as file:
        np.save(file, table)
