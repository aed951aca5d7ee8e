"""The task that trains the autoregressive prior: cross-entropy of the codes of z_i.

The codec comes with the parameters and is not trained. Caption and z_t are dropped together; the
dot token, which is that of the true pair, stays.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from unclip_jax.core.types import Cond, Params, where_text
from unclip_jax.models import pca_codec
from unclip_jax.models.stages import StageSpec
from unclip_jax.train.config import TrainConfig
from unclip_jax.train.frozen import FrozenClip, caption_features, image_embedding
from unclip_jax.train.tasks.clip import Keys, Task, make_clip_task, weighted
from unclip_jax.train.tasks.diffusion import (
    QUARTILES,
    TEXT_DROP,
    clip_keys,
    kept,
    make_diffusion_task,
)


def make_task(
    spec: StageSpec, module: nn.Module, train_cfg: TrainConfig, clip: FrozenClip | None
) -> Task:
    """Returns the task of any stage; `clip` is the frozen one of a stage that is told of it."""
    if spec.row.task == "contrastive":
        return make_clip_task(module, train_cfg.sam_rho or None, train_cfg.sam_group)
    make = {"codes": make_code_task, "diffusion": make_diffusion_task}[spec.row.task]
    return make(spec, module, train_cfg, clip)


def make_code_task(
    spec: StageSpec, module: nn.Module, train_cfg: TrainConfig, clip: FrozenClip | None
) -> Task:
    """Returns the autoregressive prior's task.

    Beside the loss in nats a code it reports the share of codes that are the likeliest one, and the
    loss over each quarter of the components, coarse ones first.
    """
    cfg = spec.model.embedding_codec

    def loss(
        params: Params, frozen: Any, batch: Any, keys: Keys, train: bool
    ) -> tuple[Any, dict[str, Any]]:
        z = image_embedding(clip, frozen, batch)
        text = caption_features(clip, frozen, batch)
        codec = pca_codec.codec_of(params)
        codes = pca_codec.encode(codec, cfg, z)
        dot = pca_codec.dot_codes(cfg, z, text.text_emb)
        keep = kept(keys, TEXT_DROP, train_cfg.caption_drop, train)
        cond = jax.lax.stop_gradient(Cond(text=where_text(keep, text, frozen["empty"])))
        logits = module.apply(
            {"params": params}, codes, dot, cond, train, rngs={"dropout": keys.dropout}
        )
        losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), codes[..., None], -1)[..., 0]
        return losses.mean(), _metrics(losses, logits.argmax(-1) == codes)

    names = clip_keys(spec) + (() if train_cfg.cache_clip else ("image",))
    return Task(spec.row.key_id, ("loss", "accuracy", *QUARTILES), loss, names)


def _metrics(losses: Any, hits: Any) -> dict[str, Any]:
    rows, components = losses.shape
    metrics = {"loss": weighted(losses.mean(), rows), "accuracy": weighted(hits.mean(), rows)}
    quarter = jnp.arange(components) * 4 // components
    for i, name in enumerate(QUARTILES):
        inside = (quarter == i).astype(jnp.float32)
        total = (losses * inside[None]).sum()
        metrics[name] = jnp.stack([total, inside.sum() * rows]).astype(jnp.float32)
    return metrics
