"""The optimizer: Adam with decoupled weight decay, its schedules, and the decay of the EMA.

The update is optax's: p <- p - lr (m / (sqrt(v) + eps) + weight_decay p). Biases, gains and other
vectors are left out of the decay where the config says "matrices".
"""

from collections.abc import Collection

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Integer, PyTree

from unclip_jax.core.trees import mask_by_regex
from unclip_jax.core.types import Params
from unclip_jax.train.config import OptimConfig


def learning_rate_schedule(cfg: OptimConfig, steps: int) -> optax.Schedule:
    """Returns the learning rate after n updates: linear warm-up, then constant or half a cosine.

    The warm-up counts n + 1 of `warmup_steps`, so that the first update is not lost; the cosine
    runs from the end of the warm-up to 0 at `steps`.
    """
    peak = cfg.learning_rate
    if cfg.schedule == "cosine":
        span = max(steps - cfg.warmup_steps, 1)
        main = optax.cosine_decay_schedule(peak, span)
    else:
        main = optax.constant_schedule(peak)
    if not cfg.warmup_steps:
        return main
    warm = optax.linear_schedule(peak / cfg.warmup_steps, peak, max(cfg.warmup_steps - 1, 1))
    return optax.join_schedules([warm, main], [cfg.warmup_steps])


def decay_mask(params: Params, cfg: OptimConfig) -> PyTree[bool]:
    """Returns True where weight decay applies."""
    if cfg.decay == "all":
        return jax.tree.map(lambda p: True, params)
    # By name too: the biases and gains of a scanned stack have a leading axis of layers.
    gain = mask_by_regex(params, r"(^|/)(bias|scale)$")
    return jax.tree.map(lambda p, is_gain: p.ndim >= 2 and not is_gain, params, gain)


def frozen_mask(params: Params, cfg: OptimConfig, fitted: Collection[str]) -> PyTree[bool]:
    """Returns True for parameters that are not trained: fitted ones, and those of `cfg.frozen`."""
    mask = (
        mask_by_regex(params, cfg.frozen) if cfg.frozen else jax.tree.map(lambda p: False, params)
    )
    return mask | {name: True for name in fitted if name in params}


def make_optimizer(
    cfg: OptimConfig, params: Params, fitted: Collection[str], steps: int
) -> optax.GradientTransformation:
    """Returns the optimizer.

    Args:
        params: give the masks their structure; may be abstract.
        fitted: names of the parameters that are fitted before training (`spec.fitted_names`).
    """
    parts = []
    if cfg.clip_norm is not None:
        parts.append(optax.clip_by_global_norm(cfg.clip_norm))
    parts.append(
        optax.adamw(
            learning_rate_schedule(cfg, steps),
            b1=cfg.b1,
            b2=cfg.b2,
            eps=cfg.eps,
            weight_decay=cfg.weight_decay,
            mask=decay_mask(params, cfg),
        )
    )
    frozen = frozen_mask(params, cfg, fitted)
    if any(jax.tree.leaves(frozen)):
        parts.append(optax.masked(optax.set_to_zero(), frozen))
    return optax.chain(*parts)


def ema_decay(cfg: OptimConfig, updates: Integer[Array, ""]) -> Float[Array, ""]:
    """Returns the decay of the EMA at update n (from 0): min(d, (1 + n) / (10 + n))."""
    if not cfg.ema_warmup:
        return jnp.asarray(cfg.ema_decay, jnp.float32)
    n = updates.astype(jnp.float32)
    return jnp.minimum(cfg.ema_decay, (1.0 + n) / (10.0 + n))
