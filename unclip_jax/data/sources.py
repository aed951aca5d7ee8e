"""Random access to captioned pictures, whatever they are kept in.

A source knows its length and gives example i as a dict; it neither shuffles, resizes nor tokenises
(pipeline.py does). `load_source` opens a prepared folder by name or path, or the procedural
"shapes", which needs no files.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, TypedDict, runtime_checkable

import numpy as np

from unclip_jax.core.errors import UserError
from unclip_jax.core.files import cache_folder
from unclip_jax.data import images
from unclip_jax.data.sets import captions as captions_lib

INFO_LIMIT = 500_000  # examples of a source whose captions are kept in memory

_FLAG_CATEGORIES = ("flag", "country-flag", "subdivision-flag")


class Info(TypedDict):
    """What is known of an example without its pixels."""

    captions: tuple[str, ...]
    concept: str
    style: str
    category: str
    key: str


class Example(Info):
    """An example: its info and "image", uint8 [h, w, 3]."""

    image: np.ndarray


@runtime_checkable
class Source(Protocol):
    """Pictures with captions, by index."""

    def __len__(self) -> int:
        """Number of examples."""
        ...

    def __getitem__(self, index: int) -> Example:
        """Example `index`, decoded."""
        ...

    def info(self, index: int) -> Info:
        """Example `index` without its pixels."""
        ...


class RecordSource:
    """A split of a prepared folder of array_record files."""

    def __init__(self, folder: Path, split: str):
        """Opens the split; nothing is read yet."""
        from unclip_jax.data import builder  # tfds takes half a second: only who reads it pays

        self.folder, self.split = folder, split
        self._text = builder.text
        self._records = builder.open_records(folder, split)
        self._infos: dict[int, Info] = {}

    def __len__(self) -> int:
        """Number of examples."""
        return len(self._records)

    def __getitem__(self, index: int) -> Example:
        """Reads and decodes example `index`."""
        record = self._records[int(index)]
        try:
            image = images.decode(record["image"])
        except UserError as error:
            where = f"{self.folder} {self.split} record {index}"
            raise UserError(f"{where}: {error}; make the set again: unclip data ingest") from error
        return {"image": image, **self._info(record)}

    def info(self, index: int) -> Info:
        """Reads example `index` without decoding its image; the first INFO_LIMIT are kept.

        Image and captions lie in one record, so that the whole of it is read.
        """
        info = self._infos.get(index)
        if info is None:
            info = self._info(self._records[int(index)])
            if len(self._infos) < INFO_LIMIT:
                self._infos[index] = info
        return info

    def _info(self, record) -> Info:
        text = self._text
        fields = {k: text(record[k]) for k in ("concept", "style", "category", "key")}
        return {"captions": tuple(text(c) for c in record["captions"]), **fields}


class Subset:
    """Some examples of another source, in the order given."""

    def __init__(self, source: Source, indices: Sequence[int]):
        """Keeps `indices` of `source`."""
        self.source, self.indices = source, np.asarray(indices, np.int64)

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.indices)

    def __getitem__(self, index: int) -> Example:
        """Example `index` of the subset."""
        return self.source[int(self.indices[index])]

    def info(self, index: int) -> Info:
        """Example `index` of the subset, without its pixels."""
        return self.source.info(int(self.indices[index]))


class Mixture:
    """Several sources as one, each after the other, with how often each is to be shown."""

    def __init__(self, sources: Sequence[Source], weights: Sequence[float] = ()):
        """Joins sources; without weights they are shown equally often."""
        ends = np.cumsum([len(source) for source in sources]).tolist()
        self.sources = tuple(sources)
        self.parts = tuple(map(range, [0, *ends[:-1]], ends))
        self.weights = tuple(weights) or (1.0,) * len(self.sources)

    def __len__(self) -> int:
        """Number of examples of all sources."""
        return self.parts[-1].stop

    def __getitem__(self, index: int) -> Example:
        """Example `index`, decoded."""
        source, place = self._place(index)
        return source[place]

    def info(self, index: int) -> Info:
        """Example `index` without its pixels."""
        source, place = self._place(index)
        return source.info(place)

    def _place(self, index: int) -> tuple[Source, int]:
        place, pairs = int(index), zip(self.sources, self.parts, strict=True)
        return next((source, place - part.start) for source, part in pairs if place in part)


def data_root() -> Path:
    """Returns the folder of prepared sets: $UNCLIP_DATA or ~/.cache/unclip_jax/data."""
    given = os.environ.get("UNCLIP_DATA")
    return Path(given).expanduser() if given else cache_folder() / "data"


def load_source(name_or_dir: str | os.PathLike, split: str = "train") -> Source:
    """Opens a split of a set by name, by folder, or of the procedural shapes.

    Args:
        name_or_dir: "emoji" or another name under `data_root()`, a path, "shapes", or
            "shapes:size=32,count=500".
        split: "train", "test_concepts", "test_combinations" (emoji), "test" (shapes); several are
            joined by "+".
    """
    name = os.fspath(name_or_dir)
    if name.partition(":")[0] == "shapes":
        from unclip_jax.data.sets import shapes  # imports this module's types

        return shapes.from_name(name, split)
    return RecordSource(locate(name), split)


def locate(name_or_dir: str | os.PathLike) -> Path:
    """Finds a prepared set's folder, by path or by name."""
    from unclip_jax.data import builder

    name = os.fspath(name_or_dir)
    for folder in (Path(name).expanduser(), data_root() / name):
        found = builder.find(folder) if folder.is_dir() else None
        if found is not None:
            return found
    remedy = (
        f"unclip data prepare {name}" if name == "emoji" else "unclip data ingest SRC --out DIR"
    )
    raise UserError(f"no data set {name!r} here or in {data_root()}; make it with: {remedy}")


