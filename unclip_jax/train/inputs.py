"""The batches of a run: from the data pipeline's NumPy arrays to global arrays on the devices.

A pipeline (data/) yields images and captions, or embeddings from a store. The host transform then
cuts captions to the contexts that are read, looks up cached CLIP features, and replaces some z_i by
samples of a prior. The rows of this process finally become its shards of global arrays.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float32, Float64, UInt8

from unclip_jax.checkpoint.prior_samples import PriorSamples
from unclip_jax.core.errors import UserError
from unclip_jax.core.vectors import unit64
from unclip_jax.data.config import DataConfig
from unclip_jax.data.pipeline import (
    batch_iterator,
    count_too_small,
    make_batches,
    open_source,
    ordered_images,
)
from unclip_jax.data.sources import Source, all_captions
from unclip_jax.data.store_pipeline import StoredExamples, make_store_batches
from unclip_jax.text.context import fit_context, until_eot
from unclip_jax.text.tokenizer import Tokenizer, Tokens
from unclip_jax.train import resolve
from unclip_jax.train.frozen_clip import FeatureCache, FrozenClip
from unclip_jax.train.metrics import Log
from unclip_jax.train.program import Program
from unclip_jax.train.sharding import BatchSharding, single_device_mesh
from unclip_jax.train.stores import Stores
from unclip_jax.train.task import Task

HostBatch = Mapping[str, np.ndarray]
"""This process's rows of a batch, by name."""

HostTransform = Callable[[HostBatch], dict[str, np.ndarray]]

COUNT_SECONDS = 15.0  # between two lines of how much is encoded
_MASK = 2**64 - 1
_SAMPLED = 0x5052494F52  # keeps the draws of SampledEmbeddings apart from the pipeline's


