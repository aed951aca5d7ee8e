"""From the pipeline's NumPy batches to what a compiled step takes, and the held-out loss."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from unclip_jax.core.errors import UserError
from unclip_jax.data.config import DataConfig
from unclip_jax.data.pipeline import ordered_images
from unclip_jax.data.sources import Source
from unclip_jax.text.context import fit_context, until_eot
from unclip_jax.text.tokenizer import Tokenizer, Tokens
from unclip_jax.train.frozen import FeatureCache
from unclip_jax.train.loop import named_metrics
from unclip_jax.train.sampled import SampledEmbeddings
from unclip_jax.train.sharding import BatchSharding
from unclip_jax.train.tasks.clip import Task

Prepare = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]


class DeviceBatches:
    """The training batches on the devices; its state is that of the last batch it gave out."""

    def __init__(self, pipeline: Any, prepare: Prepare, place: BatchSharding):
        """Wraps the data pipeline's iterator."""
        self._pipeline, self._prepare, self._place = pipeline, prepare, place

    def __iter__(self) -> Iterator[Any]:
        """Returns itself."""
        return self

    def __next__(self) -> Any:
        """Returns the next batch as global arrays."""
        return self._place.to_global(self._prepare(next(self._pipeline)))

    def get_state(self) -> dict[str, Any]:
        """Returns where the iterator stands, as JSON."""
        return dict(self._pipeline.get_state())

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Puts the iterator where `get_state` found it."""
        self._pipeline.set_state(dict(state))


def make_prepare(
    task: Task,
    clip_context: int | None = None,
    own_context: int | None = None,
    cache: FeatureCache | None = None,
    sampled: SampledEmbeddings | None = None,
) -> Prepare:
    """Returns the host's part of making a batch: contexts cut to size, features looked up.

    Args:
        clip_context: of the frozen CLIP; None where the contexts are right as they come.
        own_context: of a text transformer that the stage trains itself.
        cache: CLIP features by example and caption; None = the step computes them.
        sampled: exchanges the cache's z_i for a prior's here and there.
    """

    def prepare(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        batch = dict(batch)
        if clip_context is not None:
            if own_context is not None:
                batch["own_tokens"] = fit_context(batch["tokens"], own_context)
            batch["tokens"] = fit_context(batch["tokens"], clip_context)
            batch["mask"] = until_eot(batch["tokens"])
        if cache is not None:
            batch |= cache.features(batch)
        if sampled is not None:
            batch["image_emb"] = sampled.mixed(batch)
        return {name: batch[name] for name in task.batch_keys if name in batch}

    return prepare


@dataclasses.dataclass(frozen=True)
class Texts:
    """A tokenizer that is asked for one context."""

    tokenizer: Tokenizer
    context: int

    def encode(self, texts: Sequence[str]) -> Tokens:
        """Encodes texts into rows of `context` ids."""
        return self.tokenizer.encode(texts, self.context)


class NoText:
    """Stands for a tokenizer where a stage reads no captions."""

    def encode(self, texts: Sequence[str]) -> Tokens:
        """Returns rows without tokens."""
        return Tokens(
            tokens=np.zeros((len(texts), 0), np.int32),
            mask=np.zeros((len(texts), 0), bool),
            truncated=np.zeros(len(texts), bool),
        )


def plain(cfg: DataConfig) -> DataConfig:
    """Returns the config with nothing random about the pictures."""
    crop = "center" if cfg.crop == "random" else cfg.crop
    return dataclasses.replace(cfg, zoom=0.0, shift=0.0, crop=crop)


def plain_images(source: Source, cfg: DataConfig) -> Iterator[np.ndarray]:
    """Yields all pictures of a source in order, as training shows them.

    A config that shows them differently each time is an error: features of theirs cannot be kept.
    """
    if plain(cfg) != cfg or cfg.window:
        raise UserError(
            "train.cache_clip needs data.zoom=0, data.shift=0, data.window=0 and no random crop"
        )
    return ordered_images(source, cfg)


def held_out_batches(
    pipeline: Any, prepare: Prepare, place: BatchSharding, count: int
) -> list[Any]:
    """Returns the first `count` batches of a held-out pipeline on the devices."""
    return [place.to_global(prepare(next(pipeline))) for _ in range(count)]


class HeldOutLoss:
    """The task's metrics with EMA parameters on fixed held-out batches, timesteps and noise."""

    def __init__(self, step: Any, batches: Sequence[Any], frozen: Any, names: Sequence[str]):
        """Keeps the compiled step (params, frozen, batch, number) -> sums."""
        self._step, self._batches, self._frozen = step, batches, frozen
        self._names = names

    def __call__(self, state: Any) -> dict[str, float]:
        """Returns {"held_out/NAME": mean}."""
        sums = [
            self._step(state.ema_params, self._frozen, batch, number)
            for number, batch in enumerate(self._batches)
        ]
        total = np.sum(np.asarray(jax.device_get(sums), np.float64), axis=0)
        return {f"held_out/{k}": v for k, v in named_metrics(total, self._names).items()}
