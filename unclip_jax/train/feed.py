"""What a run is fed with: its training batches and its held-out ones, tokenised and placed."""

import dataclasses
from collections.abc import Callable
from typing import Any

from jax.sharding import Mesh

from unclip_jax.checkpoint.prior_samples import PriorSamples
from unclip_jax.data.pipeline import batch_iterator, count_too_small, make_batches, open_source
from unclip_jax.data.sources import Source, all_captions
from unclip_jax.data.store_pipeline import StoredExamples, make_store_batches
from unclip_jax.models.stages import StageSpec
from unclip_jax.text.tokenizer import Tokenizer
from unclip_jax.train import resolve
from unclip_jax.train.batches import (
    DeviceBatches,
    NoText,
    Prepare,
    Texts,
    held_out_batches,
    make_prepare,
    plain,
    plain_images,
)
from unclip_jax.train.frozen import FeatureCache, FrozenClip
from unclip_jax.train.resolve import Settings
from unclip_jax.train.sampled import SampledEmbeddings
from unclip_jax.train.sharding import BatchSharding, single_device_mesh
from unclip_jax.train.stored import Stores
from unclip_jax.train.tasks.clip import Task


@dataclasses.dataclass(frozen=True)
class Feed:
    """Makes the batches of one run.

    Attributes:
        source: the training pictures, None where there are stores in their place.
        samples: a prior's, that a decoder gets beside the true embeddings; None without them.
        clip, tokenizer: None for a stage that reads no captions; CLIP itself has a tokenizer alone.
        say: is told what takes a while.
    """

    settings: Settings
    spec: StageSpec
    task: Task
    source: Source | None
    stores: Stores | None
    samples: PriorSamples | None
    clip: FrozenClip | None
    tokenizer: Tokenizer | None
    mesh: Mesh
    say: Callable[[str], None]

    def batches(self) -> DeviceBatches:
        """Returns the training batches, from the first one on."""
        where = BatchSharding(self.mesh, self.settings.train.batch_size)
        source = self.source if self.stores is None else self.stores.train
        self._say_too_small(source)
        pipeline = self._pipeline(source, self.settings.data, where, self.settings.seed)
        return DeviceBatches(pipeline, self._prepare(source, self._sampled()), where)

    def held_out(self) -> list[Any]:
        """Returns the held-out batches, nothing if the config wants no evaluation."""
        cfg = self.settings.eval
        if not cfg.batches:
            return []
        data_cfg = dataclasses.replace(self.settings.data, split=cfg.split)
        data_cfg = plain(data_cfg)
        source = self.stores.held_out if self.stores else open_source(data_cfg, "eval")
        where = BatchSharding(self.mesh, cfg.batch_size)
        pipeline = self._pipeline(source, data_cfg, where, 0)
        return held_out_batches(pipeline, self._prepare(source), where, cfg.batches)

    def _sampled(self) -> SampledEmbeddings | None:
        """Returns what a prior made of the captions, where the config names it."""
        if self.samples is None:
            return None
        share = self.settings.train.prior_share
        return SampledEmbeddings(self.samples, share, self.settings.seed)

    def _prepare(
        self, source: Source | StoredExamples, sampled: SampledEmbeddings | None = None
    ) -> Prepare:
        if self.clip is None:
            return make_prepare(self.task)
        cache = None
        if self.settings.train.cache_clip and self.stores is None:
            self.say(f"encoding {len(source)} pictures and their captions by the frozen CLIP")
            side = self.clip.cfg.vision.image_size
            shown = dataclasses.replace(self.settings.data, image_size=side)
            images = plain_images(source, shown)
            with single_device_mesh():
                cache = FeatureCache(self.clip, images, all_captions(source))
        context, own = self.clip.cfg.text.context, self.spec.model.own_context
        return make_prepare(self.task, context, own, cache, sampled)

    def _pipeline(self, source: Any, data_cfg: Any, where: BatchSharding, seed: int) -> Any:
        if self.stores is not None:
            batches = make_store_batches(
                source,
                data_cfg,
                batch_size=where.batch_size,
                seed=seed,
                rows=where.rows,
                text_emb="text" not in resolve.encoders(self.settings, self.spec),
            )
            return batch_iterator(batches, data_cfg)
        side, clip_size = resolve.image_sizes(
            self.settings, None if self.clip is None else self.clip.cfg
        )
        batches = make_batches(
            source,
            dataclasses.replace(data_cfg, image_size=side),
            tokenizer=self._texts(),
            batch_size=where.batch_size,
            seed=seed,
            rows=where.rows,
            clip_size=clip_size,
        )
        return batch_iterator(batches, data_cfg)

    def _say_too_small(self, source: Any) -> None:
        """Says how many images are too small to be shown, from a look at some of them."""
        least = self.settings.data.min_side
        if not least or self.stores is not None:
            return
        small, seen = count_too_small(source, self.settings.data)
        if small:
            self.say(
                f"{small} of {seen} images looked at are smaller than config.data.min_side={least} "
                "pixels; such images are not shown, others are drawn in their place"
            )

    def _texts(self) -> Any:
        """Returns what tokenises for the pipeline, to the longest context that is needed."""
        if self.tokenizer is None:
            return NoText()
        if self.clip is None:
            return Texts(self.tokenizer, self.spec.model.text.context)
        own = self.spec.model.own_context or 0
        return Texts(self.tokenizer, max(self.clip.cfg.text.context, own))