@dataclasses.dataclass(frozen=True)
class RunInputs:
    """The sources of a run's batches.

    Attributes:
        source: training images with captions; None where `stores` replace them.
        stores: of embeddings, for a prior.
        samples: of a prior, that a decoder gets in place of some true embeddings; None without.
        clip: the frozen CLIP, None for CLIP itself and for a stage that reads no captions.
        tokenizer: of the captions, None for a stage that reads none.
        log: gets a line about what takes long.
    """

    program: Program
    source: Source | None
    stores: Stores | None
    samples: PriorSamples | None
    clip: FrozenClip | None
    tokenizer: Tokenizer | None
    mesh: Mesh
    log: Log

    def training_batches(self) -> "DeviceBatches":
        """Returns the training batches, from the first one on."""
        settings = self.program.settings
        sharding = BatchSharding(self.mesh, settings.train.batch_size)
        source = self.source if self.stores is None else self.stores.train
        self._check_sides(source)
        pipeline = self._pipeline(source, settings.data, sharding, settings.seed)
        return DeviceBatches(pipeline, self._host_transform(source, self._sampled()), sharding)

    def held_out_batches(self) -> list[dict[str, jax.Array]]:
        """Returns the held-out batches on the devices, the same for every seed; [] without any."""
        settings = self.program.settings
        cfg = settings.eval
        if not cfg.batches:
            return []
        data_cfg = dataclasses.replace(settings.data, split=cfg.split)
        data_cfg = without_augmentation(data_cfg)
        source = self.stores.held_out if self.stores else open_source(data_cfg, "eval")
        sharding = BatchSharding(self.mesh, cfg.batch_size)
        pipeline = self._pipeline(source, data_cfg, sharding, 0)
        batches = DeviceBatches(pipeline, self._host_transform(source), sharding)
        return [next(batches) for _ in range(cfg.batches)]

    def _sampled(self) -> "SampledEmbeddings | None":
        if self.samples is None:
            return None
        settings = self.program.settings
        share, least = settings.train.prior_share, settings.train.prior_cosine
        return SampledEmbeddings(self.samples, share, settings.seed, least)

    def _host_transform(
        self, source: Source | StoredExamples, sampled: "SampledEmbeddings | None" = None
    ) -> HostTransform:
        task, settings = self.program.task, self.program.settings
        if self.clip is None:
            return make_host_transform(task)
        cache = None
        if settings.train.cache_clip and self.stores is None:
            self.log(f"encoding {len(source)} images and their captions by the frozen CLIP")
            side = self.clip.cfg.vision.image_size
            images = unaugmented_images(source, dataclasses.replace(settings.data, image_size=side))
            captions = set(all_captions(source))
            totals = {"images": len(source), "captions": len(captions)}
            with single_device_mesh():
                cache = FeatureCache(self.clip, images, captions, every_while(totals, self.log))
        own = self.program.spec.model.own_context
        return make_host_transform(task, self.clip.cfg.text.context, own, cache, sampled)

    def _pipeline(
        self,
        source: Source | StoredExamples,
        data_cfg: DataConfig,
        sharding: BatchSharding,
        seed: int,
    ) -> Iterator[HostBatch]:
        program, batch_size = self.program, sharding.batch_size
        if self.stores is not None:
            batches = make_store_batches(
                source,
                data_cfg,
                batch_size=batch_size,
                seed=seed,
                rows=sharding.rows,
                text_emb="text" not in program.encoders,
            )
            return batch_iterator(batches, data_cfg)
        side, clip_size = resolve.image_sizes(
            program.settings, None if self.clip is None else self.clip.cfg
        )
        batches = make_batches(
            source,
            dataclasses.replace(data_cfg, image_size=side),
            tokenizer=self._fixed_length_tokenizer(),
            batch_size=batch_size,
            seed=seed,
            rows=sharding.rows,
            clip_size=clip_size,
        )
        return batch_iterator(batches, data_cfg)

    def _fixed_length_tokenizer(self) -> "FixedLengthTokenizer | NullTokenizer":
        """Returns the pipeline's tokenizer, to the longest context that is read."""
        model = self.program.spec.model
        if self.tokenizer is None:
            return NullTokenizer()
        if self.clip is None:
            return FixedLengthTokenizer(self.tokenizer, model.text.context)
        longest = max(self.clip.cfg.text.context, model.own_context or 0)
        return FixedLengthTokenizer(self.tokenizer, longest)

    def _check_sides(self, source: Source | StoredExamples) -> None:
        """Logs how many images, of some that are looked at, are too small; refuses if all are."""
        data = self.program.settings.data
        if not data.min_side or self.stores is not None:
            return
        small, seen = count_too_small(source, data)
        if small == seen:
            raise UserError(
                f"all {seen} images looked at are smaller than config.data.min_side="
                f"{data.min_side} pixels: lower it, or choose another data set"
            )
        if small:
            self.log(
                f"{small} of {seen} images looked at are smaller than "
                f"config.data.min_side={data.min_side} pixels; such images are not used, others "
                "are drawn in their place"
            )


