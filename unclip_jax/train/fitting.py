"""What is fitted to data outside the training loop, each once.

Before the first step: statistics or codec of the embeddings, parameters that the optimizer leaves
alone and that ship with their stage. After the last one: the table of the analytic variance.
"""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Float64, Int

from unclip_jax.core.errors import UserError
from unclip_jax.core.files import whole_file
from unclip_jax.core.prng import VARIANCE_TABLE_STEP, root_key, stage_key, step_key
from unclip_jax.core.types import Params
from unclip_jax.core.vectors import unit64
from unclip_jax.diffusion.schedules import make_schedule
from unclip_jax.diffusion.variance import variance_table, x0_error
from unclip_jax.models.clip import Clip
from unclip_jax.models.denoising import prepared_network, stage_denoiser
from unclip_jax.models.embedding_norm import EmbeddingStats, with_stats
from unclip_jax.models.pca import Pca, components_for, fit_pca, unit_moments
from unclip_jax.models.pca_codec import make_codec, with_codec
from unclip_jax.models.stages import StageSpec
from unclip_jax.train.frozen_clip import caption_features, image_embedding
from unclip_jax.train.program import Program
from unclip_jax.train.sharding import place, replicated
from unclip_jax.train.step import batch_keys
from unclip_jax.train.task import Batch, StepConstants
from unclip_jax.train.tasks.diffusion import (
    NOISE,
    Inputs,
    purpose_keys,
)

EXAMPLES = 4096
"""Training examples whose embeddings statistics and codec are fitted to."""

VARIANCE_TABLE = "variance_table.npy"

Embeddings = Float[np.ndarray, "n d"]


def collect_embeddings(
    clip: Clip | None,
    constants: StepConstants,
    batches: Iterator[Batch],
    count: int,
    mesh: Mesh,
) -> tuple[Embeddings, Embeddings]:
    """Returns raw z_i and z_t of the next `count` batches, whole on every process."""

    def embed(
        constants: StepConstants, batch: Batch
    ) -> tuple[Float[Array, "b d"], Float[Array, "b d"]]:
        text_emb = caption_features(clip, constants, batch).text_emb
        return image_embedding(clip, constants, batch), text_emb

    embed = jax.jit(embed, out_shardings=replicated(mesh))
    parts = [jax.device_get(embed(constants, next(batches))) for _ in range(count)]
    image_emb, text_emb = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return image_emb, text_emb


def with_fitted(
    params: Params, spec: StageSpec, image_emb: Embeddings, text_emb: Embeddings, pca: Pca | None
) -> Params:
    """Returns fresh parameters with the statistics or the codec of embeddings in place.

    Args:
        pca: of the codec; None only where the stage has none.
    """
    cfg = spec.model.embedding_codec
    if cfg is None:
        mean = image_emb.mean(0, dtype=np.float64)
        std = np.maximum(image_emb.std(0, dtype=np.float64), 1e-6)
        stats = EmbeddingStats(jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32))
        fitted = with_stats(params, stats)
    else:
        try:
            codec = make_codec(pca, cfg, (unit64(image_emb) * unit64(text_emb)).sum(1))
        except ValueError as error:
            raise UserError(f"config.model.codec: {error}") from error
        fitted = with_codec(params, codec)
    put = lambda old, new: old if new is old else place(new, old.sharding)  # noqa: E731
    return jax.tree.map(put, params, fitted)


def pca_of(image_emb: Embeddings, clip: str) -> Pca:
    """Returns the PCA of embeddings, for a run without one.

    Args:
        clip: digest of the CLIP's parameters.
    """
    return fit_pca(unit_moments(image_emb), clip)


def describe_pca(pca: Pca, components: int) -> str:
    """Returns a line about the variance that the first components explain."""
    values = np.asarray(pca.eigenvalues, np.float64)
    share = values[:components].sum() / max(values.sum(), 1e-300)
    return (
        f"{components} of {pca.width} components explain {100 * share:.1f}% of the variance of "
        f"z_i; 99% takes {components_for(pca, 0.99)}"
    )


def estimate_variance_table(
    program: Program,
    inputs: Inputs,
    params: Params,
    constants: StepConstants,
    batches: Sequence[Batch],
) -> Float64[np.ndarray, " T"]:
    """Estimates E|x_0 - x0_hat|^2 / d at every t on held-out data (Analytic-DPM's table).

    Each pass goes over all batches; the timesteps of all rows together are spread evenly over
    0..T-1 and dealt out at random, and `variance_table` pools and smooths the errors.
    """
    spec, seed, passes = program.spec, program.settings.seed, program.settings.eval.variance_passes
    num_steps = spec.diffusion.num_steps
    schedule = make_schedule(spec.diffusion.schedule, num_steps)
    key = step_key(stage_key(root_key(seed), spec.row.key_id), VARIANCE_TABLE_STEP)
    rows = jax.tree.leaves(batches[0])[0].shape[0]
    network = prepared_network(program.module)

    @functools.partial(jax.jit, out_shardings=PartitionSpec())  # whole for every process
    def errors(
        params: Params,
        constants: StepConstants,
        batch: Batch,
        t: Int[Array, " b"],
        number: Int[Array, ""],
    ) -> tuple[Float[Array, " b"], Float[Array, " b *d"]]:
        keys = batch_keys(jax.random.fold_in(key, number), rows)
        x0, cond = inputs(params, constants, batch, keys, False)
        noise = jax.vmap(lambda k: jax.random.normal(k, x0.shape[1:]))(purpose_keys(keys, NOISE))
        denoise = stage_denoiser(spec, network, params, network.prepare(params, cond))
        return x0_error(denoise, x0, t, noise, schedule), x0

    count = passes * len(batches) * rows
    spread = ((np.arange(count) + 0.5) * num_steps / count).astype(np.int32)
    dealt = np.random.default_rng(seed).permutation(spread).reshape(passes, len(batches), rows)
    found, first = [], []
    for i in range(passes):
        for j, batch in enumerate(batches):
            number = i * len(batches) + j
            error, x0 = errors(params, constants, batch, dealt[i, j], number)
            found.append(np.asarray(error))
            if i == 0:
                first.append(np.asarray(x0))
    data_variance = float(np.concatenate(first).var(axis=0, dtype=np.float64).mean())
    return variance_table(
        dealt.reshape(-1),
        np.concatenate(found),
        num_steps=num_steps,
        data_variance=data_variance,
        snr=schedule.snr,
    )


def write_variance_table(workdir: Path, table: Float64[np.ndarray, " T"]) -> None:
    """Saves the table in the run, whole or not at all, for export."""
    with whole_file(workdir / VARIANCE_TABLE) as part, part.open("wb") as file:
        np.save(file, table)
