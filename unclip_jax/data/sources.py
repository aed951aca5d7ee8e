"""Random access to captioned images, whatever they are stored in.

A source knows its length and returns example i as a dict; shuffling, resizing and tokenization are
pipeline.py's. `load_source` opens a prepared folder by name or path, or a procedural set
("shapes", "scenes", "words"), which needs no files.
"""

import hashlib
import importlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypedDict, runtime_checkable

import numpy as np

from unclip_jax.core.errors import UserError
from unclip_jax.core.files import cache_folder
from unclip_jax.data import images
from unclip_jax.data.sets import captions as captions_lib

INFO_LIMIT = 500_000
"""Largest source, in examples, whose metadata are cached and whose captions are all listed."""

PROCEDURAL = ("shapes", "scenes", "words")
"""Data sets that are drawn when they are read (data/sets/)."""

_FLAG_CATEGORIES = ("flag", "country-flag", "subdivision-flag")


class Info(TypedDict):
    """The metadata of an example: everything but its image."""

    captions: tuple[str, ...]
    concept: str
    style: str
    category: str
    key: str


class Example(Info):
    """An example: its metadata and "image", uint8 [h, w, 3]."""

    image: np.ndarray


@runtime_checkable
class Source(Protocol):
    """Images with captions, by index."""

    def __len__(self) -> int:
        """Returns the number of examples."""
        ...

    def __getitem__(self, index: int) -> Example:
        """Returns example `index`, decoded."""
        ...

    def info(self, index: int) -> Info:
        """Returns the metadata of example `index`."""
        ...


class RecordSource:
    """A split of a prepared folder of array_record files."""

    def __init__(self, folder: Path, split: str):
        """Opens the split; no record is read yet."""
        from unclip_jax.data import builder  # imports tfds, which takes half a second

        self.folder, self.split = folder, split
        self._decode_text = builder.decode_text
        self._records = builder.open_records(folder, split)
        self._infos: dict[int, Info] = {}

    def __len__(self) -> int:
        """Returns the number of examples."""
        return len(self._records)

    def __getitem__(self, index: int) -> Example:
        """Reads and decodes example `index`."""
        record = self._records[int(index)]
        try:
            image = images.decode(record["image"])
        except UserError as error:
            where = f"{self.folder} {self.split} record {index}"
            raise UserError(f"{where}: {error}; run unclip data ingest again") from error
        return {"image": image, **self._info(record)}

    def info(self, index: int) -> Info:
        """Reads the metadata of example `index`; cached for sources of at most INFO_LIMIT examples.

        The image is not decoded, but it is read: it is a part of the record.
        """
        info = self._infos.get(index)
        if info is None:
            info = self._info(self._records[int(index)])
            if len(self) <= INFO_LIMIT:
                self._infos[index] = info
        return info

    def _info(self, record) -> Info:
        text = self._decode_text
        fields = {k: text(record[k]) for k in ("concept", "style", "category", "key")}
        return {"captions": tuple(text(c) for c in record["captions"]), **fields}


class Subset:
    """Some examples of another source, in the given order."""

    def __init__(self, source: Source, indices: Sequence[int]):
        """Selects the examples `indices` of `source`."""
        self.source, self.indices = source, np.asarray(indices, np.int64)

    def __len__(self) -> int:
        """Returns the number of examples."""
        return len(self.indices)

    def __getitem__(self, index: int) -> Example:
        """Returns example `index` of the subset."""
        return self.source[int(self.indices[index])]

    def info(self, index: int) -> Info:
        """Returns the metadata of example `index` of the subset."""
        return self.source.info(int(self.indices[index]))


class Mixture:
    """The concatenation of several sources, with their sampling weights."""

    def __init__(self, sources: Sequence[Source], weights: Sequence[float] = ()):
        """Concatenates sources; without weights they are sampled equally often."""
        ends = np.cumsum([len(source) for source in sources]).tolist()
        self.sources = tuple(sources)
        self.parts = tuple(map(range, [0, *ends[:-1]], ends))
        self.weights = tuple(weights) or (1.0,) * len(self.sources)

    def __len__(self) -> int:
        """Returns the number of examples of all sources together."""
        return self.parts[-1].stop

    def __getitem__(self, index: int) -> Example:
        """Returns example `index`, decoded."""
        source, local = self._locate(index)
        return source[local]

    def info(self, index: int) -> Info:
        """Returns the metadata of example `index`."""
        source, local = self._locate(index)
        return source.info(local)

    def _locate(self, index: int) -> tuple[Source, int]:
        """Returns the source of an example, and the example's index in it."""
        index, pairs = int(index), zip(self.sources, self.parts, strict=True)
        return next((source, index - part.start) for source, part in pairs if index in part)


def data_root() -> Path:
    """Returns the folder of prepared data sets: $UNCLIP_DATA or ~/.cache/unclip_jax/data."""
    given = os.environ.get("UNCLIP_DATA")
    return Path(given).expanduser() if given else cache_folder() / "data"


