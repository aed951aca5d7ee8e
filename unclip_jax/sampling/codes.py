"""Sampling of the autoregressive prior: codes one by one from cached keys, as one device program.

Noise comes as for diffusion, standard normal from a key an example: INITIAL's gives the dot token,
that of step i code i + 1. A normal x is as good as a uniform Phi(x), and -log(-log Phi(x)) is the
Gumbel variable whose addition to logits makes the largest a draw from their softmax.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr, ndtr
from jaxtyping import Array, Float, Int

from unclip_jax.core.types import Cond, Params
from unclip_jax.diffusion.samplers import NoiseFn
from unclip_jax.models import pca_codec
from unclip_jax.models.prior_ar import CodeSampling
from unclip_jax.models.stages import make_module
from unclip_jax.sampling.encode import PRECISION, batch_size, compute_dtype
from unclip_jax.sampling.runs import INITIAL, Static


def sample_embeddings(
    static: Static, params: Params, cond: Cond, scale: Any, noise: NoiseFn
) -> Float[Array, "n d"]:
    """Draws codes and returns the unit image embeddings that they stand for.

    Args:
        cond: of every draw; if the run is guided, followed by the contrasted one of every draw.
    """
    cfg, codec = static.spec.model.codec, pca_codec.codec_of(params)
    return pca_codec.decode(codec, cfg, sample_codes(static, params, cond, scale, noise))


def sample_codes(
    static: Static, params: Params, cond: Cond, scale: Any, noise: NoiseFn
) -> Int[Array, "n k"]:
    """Draws the dot token and then the codes; see `sample_embeddings`."""
    module = make_module(static.spec, compute_dtype(static.dtype))
    cfg, sampling = static.spec.model.codec, static.sampling
    copies = 2 if static.guided else 1
    rows = batch_size(static.spec, cond) // copies

    def guided(logits: Array) -> Array:
        if not static.guided:
            return logits
        given, contrast = jnp.split(logits, 2)
        return contrast + jnp.asarray(scale, jnp.float32) * (given - contrast)

    def apply(method: str, *inputs: Any) -> tuple[Array, Any]:
        with jax.default_matmul_precision(PRECISION[static.dtype]):
            logits, state = module.apply({"params": params}, *inputs, method=method)
        return guided(logits), state

    def draw(logits: Array, step: Any) -> Array:
        return draw_codes(logits, noise(step, logits.shape), sampling)

    def body(carry: tuple[Array, Any], number: Array) -> tuple[tuple[Array, Any], Array]:
        code, state = carry
        logits, state = apply("step", jnp.tile(code, copies), number, state)
        code = draw(logits, number)
        return (code, state), code

    uniform = ndtr(noise(INITIAL, (rows,)))
    dot = pca_codec.draw_dots(pca_codec.codec_of(params), cfg, uniform, sampling.dot_percentile)
    logits, state = apply("begin", jnp.tile(dot, copies), jax.tree.map(jnp.asarray, cond))
    first = draw(logits, 0)
    _, rest = jax.lax.scan(body, (first, state), jnp.arange(1, cfg.components))
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
