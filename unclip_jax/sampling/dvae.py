"""Sampling of the discrete VAE: images of tokens."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from unclip_jax.core.types import Cond, Params, TextFeatures
from unclip_jax.diffusion.samplers import NoiseFn
from unclip_jax.models.stages import make_module
from unclip_jax.sampling.programs import (
    PRECISION,
    ProgramKey,
    compute_dtype,
    stage_result,
)


def draw_images(
    program: ProgramKey,
    params: Params,
    uncond_text: TextFeatures | None,
    scale: Any,
    cond: Cond,
    noise: NoiseFn,
) -> Float[Array, "n h w 3"]:
    """Returns the images of tokens; there is no guidance and no noise."""
    module = make_module(program.spec, compute_dtype(program.dtype))
    with jax.default_matmul_precision(PRECISION[program.dtype]):
        tokens = jnp.asarray(cond.image_tokens)
        images = module.apply({"params": params}, tokens, method="decode_tokens")
    return stage_result(program, params, cond, images)
