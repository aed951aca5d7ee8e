"""Sampling of DALL·E: image tokens of a caption, one by one."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from unclip_jax.core.types import Cond, Params, TextFeatures
from unclip_jax.diffusion.samplers import NoiseFn
from unclip_jax.models.denoising import cfg_batch
from unclip_jax.sampling.codes import write_codes
from unclip_jax.sampling.programs import (
    ProgramKey,
    candidate_cond,
    num_examples,
)


def draw_tokens(
    program: ProgramKey,
    params: Params,
    uncond_text: TextFeatures | None,
    scale: Any,
    cond: Cond,
    noise: NoiseFn,
) -> Int[Array, "n *candidates k"]:
    """Draws the image tokens of each caption, of all its candidates if there are several."""
    batch = candidate_cond(program, cond)
    if program.is_guided:
        batch = cfg_batch(batch, uncond_text, num_examples(program.spec, batch))
    tokens = write_codes(program, params, (jax.tree.map(jnp.asarray, batch),), scale, noise)
    count = program.num_candidates
    return tokens if count == 1 else tokens.reshape(-1, count, tokens.shape[-1])
