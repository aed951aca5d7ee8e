"""The task of the autoregressive prior: cross-entropy of the codes of z_i.

The codec comes with the parameters and is not trained. Caption and z_t are dropped together; the
dot token, which is that of the true pair, stays.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from unclip_jax.core.types import Cond, Params, where_text
from unclip_jax.models import pca_codec
from unclip_jax.models.clip import Clip
from unclip_jax.models.stages import StageSpec
from unclip_jax.train.config import TrainConfig
from unclip_jax.train.frozen_clip import caption_features, feature_keys, image_embedding
from unclip_jax.train.task import Batch, Keys, Metrics, StepConstants, Task, weighted
from unclip_jax.train.tasks.diffusion import QUARTILES, TEXT_DROP, keep_mask


def make_code_task(
    spec: StageSpec, module: nn.Module, train_cfg: TrainConfig, clip: Clip | None
) -> Task:
    """Returns the autoregressive prior's task.

    Besides the loss in nats a code it reports the share of codes that are the likeliest one, and
    the loss over each quarter of the components, coarse ones first.
    """
    cfg = spec.model.embedding_codec

    def loss(
        params: Params, constants: StepConstants, batch: Batch, keys: Keys, train: bool
    ) -> tuple[Float[Array, ""], Metrics]:
        z = image_embedding(clip, constants, batch)
        text = caption_features(clip, constants, batch)
        codec = pca_codec.codec_of(params)
        codes = pca_codec.encode(codec, cfg, z)
        dot = pca_codec.dot_codes(cfg, z, text.text_emb)
        keep = keep_mask(keys, TEXT_DROP, train_cfg.caption_drop, train)
        cond = jax.lax.stop_gradient(Cond(text=where_text(keep, text, constants.empty)))
        logits = module.apply(
            {"params": params}, codes, dot, cond, train, rngs={"dropout": keys.dropout}
        )
        losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), codes[..., None], -1)[..., 0]
        return losses.mean(), _metrics(losses, logits.argmax(-1) == codes)

    names = feature_keys(spec) + (() if train_cfg.cache_clip else ("image",))
    return Task(spec.row.key_id, ("loss", "accuracy", *QUARTILES), loss, names)


def _metrics(losses: Float[Array, "b k"], hits: Bool[Array, "b k"]) -> Metrics:
    rows, components = losses.shape
    metrics = {"loss": weighted(losses.mean(), rows), "accuracy": weighted(hits.mean(), rows)}
    quarter = jnp.arange(components) * 4 // components
    for i, name in enumerate(QUARTILES):
        inside = (quarter == i).astype(jnp.float32)
        total = (losses * inside[None]).sum()
        metrics[name] = jnp.stack([total, inside.sum() * rows]).astype(jnp.float32)
    return metrics
