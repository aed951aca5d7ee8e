"""Training losses: squared error, variational bound and their hybrid, one value per example.

The bound follows improved-diffusion's code: the step from t to t - 1 in bits a dimension, a KL
divergence of two Gaussians for t > 0, and for t = 0 the likelihood of 8-bit data in [-1, 1].
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.scipy.special import ndtr
from jaxtyping import Array, Float, Int

from unclip_jax.diffusion.config import DiffusionConfig, Prediction
from unclip_jax.diffusion.denoiser import read_output
from unclip_jax.diffusion.process import at_least_float32, convert, posterior, target_of
from unclip_jax.diffusion.schedules import CLEAN, Schedule, expand
from unclip_jax.diffusion.variance import bound_log_variances

# Half the width of an 8-bit bin in [-1, 1], and where its two end bins begin.
HALF_BIN = 1.0 / 255.0
END_BIN = 0.999
MIN_PROBABILITY = 1e-12


@struct.dataclass
class LossTerms:
    """Loss and its parts, each [b].

    Attributes:
        loss: what to average and minimize.
        mse: mean squared error of the prediction, unweighted.
        vb: the variational bound of the drawn step, bits a dimension; None if not computed.
    """

    loss: Float[Array, " b"]
    mse: Float[Array, " b"]
    vb: Float[Array, " b"] | None


def mean_flat(x: Float[Array, " b *d"]) -> Float[Array, " b"]:
    """Averages over all axes but the batch."""
    return jnp.mean(x, axis=tuple(range(1, x.ndim)))


def min_snr_weight(
    t: Int[Array, " b"],
    schedule: Schedule,
    prediction: Prediction,
    gamma: float,
    floor: float = 0.0,
) -> Float[Array, " b"]:
    """Weight of the squared error that equals min(SNR, gamma) on x_0 (Hang et al. 2023, sec. 3.4).

    x0: min(SNR, gamma);  eps: the same / SNR;  v: the same / (SNR + 1). Our option, not unCLIP's;
    so is the floor, below which the weight on x_0 does not fall.
    """
    capped = np.clip(schedule.snr, floor, gamma)
    divisor = {"x0": 1.0, "eps": schedule.snr, "v": schedule.snr + 1.0}[prediction]
    return jnp.asarray(capped / divisor)[t]


def gaussian_kl(
    difference: Float[Array, " b *d"],
    log_var: Float[Array, "..."],
    log_var_model: Float[Array, "..."],
) -> Float[Array, " b *d"]:
    """KL(N(m, var) || N(m', var')) in nats, elementwise, with difference = m - m'."""
    return 0.5 * (
        log_var_model
        - log_var
        - 1.0
        + jnp.exp(log_var - log_var_model)
        + difference**2 * jnp.exp(-log_var_model)
    )


def discretized_gaussian_nll(
    x0: Float[Array, " b *d"], mean: Float[Array, " b *d"], log_var: Float[Array, "..."]
) -> Float[Array, " b *d"]:
    """-log of the mass of x_0's 8-bit bin under N(mean, var), in nats (Ho et al. 2020, eq. 13).

    The two end bins reach to infinity; probabilities below 1e-12 count as 1e-12.
    """
    scale = jnp.exp(-0.5 * log_var)
    above = (x0 - mean + HALF_BIN) * scale
    below = (x0 - mean - HALF_BIN) * scale
    mass = jnp.where(
        x0 < -END_BIN, ndtr(above), jnp.where(x0 > END_BIN, ndtr(-below), ndtr(above) - ndtr(below))
    )
    return -jnp.log(jnp.maximum(mass, MIN_PROBABILITY))


def vlb_terms(
    x0_hat: Float[Array, " b *d"],
    fraction: Float[Array, " b *d"] | None,
    *,
    x0: Float[Array, " b *d"],
    t: Int[Array, " b"],
    schedule: Schedule,
    cfg: DiffusionConfig,
) -> Float[Array, " b"]:
    """The bound's term L_t of the step t -> t - 1, bits a dimension (iDDPM, sec. 2.1 and 3.1).

    x_0 estimates are not clipped. The means of q and p share their x_t part, so their difference
    is the posterior's x_0 weight times x_0 - x0_hat. At t = 0 the fixed variances, like the
    lower end of the learned range, borrow the posterior variance of t = 1. The whole bound is the
    sum over t and the constant L_T = KL(q(x_{T-1} | x_0) || N(0, I)), which trains nothing.

    Args:
        fraction: the learned range's, for variance "learned_range".
    """
    dtype = x0.dtype
    small, log_var = bound_log_variances(cfg.variance, fraction, t, schedule, x0)
    step = posterior(
        schedule.level(t, dtype), schedule.level(jnp.where(t == 0, CLEAN, t - 1), dtype)
    )
    difference = expand(step.x0_weight, x0.ndim) * (x0 - x0_hat)
    kl = mean_flat(gaussian_kl(difference, small, log_var))
    nll = mean_flat(discretized_gaussian_nll(x0, x0_hat, log_var))
    return jnp.where(t == 0, nll, kl) / math.log(2.0)


def training_loss(
    network_output: Float[Array, " b *e"],
    *,
    x0: Float[Array, " b *d"],
    x_t: Float[Array, " b *d"],
    t: Int[Array, " b"],
    noise: Float[Array, " b *d"],
    schedule: Schedule,
    cfg: DiffusionConfig,
) -> LossTerms:
    """Loss of each example, from the network's output at (x_t, t).

        simple: w_t mse           hybrid: w_t mse + vlb_weight T vb           vlb: T vb

    with mse the mean squared error of the predicted quantity, w_t = 1 or the min-SNR weight, vb
    one step's bound, and T vb the unbiased estimate of the sum over t. In the hybrid the mean is
    frozen in vb, so that vb trains the variance alone (iDDPM, sec. 3.1).
    """
    x0 = at_least_float32(x0)
    x_t, noise = x_t.astype(x0.dtype), noise.astype(x0.dtype)
    prediction, fraction = read_output(network_output.astype(x0.dtype), x0.shape[-1], cfg)
    if cfg.loss == "simple" and fraction is not None:
        raise ValueError("loss='simple' never trains variance='learned_range'; use loss='hybrid'")
    level = schedule.level(t, x0.dtype)
    mse = mean_flat((prediction - target_of(cfg.prediction, x0, noise, level)) ** 2)
    weighted = mse
    if cfg.loss_weighting == "min_snr":
        bounds = {"gamma": cfg.min_snr_gamma, "floor": cfg.min_snr_floor}
        weight = min_snr_weight(t, schedule, cfg.prediction, **bounds)
        weighted = weight.astype(x0.dtype) * mse
    if cfg.loss == "simple":
        return LossTerms(loss=weighted, mse=mse, vb=None)

    frozen = jax.lax.stop_gradient(prediction) if cfg.loss == "hybrid" else prediction
    x0_hat = convert(frozen, x_t, level, source=cfg.prediction, target="x0")
    vb = vlb_terms(x0_hat, fraction, x0=x0, t=t, schedule=schedule, cfg=cfg)
    if cfg.loss == "vlb":
        return LossTerms(loss=schedule.num_steps * vb, mse=mse, vb=vb)
    loss = weighted + cfg.vlb_weight * schedule.num_steps * vb
    return LossTerms(loss=loss, mse=mse, vb=vb)
