"""A store of CLIP embeddings: array_record shards of (key, z_i, z_t, token ids), and meta.json.

A record is one image with one of its captions; an image with several captions has a record for
each, "KEY#0", "KEY#1", …, with the same z_i. Little-endian: the key's length (uint32) and its
UTF-8, z_i and z_t (float32 [width] each, as the towers return them), token ids (int32 [context]).

Shards are complete or absent, and shard i contains the same images whoever writes it, so that a
killed run can be resumed and processes can share the work. meta.json records the CLIP (digest of
its parameters) and the data (fingerprint): a store of another CLIP cannot be continued.
"""

import contextlib
import dataclasses
import json
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int32

from unclip_jax.core.errors import UserError, shorten
from unclip_jax.core.files import read_mapping, whole_file
from unclip_jax.core.locks import LOCK

META = "meta.json"
FORMAT_VERSION = 1
COUNT_LIMIT = 2**40  # largest number in meta.json
REMEDY = "delete it and run unclip embed again, which writes what is missing"
_DAMAGE = (ArithmeticError, LookupError, OSError, RuntimeError, struct.error, TypeError, ValueError)


@dataclasses.dataclass(frozen=True)
class StoreMeta:
    """The contents of meta.json.

    Attributes:
        clip: digest of the CLIP's parameters.
        data: name, split, selection, fingerprint and crop of the images.
        width: of z_i and z_t.
        context: token ids of a caption.
        examples: number of images.
        shard_size: images in each shard but the last.
    """

    clip: str
    data: Mapping[str, Any]
    width: int
    context: int
    examples: int
    shard_size: int

    @property
    def shards(self) -> int:
        """Number of shards of the complete store."""
        return -(-self.examples // self.shard_size)

    def members(self, shard: int) -> range:
        """Returns the indices of the images of a shard."""
        first = shard * self.shard_size
        return range(first, min(first + self.shard_size, self.examples))


@dataclasses.dataclass(frozen=True)
class Record:
    """One image with one of its captions."""

    key: str
    image_emb: Float[np.ndarray, " d"]
    text_emb: Float[np.ndarray, " d"]
    tokens: Int32[np.ndarray, " ctx"]


def begin_store(folder: Path, meta: StoreMeta) -> list[int]:
    """Creates a store, or resumes an existing one; returns the shards that are missing.

    Raises:
        UserError: the folder is a store of another CLIP or of other data, or not a store.
    """
    entries = {"format_version": FORMAT_VERSION, **dataclasses.asdict(meta)}
    entries = json.loads(json.dumps(entries))
    path = folder / META
    if path.exists():
        differing = [key for key, value in entries.items() if read_mapping(path).get(key) != value]
        if differing:
            raise UserError(
                f"{folder} is a store with other {' and '.join(differing)}; choose another --out"
            )
    elif folder.is_dir() and any(path.name != LOCK for path in folder.iterdir()):
        raise UserError(f"{folder} is not empty and not a store; choose another --out")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as part:
            part.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    return [i for i in range(meta.shards) if not shard_path(folder, i, meta.shards).exists()]


def wait_for_store(folder: Path, seconds: float = 60.0) -> None:
    """Waits until a store that another host created is visible here, on a shared file system.

    Raises:
        UserError: it did not appear in time, so the folder is probably not shared.
    """
    until = time.monotonic() + seconds
    while not (folder / META).exists():
        if time.monotonic() > until:
            raise UserError(f"{folder} is not what process 0 sees; --out must be a shared folder")
        time.sleep(0.1)


def wait_for_shards(folder: Path, meta: StoreMeta) -> None:
    """Waits until all shards exist; a job that loses a process ends by itself."""
    for shard in range(meta.shards):
        while not shard_path(folder, shard, meta.shards).exists():
            time.sleep(0.2)


def read_meta(folder: Path, clips: Iterable[str] | None = None) -> StoreMeta:
    """Reads meta.json.

    Args:
        clips: accepted digests of the CLIP; None accepts any.
    """
    entries = read_mapping(folder / META, remedy=REMEDY)
    if entries.pop("format_version", None) != FORMAT_VERSION:
        raise UserError(f"{folder / META} is not of format version {FORMAT_VERSION}")
    names = {field.name for field in dataclasses.fields(StoreMeta)}
    if set(entries) != names:
        raise UserError(f"{folder / META} must contain {', '.join(sorted(names))}")
    counts = [entries[name] for name in ("width", "context", "examples", "shard_size")]
    if not (isinstance(entries["clip"], str) and isinstance(entries["data"], dict)) or any(
        type(count) is not int or not 0 < count <= COUNT_LIMIT for count in counts
    ):
        raise UserError(f"{folder / META} is damaged: a value of the wrong type or size; {REMEDY}")
    meta = StoreMeta(**entries)
    if clips is not None and meta.clip not in set(clips):
        raise UserError(
            f"{folder} contains the embeddings of another CLIP; run unclip embed with this one"
        )
    return meta


def shard_path(folder: Path, shard: int, shards: int) -> Path:
    """Returns the path of a shard."""
    return folder / f"embeddings-{shard:05d}-of-{shards:05d}.array_record"


def existing_shard(folder: Path, shard: int, meta: StoreMeta) -> Path:
    """Returns the path of a shard.

    Raises:
        UserError: it does not exist.
    """
    path = shard_path(folder, shard, meta.shards)
    if not path.exists():
        raise UserError(f"{path} is missing: run unclip embed again to write it")
    return path


def write_shard(folder: Path, shard: int, meta: StoreMeta, records: Iterable[Record]) -> None:
    """Writes a shard, completely or not at all."""
    from array_record.python.array_record_module import ArrayRecordWriter

    with whole_file(shard_path(folder, shard, meta.shards)) as part:
        writer = ArrayRecordWriter(str(part), "group_size:1")
        for record in records:
            writer.write(pack(record))
        writer.close()


def read_shard(folder: Path, shard: int, meta: StoreMeta) -> Iterator[Record]:
    """Yields the records of a shard in order."""
    from array_record.python.array_record_module import ArrayRecordReader

    path = existing_shard(folder, shard, meta)
    with readable(path):
        reader = ArrayRecordReader(str(path))
        records = reader.read_all()
        reader.close()
    for data in records:
        with readable(path):
            record = unpack(data, meta.width, meta.context)
        yield record


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns errors of a damaged shard or store into a UserError with its path and the remedy."""
    try:
        yield
    except _DAMAGE as error:
        reason = shorten(str(error) or type(error).__name__, 200)
        raise UserError(f"{path} is damaged ({reason}); {REMEDY}") from error


def pack(record: Record) -> bytes:
    """Returns a record as bytes."""
    key = record.key.encode("utf-8")
    arrays = (
        np.asarray(record.image_emb, "<f4"),
        np.asarray(record.text_emb, "<f4"),
        np.asarray(record.tokens, "<i4"),
    )
    return struct.pack("<I", len(key)) + key + b"".join(array.tobytes() for array in arrays)


def unpack(data: bytes, width: int, context: int) -> Record:
    """Returns the record of `pack`'s bytes."""
    start = 4 + struct.unpack_from("<I", data)[0] if len(data) >= 4 else 4
    if len(data) != start + 8 * width + 4 * context:
        raise UserError(f"a record of {len(data)} bytes is not one of {width=}, {context=}")
    floats = np.frombuffer(data, "<f4", 2 * width, start).astype(np.float32)
    tokens = np.frombuffer(data, "<i4", context, start + 8 * width).astype(np.int32)
    return Record(data[4:start].decode("utf-8"), floats[:width], floats[width:], tokens)