def load_source(name_or_dir: str | os.PathLike, split: str = "train") -> Source:
    """Opens a split of a prepared data set or of the procedural shapes.

    Args:
        name_or_dir: a name under `data_root()` such as "emoji", a path, a procedural set such as
            "shapes", or one with options, "scenes:size=32,count=500".
        split: "train", "test", or another split of the data set; several are joined by "+".
    """
    name = os.fspath(name_or_dir)
    if is_procedural(name):
        # The module has the name of its source.
        module = importlib.import_module(f"unclip_jax.data.sets.{name.partition(':')[0]}")
        return module.from_name(name, split)
    return RecordSource(locate(name), split)


def is_procedural(name_or_dir: str | os.PathLike) -> bool:
    """Whether a data set is drawn, not read: shapes, scenes or words, with or without options."""
    return os.fspath(name_or_dir).partition(":")[0] in PROCEDURAL


def locate(name_or_dir: str | os.PathLike) -> Path:
    """Finds the folder of a prepared data set, by path or by name."""
    from unclip_jax.data import builder

    name = os.fspath(name_or_dir)
    for folder in (Path(name).expanduser(), data_root() / name) if name else ():
        found = builder.find_prepared(folder) if folder.is_dir() else None
        if found is not None:
            return found
    remedy = (
        f"unclip data prepare {name}" if name == "emoji" else "unclip data ingest SRC --out DIR"
    )
    raise UserError(f"no data set {name!r} here or in {data_root()}; create it with: {remedy}")


def fingerprint(name_or_dir: str | os.PathLike) -> str | None:
    """Returns a hash of a data set's file names and sizes, and of the text of its small files.

    The records are not read: there may be terabytes of them. None for procedural shapes.
    """
    if is_procedural(name_or_dir):
        return None
    folder, digest = locate(name_or_dir), hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder)} {size}\n".encode())
        if path.suffix in (".json", ".txt", ".md") and size < 2**20:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def split_sizes(name_or_dir: str | os.PathLike) -> dict[str, int]:
    """Returns the number of examples of each split of a data set."""
    name = os.fspath(name_or_dir)
    if is_procedural(name):
        return {split: len(load_source(name, split)) for split in ("train", "test")}
    from unclip_jax.data import builder

    return builder.split_sizes(locate(name))


def select(source: Source, *, concepts: str = "all", styles: Sequence[str] = ()) -> Source:
    """Returns the examples of some concepts and styles; see `matching_indices`."""
    if concepts == "all" and not styles:
        return source
    return Subset(source, matching_indices(source, concepts=concepts, styles=styles))


def matching_indices(
    source: Source, *, concepts: str = "all", styles: Sequence[str] = ()
) -> list[int]:
    """Lists the examples of some concepts and styles, in order.

    Args:
        concepts: "all", "common" and "everyday" (the packaged lists; the second has the recolored
            drawings and the pairs of its concepts too), "no_flags", or labels joined by ", ".
        styles: empty means all.

    Raises:
        UserError: there are none.
    """
    indices = list(_matching(source, concepts, styles))
    if not indices:
        raise UserError(f"no example has concepts={concepts!r} and styles={tuple(styles)!r}")
    return indices


def any_matches(source: Source, *, concepts: str = "all", styles: Sequence[str] = ()) -> bool:
    """Whether there is an example of some concepts and styles; see `matching_indices`."""
    return next(_matching(source, concepts, styles), None) is not None


def _matching(source: Source, concepts: str, styles: Sequence[str]) -> Iterator[int]:
    """Gives the indices of the examples of some concepts and styles."""
    wanted = None
    if concepts == "common":
        wanted = frozenset(captions_lib.common_concepts())
    elif concepts == "everyday":
        wanted = frozenset(captions_lib.everyday_concepts())
    elif concepts not in ("all", "no_flags"):
        wanted = frozenset(label.strip() for label in concepts.split(","))
    for index in range(len(source)):
        info = source.info(index)
        if styles and info["style"] not in styles:
            continue
        concept = info["concept"]
        if concepts == "everyday" and info["category"] == captions_lib.RECOLORED:
            concept = concept.partition(" ")[2]
        is_pair = concepts == "everyday" and info["category"] == captions_lib.PAIR
        if wanted is not None and concept not in wanted and not is_pair:
            continue
        if concepts == "no_flags" and info["category"] in _FLAG_CATEGORIES:
            continue
        yield index


def all_captions(source: Source, limit: int | None = None) -> list[str]:
    """Lists the distinct captions of a source, sorted.

    Args:
        limit: number of examples to read, evenly spaced; None reads all.
    """
    indices: Iterable[int] = range(len(source))
    if limit is not None and len(source) > limit:
        indices = np.linspace(0, len(source) - 1, limit).astype(np.int64).tolist()
    return sorted({caption for index in indices for caption in source.info(index)["captions"]})
