"""Sampling of the autoregressive prior: codes one by one from cached keys, as one device program.

Noise comes as for diffusion, standard normal from a key per example: INITIAL's gives the dot token,
that of step i code i + 1. A normal x is as good as a uniform Phi(x), and -log(-log Phi(x)) is the
Gumbel variable whose addition to logits makes the largest a draw from their softmax.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr, ndtr
from jaxtyping import Array, Float, Int

from unclip_jax.core.types import Cond, Params, TextFeatures
from unclip_jax.diffusion.samplers import NoiseFn
from unclip_jax.models import pca_codec
from unclip_jax.models.denoising import cfg_batch
from unclip_jax.models.prior_ar import CodeSampling
from unclip_jax.models.stages import make_module
from unclip_jax.sampling.programs import (
    INITIAL,
    PRECISION,
    ProgramKey,
    candidate_cond,
    compute_dtype,
    num_examples,
    stage_result,
)


def draw_embeddings(
    program: ProgramKey,
    params: Params,
    uncond_text: TextFeatures | None,
    scale: Any,
    cond: Cond,
    noise: NoiseFn,
) -> Float[Array, "n d"]:
    """Draws the best candidate's z_i of each example, as a pure function of arrays."""
    batch = candidate_cond(program, cond)
    if program.is_guided:
        batch = cfg_batch(batch, uncond_text, num_examples(program.spec, batch))
    codes = sample_codes(program, params, batch, scale, noise)
    z = pca_codec.decode(pca_codec.codec_of(params), program.spec.model.codec, codes)
    return stage_result(program, params, cond, z)


def sample_codes(
    program: ProgramKey, params: Params, cond: Cond, scale: Any, noise: NoiseFn
) -> Int[Array, "n k"]:
    """Draws the dot token and then the codes.

    Args:
        cond: of every candidate; with guidance, followed by its unconditional one (`cfg_batch`).
    """
    copies = 2 if program.is_guided else 1
    rows = num_examples(program.spec, cond) // copies
    uniform = ndtr(noise(INITIAL, (rows,)))
    cfg, percentile = program.spec.model.codec, program.sampling.dot_percentile
    dot = pca_codec.draw_dots(pca_codec.codec_of(params), cfg, uniform, percentile)
    given = jnp.tile(dot, copies), jax.tree.map(jnp.asarray, cond)
    return write_codes(program, params, given, scale, noise)


def write_codes(
    program: ProgramKey, params: Params, given: tuple[Any, ...], scale: Any, noise: NoiseFn
) -> Int[Array, "n k"]:
    """Draws the codes of a network with `begin` and `step`, one after the other.

    Args:
        given: arguments of `begin`; with guidance, the conditional rows and then as many
            unconditional ones.
    """
    module = make_module(program.spec, compute_dtype(program.dtype))
    copies = 2 if program.is_guided else 1

    def guided(logits: Array) -> Array:
        if not program.is_guided:
            return logits
        given, uncond = jnp.split(logits, 2)
        return uncond + jnp.asarray(scale, jnp.float32) * (given - uncond)

    def apply(method: str, *inputs: Any) -> tuple[Array, Any]:
        with jax.default_matmul_precision(PRECISION[program.dtype]):
            logits, state = module.apply({"params": params}, *inputs, method=method)
        return guided(logits), state

    def draw(logits: Array, step: Any) -> Array:
        return draw_codes(logits, noise(step, logits.shape), program.sampling)

    def body(carry: tuple[Array, Any], number: Array) -> tuple[tuple[Array, Any], Array]:
        code, state = carry
        logits, state = apply("step", jnp.tile(code, copies), number, state)
        code = draw(logits, number)
        return (code, state), code

    logits, state = apply("begin", *given)
    first = draw(logits, 0)
    _, rest = jax.lax.scan(body, (first, state), jnp.arange(1, program.spec.model.num_codes))
    return jnp.concatenate([first[None], rest]).T


def draw_codes(
    logits: Float[Array, "n buckets"], normal: Float[Array, "n buckets"], sampling: CodeSampling
) -> Int[Array, " n"]:
    """Draws a code from each row's softmax(logits / temperature), cut to its likeliest part."""
    if sampling.temperature == 0.0:
        return logits.argmax(-1).astype(jnp.int32)
    logits = nucleus(logits / sampling.temperature, sampling.top_p)
    gumbel = -jnp.log(-log_ndtr(normal))
    return (logits + gumbel).argmax(-1).astype(jnp.int32)


def nucleus(logits: Float[Array, "n buckets"], top_p: float) -> Float[Array, "n buckets"]:
    """Sets to -inf all but the likeliest codes that together first reach probability `top_p`."""
    if top_p == 1.0:
        return logits
    ordered = -jnp.sort(-logits, axis=-1)
    probability = jax.nn.softmax(ordered, axis=-1)
    before = jnp.cumsum(probability, axis=-1) - probability
    least = jnp.where(before < top_p, ordered, jnp.inf).min(axis=-1, keepdims=True)
    return jnp.where(logits >= least, logits, -jnp.inf)