class DeviceBatches:
    """An iterator of batches on the devices; its state is that of the last batch it returned."""

    def __init__(
        self, pipeline: Iterator[HostBatch], transform: HostTransform, sharding: BatchSharding
    ):
        """Wraps the iterator of a data pipeline."""
        self._pipeline, self._transform, self._sharding = pipeline, transform, sharding

    def __iter__(self) -> "DeviceBatches":
        """Returns itself."""
        return self

    def __next__(self) -> dict[str, jax.Array]:
        """Returns the next batch as global arrays."""
        return self._sharding.to_global(self._transform(next(self._pipeline)))

    def get_state(self) -> dict[str, Any]:
        """Returns the position of the iterator, as JSON."""
        return dict(self._pipeline.get_state())

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Moves the iterator to a position of `get_state`."""
        self._pipeline.set_state(dict(state))


def make_host_transform(
    task: Task,
    clip_context: int | None = None,
    own_context: int | None = None,
    cache: FeatureCache | None = None,
    sampled: "SampledEmbeddings | None" = None,
) -> HostTransform:
    """Returns the host's part of a batch: contexts cut to size, features looked up.

    Args:
        clip_context: of the frozen CLIP; None where the contexts are right as they come.
        own_context: of a text transformer that the stage trains itself.
        cache: CLIP features by example and caption; None = the step computes them.
        sampled: replaces some of the cache's z_i by samples of a prior.
    """

    def host_transform(batch: HostBatch) -> dict[str, np.ndarray]:
        batch = dict(batch)
        if clip_context is not None:
            if own_context is not None:
                batch["own_tokens"] = fit_context(batch["tokens"], own_context)
            batch["tokens"] = fit_context(batch["tokens"], clip_context)
            batch["mask"] = until_eot(batch["tokens"])
        if cache is not None:
            batch |= cache.features(batch)
        if sampled is not None:
            batch["image_emb"] = sampled.mix(batch)
        return {name: batch[name] for name in task.batch_keys if name in batch}

    return host_transform


def every_while(
    totals: Mapping[str, int], log: Log, clock: Callable[[], float] = time.monotonic
) -> Callable[[str, int], None]:
    """Returns report(what, done), which logs how many are encoded every COUNT_SECONDS.

    Args:
        totals: how many of each there are.
    """
    last = clock()

    def report(what: str, done: int) -> None:
        nonlocal last
        if clock() - last >= COUNT_SECONDS:
            last = clock()
            log(f"encoded {done:,} of {totals[what]:,} {what}")

    return report


@dataclasses.dataclass(frozen=True)
class SampledEmbeddings:
    """Replaces the z_i of a share of the examples by samples of a prior.

    At sampling a decoder is conditioned on z_i that a prior sampled for the caption, and in
    training on true ones (ours; unCLIP trains on true embeddings alone). Which examples get a
    sample, and which of their caption's, depends on the run's seed and the example's number, so
    that a resumed run has the same.

    Attributes:
        samples: the prior's, by caption.
        share: of the examples that get a sample, if it is near enough.
        seed: of the run.
        least_cosine: of a sample to the example's own z_i; -1 takes any. A sample of "a cat" may be
            near another image of a cat than the one that is shown, and blurs what is learned of it.
    """

    samples: PriorSamples
    share: float
    seed: int
    least_cosine: float = -1.0

    def mix(self, batch: HostBatch) -> Float32[np.ndarray, "b d"]:
        """Returns z_i of a batch with `image_emb`, `tokens` and `index`."""
        rows = self.samples.rows(batch["tokens"])
        image_emb = np.array(batch["image_emb"], np.float32)
        draws = np.stack([self._draw(int(number)) for number in batch["index"]])
        chosen = draws[:, 0] < self.share
        pick = (draws[:, 1] * self.samples.image_emb.shape[1]).astype(np.int64)
        sampled = self.samples.image_emb[rows, pick]
        if self.least_cosine > -1:
            chosen &= (unit64(sampled) * unit64(image_emb)).sum(1) >= self.least_cosine
        image_emb[chosen] = sampled[chosen]
        return image_emb

    def _draw(self, number: int) -> Float64[np.ndarray, " 2"]:
        key = [(self.seed ^ _SAMPLED) & _MASK, number]
        return np.random.Generator(np.random.Philox(key=key)).random(2)


@dataclasses.dataclass(frozen=True)
class FixedLengthTokenizer:
    """A tokenizer at one context length."""

    tokenizer: Tokenizer
    context: int

    def encode(self, texts: Sequence[str]) -> Tokens:
        """Encodes texts into rows of `context` ids."""
        return self.tokenizer.encode(texts, self.context)


class NullTokenizer:
    """The tokenizer of a stage that reads no captions."""

    def encode(self, texts: Sequence[str]) -> Tokens:
        """Returns rows without tokens."""
        return Tokens(
            tokens=np.zeros((len(texts), 0), np.int32),
            mask=np.zeros((len(texts), 0), bool),
            truncated=np.zeros(len(texts), bool),
        )


def without_augmentation(cfg: DataConfig) -> DataConfig:
    """Returns the config with nothing random about the images."""
    crop = "center" if cfg.crop == "random" else cfg.crop
    return dataclasses.replace(cfg, zoom=0.0, shift=0.0, crop=crop)


def unaugmented_images(source: Source, cfg: DataConfig) -> Iterator[UInt8[np.ndarray, "s s 3"]]:
    """Yields all images of a source in order, as training shows them.

    Raises:
        UserError: the config augments images, so that their features cannot be cached.
    """
    if without_augmentation(cfg) != cfg or cfg.window:
        raise UserError(
            "train.cache_clip needs data.zoom=0, data.shift=0, data.window=0 and no random crop"
        )
    return ordered_images(source, cfg)
