"""Denoisers, x_t -> estimate of x_0, and their wrappers: guidance, clipping, thresholding.

A `Network` is the raw function of a model with its condition already bound; a `Denoiser` is what a
sampler calls. Guidance acts on networks, limits on denoisers, so they compose in one order only.
"""

from collections.abc import Callable

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from unclip_jax.diffusion.config import DiffusionConfig, SamplingConfig
from unclip_jax.diffusion.process import at_least_float32, convert
from unclip_jax.diffusion.schedules import Schedule, expand


@struct.dataclass
class Denoised:
    """Output of a denoiser at x_t.

    Attributes:
        x0: estimate of E[x_0 | x_t].
        variance_frac: f of the learned range, 0 = posterior variance, 1 = beta (not bounded);
            None for a network that does not learn it.
    """

    x0: Float[Array, " b *d"]
    variance_frac: Float[Array, " b *d"] | None = None


Network = Callable[[Float[Array, " b *d"], Int[Array, " b"]], Float[Array, " b *e"]]
Denoiser = Callable[[Float[Array, " b *d"], Int[Array, " b"]], Denoised]


def split_variance(
    output: Float[Array, " b *e"], channels: int
) -> tuple[Float[Array, " b *d"], Float[Array, " b *d"] | None]:
    """Splits a network's output into the prediction and, if it has twice the channels, the rest."""
    if output.shape[-1] == channels:
        return output, None
    if output.shape[-1] != 2 * channels:
        raise ValueError(f"a network of {channels} channels returned {output.shape[-1]}")
    return output[..., :channels], output[..., channels:]


def read_output(
    output: Float[Array, " b *e"], channels: int, cfg: DiffusionConfig
) -> tuple[Float[Array, " b *d"], Float[Array, " b *d"] | None]:
    """Splits a network's output into the prediction and the fraction f of the learned range.

    The variance channels v, nominally in [-1, 1], become f = (v + 1) / 2; None without them.

    Raises:
        ValueError: the output's channels do not fit `cfg.variance`.
    """
    prediction, raw = split_variance(output, channels)
    if cfg.learns_variance != (raw is not None):
        raise ValueError(
            f"variance={cfg.variance!r} does not fit a network that returns "
            f"{output.shape[-1]} channels for {channels}"
        )
    return prediction, None if raw is None else (raw + 1.0) / 2.0


def make_denoiser(network: Network, schedule: Schedule, cfg: DiffusionConfig) -> Denoiser:
    """Turns a network of any prediction kind into a denoiser."""

    def denoise(x_t: Float[Array, " b *d"], t: Int[Array, " b"]) -> Denoised:
        output = network(x_t, t)
        x_t = at_least_float32(x_t)
        prediction, fraction = read_output(output.astype(x_t.dtype), x_t.shape[-1], cfg)
        level = schedule.level(t, x_t.dtype)
        x0 = convert(prediction, x_t, level, source=cfg.prediction, target="x0")
        return Denoised(x0=x0, variance_frac=fraction)

    return denoise


def guided_network(network: Network, scale: float | Float[Array, "*b"]) -> Network:
    """Classifier-free guidance in one call of twice the batch (Ho & Salimans 2021, eq. 6).

        out = cond + (scale - 1) (cond - uncond)

    equal to uncond + scale (cond - uncond), and exactly `cond` at scale 1. Variance channels are
    the conditional half's.

    Args:
        network: over the batch [conditional; unconditional], its condition bound to that batch.
        scale: 1 is off; one for all or one per example.
    """

    def guided(x_t: Float[Array, " b *d"], t: Int[Array, " b"]) -> Float[Array, " b *e"]:
        output = network(jnp.concatenate([x_t, x_t]), jnp.concatenate([t, t]))
        cond, uncond = jnp.split(at_least_float32(output), 2)
        cond, variance = split_variance(cond, x_t.shape[-1])
        uncond, _ = split_variance(uncond, x_t.shape[-1])
        weight = expand(jnp.asarray(scale, cond.dtype) - 1.0, cond.ndim)
        mixed = cond + weight * (cond - uncond)
        return mixed if variance is None else jnp.concatenate([mixed, variance], axis=-1)

    return guided


def clipped(denoise: Denoiser, bound: float) -> Denoiser:
    """Clips the estimate of x_0 to [-bound, bound]; eps is then recomputed from it by samplers."""

    def limited_denoise(x_t: Float[Array, " b *d"], t: Int[Array, " b"]) -> Denoised:
        out = denoise(x_t, t)
        return out.replace(x0=jnp.clip(out.x0, -bound, bound))

    return limited_denoise


def thresholded(denoise: Denoiser, quantile: float) -> Denoiser:
    """Dynamic thresholding (Saharia et al. 2022, sec. 2.3), each example by itself.

    c = max(1, quantile of |x_0|);  x_0 = clip(x_0, -c, c) / c
    """

    def limited_denoise(x_t: Float[Array, " b *d"], t: Int[Array, " b"]) -> Denoised:
        out = denoise(x_t, t)
        flat = jnp.abs(out.x0).reshape(out.x0.shape[0], -1)
        bound = jnp.maximum(jnp.quantile(flat, quantile, axis=-1), 1.0).astype(out.x0.dtype)
        bound = expand(bound, out.x0.ndim)
        return out.replace(x0=jnp.clip(out.x0, -bound, bound) / bound)

    return limited_denoise


def limited(denoise: Denoiser, config: SamplingConfig) -> Denoiser:
    """Applies the limits of a sampling configuration: `threshold` if set, else `x0_bound`."""
    if config.threshold is not None:
        return thresholded(denoise, config.threshold)
    if config.x0_bound is not None:
        return clipped(denoise, config.x0_bound)
    return denoise
