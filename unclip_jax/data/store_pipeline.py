"""The input pipeline over a store of embeddings, which takes the place of pipeline.py's images.

Every record (one image with one of its captions) is an example: an image with four captions is
shown four times an epoch. Records are read by index; nothing is cached in memory.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import grain
import numpy as np
from jaxtyping import Integer

from unclip_jax.core.errors import UserError
from unclip_jax.data.config import DataConfig
from unclip_jax.data.embeddings import META, Record, StoreMeta, existing_shard, readable, unpack
from unclip_jax.data.pipeline import ENDLESS, endless_order
from unclip_jax.text.context import until_eot

FINGERPRINT_SAMPLE = 256  # records that are hashed for a fingerprint


class StoredExamples:
    """The records of all shards of a store, by index."""

    def __init__(self, folder: Path, meta: StoreMeta):
        """Opens all shards.

        Raises:
            UserError: a shard is missing or damaged.
        """
        self.folder, self.meta = folder, meta
        paths = [str(existing_shard(folder, shard, meta)) for shard in range(meta.shards)]
        if not paths:
            raise UserError(f"the store {folder} is empty")
        with readable(folder):
            self._records = grain.sources.ArrayRecordDataSource(paths)
            len(self._records)

    def __len__(self) -> int:
        """Returns the number of records."""
        return len(self._records)

    def read(self, indices: Sequence[int]) -> list[Record]:
        """Returns the records at `indices`, in that order."""
        with readable(self.folder):
            records = self._records.__getitems__(list(indices))
            return [unpack(data, self.meta.width, self.meta.context) for data in records]

    def fingerprint(self) -> str:
        """Returns a hash of meta.json, the number of records, and the keys and tokens of some.

        Embeddings are left out: up to rounding, the CLIP and the examples determine them.
        """
        digest = hashlib.sha256((self.folder / META).read_bytes() + b"%d" % len(self))
        count = min(len(self), FINGERPRINT_SAMPLE)
        indices = np.linspace(0, len(self) - 1, count).astype(np.int64)
        for record in self.read(indices.tolist()):
            digest.update(record.key.encode() + record.tokens.tobytes())
        return digest.hexdigest()


def make_store_batches(
    source: StoredExamples,
    cfg: DataConfig,
    *,
    batch_size: int,
    seed: int,
    rows: Integer[np.ndarray, " b"] | None = None,
    text_emb: bool = True,
) -> grain.MapDataset:
    """Makes the random-access data set whose item k is this process's share of batch k.

    A batch is {"image_emb": float32 [b, d], "text_emb": float32 [b, d], "tokens": int32 [b, ctx],
    "mask": bool [b, ctx], "index": int64 [b], "example": int64 [b]}; see `make_batches`.

    Args:
        cfg: only `shuffle` is used; the images have already been through CLIP.
        text_emb: whether batches contain z_t, for a stage that does not compute it.
    """
    if len(source) == 0:
        raise UserError(f"the store {source.folder} is empty")
    order = endless_order(grain.MapDataset.range(len(source)), cfg, seed)
    rows = np.arange(batch_size) if rows is None else rows
    return grain.MapDataset.source(_StoreBatches(order, source, batch_size, rows, text_emb))


@dataclasses.dataclass
class _StoreBatches:
    """Random access to batches; only the order is random."""

    order: grain.MapDataset
    source: StoredExamples
    batch_size: int
    rows: np.ndarray
    text_emb: bool

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, batch: int) -> dict[str, np.ndarray]:
        index = batch * self.batch_size + np.asarray(self.rows, np.int64)
        example = np.asarray([int(self.order[int(i)]) for i in index], np.int64)
        records = self.source.read(example.tolist())
        tokens = np.stack([record.tokens for record in records])
        fields = {
            "image_emb": np.stack([record.image_emb for record in records]),
            "tokens": tokens,
            "mask": until_eot(tokens),
            "index": index,
            "example": example,
        }
        if self.text_emb:
            fields["text_emb"] = np.stack([record.text_emb for record in records])
        return fields