def fingerprint(name_or_dir: str | os.PathLike) -> str | None:
    """Returns a hash of a prepared set's file names and sizes, and of the text of its small files.

    The records themselves are not read: there may be terabytes of them. None for a procedural set.
    """
    if os.fspath(name_or_dir).partition(":")[0] == "shapes":
        return None
    folder, digest = locate(name_or_dir), hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder)} {size}\n".encode())
        if path.suffix in (".json", ".txt", ".md") and size < 2**20:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def split_sizes(name_or_dir: str | os.PathLike) -> dict[str, int]:
    """Counts the examples of each split of a set."""
    name = os.fspath(name_or_dir)
    if name.partition(":")[0] == "shapes":
        return {split: len(load_source(name, split)) for split in ("train", "test")}
    from unclip_jax.data import builder

    return builder.split_sizes(locate(name))


def select(source: Source, *, concepts: str = "all", styles: Sequence[str] = ()) -> Source:
    """Keeps the examples of some concepts and styles; see `matching`."""
    if concepts == "all" and not styles:
        return source
    return Subset(source, matching(source, concepts=concepts, styles=styles))


def matching(source: Source, *, concepts: str = "all", styles: Sequence[str] = ()) -> list[int]:
    """Lists the examples of some concepts and styles, in order; none is an error.

    Args:
        concepts: "all", "common" (the packaged list), "no_flags", or labels joined by ", ".
        styles: styles to keep; empty keeps all.
    """
    wanted = None
    if concepts == "common":
        wanted = frozenset(captions_lib.common_concepts())
    elif concepts not in ("all", "no_flags"):
        wanted = frozenset(label.strip() for label in concepts.split(","))
    kept = []
    for index in range(len(source)):
        info = source.info(index)
        if styles and info["style"] not in styles:
            continue
        if wanted is not None and info["concept"] not in wanted:
            continue
        if concepts == "no_flags" and info["category"] in _FLAG_CATEGORIES:
            continue
        kept.append(index)
    if not kept:
        raise UserError(f"no example has concepts={concepts!r} and styles={tuple(styles)!r}")
    return kept


def all_captions(source: Source, limit: int | None = None) -> list[str]:
    """Lists every different caption of a source, sorted.

    Args:
        limit: of a source with more examples so many are read, evenly spread.
    """
    places: Iterable[int] = range(len(source))
    if limit is not None and len(source) > limit:
        places = np.linspace(0, len(source) - 1, limit).astype(np.int64).tolist()
    return sorted({caption for index in places for caption in source.info(index)["captions"]})
