"""Readers of captioned images: WebDataset tars, folders, lists, prepared tfds data sets.

A reader yields an Item for everything it finds; one that cannot be used says why, so that a single
bad sample never ends the reading. Pickled members are never opened. No tfds code is downloaded or
run: a tfds data set must be prepared, as array_record.
"""

import dataclasses
import functools
import glob
import itertools
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unclip_jax.core.errors import UserError
from unclip_jax.data import builder, images, lists, tars

_LIST_NAMES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")  # as Hugging Face names them
_FILES_LIMIT = 1_000_000  # named by one pattern
_NESTING = 4  # of captions in lists and objects
_DAMAGE = (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError)
_DAMAGE += (TypeError, ValueError)


@dataclasses.dataclass(frozen=True)
class Item:
    """One image as found.

    Attributes:
        key: name of the image, unique in the data set.
        image: encoded bytes.
        captions: none if the image has no caption.
        concept: class name, if there is one.
        fault: category of what cannot be used, e.g. "damaged tars"; empty if it can be.
        reason: what is wrong with it.
    """

    key: str
    image: bytes = b""
    captions: tuple[str, ...] = ()
    concept: str = ""
    fault: str = ""
    reason: str = ""


Reader = Callable[[], Iterator[Item]]


def open_reader(source: str) -> Reader:
    """Returns the reader for `source`; see `ingest`."""
    if source.startswith("tfds:"):
        name, _, split = source[len("tfds:") :].partition(":")
        return lambda: read_tfds(name, split)
    paths = expand(source)
    if len(paths) == 1:
        return _open(paths[0], paths[0].name)
    root = Path(os.path.commonpath([path.parent for path in paths]))
    readers = [_open(path, path.relative_to(root).as_posix()) for path in paths]
    return lambda: itertools.chain.from_iterable(reader() for reader in readers)


def expand(source: str) -> list[Path]:
    """Expands a path or pattern to files and folders: `*`, `?`, {a,b}, {000..127}."""
    whole = Path(os.path.expanduser(source))
    if _exists(whole):
        return [whole]
    found: list[Path] = []
    for name in _braces(str(whole)):
        matches = sorted(glob.glob(name)) if glob.has_magic(name) else [name]
        missing = [match for match in matches if not _exists(Path(match))] or not matches
        if missing:
            raise UserError(f"{name} does not exist; give a tar, a folder, a list or tfds:NAME")
        found += map(Path, matches)
    return list(dict.fromkeys(found))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long or contains a NUL
        return False


def _braces(pattern: str) -> Iterator[str]:
    """Expands {a,b} and {00..12} as a shell does, lazily; other braces are kept."""
    open_ones, named = [iter([pattern])], 0
    while open_ones:
        name = next(open_ones[-1], None)
        if name is None:
            open_ones.pop()
        elif (choices := _first_braces(name)) is not None:
            open_ones.append(choices)
        else:
            named += 1
            if named > _FILES_LIMIT:
                raise UserError(f"{pattern} names more than {_FILES_LIMIT:,} files")
            yield name


def _first_braces(pattern: str) -> Iterator[str] | None:
    """Returns the pattern with each choice of its first braces, None if it has no braces."""
    for match in re.finditer(r"\{([^{}]*)\}", pattern):
        span = re.fullmatch(r"(\d{1,9})\.\.(\d{1,9})", match[1])
        choices: Sequence[str | int] = match[1].split(",")
        width = 0
        if span:
            first, last = map(int, span.groups())
            choices = range(first, last + 1)
            if any(number.startswith("0") for number in span.groups()):
                width = max(map(len, span.groups()))
        if not 0 < len(choices) <= _FILES_LIMIT:
            raise UserError(f"{match[0]} names no file, or more than {_FILES_LIMIT:,}")
        if span or len(choices) > 1:
            before, after = pattern[: match.start()], pattern[match.end() :]
            return (f"{before}{choice:0>{width}}{after}" for choice in choices)
    return None


def _open(path: Path, name: str) -> Reader:
    """Returns the reader of one file or folder; `name` is the prefix of keys where needed."""
    if path.is_file():
        if path.name.lower().endswith(tars.TAR_ENDS):
            return lambda: read_tar(path, name)
        if path.suffix.lower() in lists.LIST_ENDS:
            return lambda: read_list(path, name)
        known = ", ".join((*tars.TAR_ENDS, *lists.LIST_ENDS))
        raise UserError(f"{path} is not one of {known}, a folder or tfds:NAME")
    if not path.is_dir():
        raise UserError(f"{path} is neither a file nor a folder")
    prepared = builder.find_prepared(path)
    if prepared is not None:
        return lambda: read_tfds(str(prepared), "")
    shards = sorted(path.glob("*.tar"))
    if shards:
        return lambda: itertools.chain.from_iterable(read_tar(tar, tar.name) for tar in shards)
    for listed in _LIST_NAMES:
        if (path / listed).is_file():
            return lambda: read_list(path / listed, listed)
    prefix = "" if name == path.name else f"{name}/"
    return lambda: read_folder(path, prefix)


def read_folder(folder: Path, prefix: str = "") -> Iterator[Item]:
    """Yields each image below `folder` with the lines of NAME.txt as captions."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in tars.IMAGE_ENDS or not path.is_file():
            continue
        text_file = path.with_suffix(".txt")
        key = printable(prefix + path.relative_to(folder).as_posix())
        try:
            captions = _lines(_text(text_file)) if text_file.exists() else ()
            yield Item(key, images.read_bytes(path), captions)
        except (OSError, UserError) as error:
            yield Item(key, fault="unreadable files", reason=str(error))


def read_tar(path: Path, name: str = "") -> Iterator[Item]:
    """Yields the samples of a WebDataset tar: members that share the name up to the first dot."""
    name = printable(name or path.name)
    if not path.is_file():  # a pipe might never end
        yield Item(name, fault="unreadable files", reason=f"{path} is not a file")
        return
    try:
        for sample in tars.read_samples(path):
            key = f"{name}/{printable(sample.name)}"
            if sample.oversized:
                yield Item(key, fault="oversized files", reason=printable(sample.oversized))
            elif sample.image is not None:
                yield Item(key, sample.image, _sample_captions(sample))
    except UserError as error:
        yield Item(name, fault="damaged tars", reason=str(error))


def _sample_captions(sample: tars.Sample) -> tuple[str, ...]:
    found = tuple(c for e in (".txt", ".caption") for c in _lines(sample.texts.get(e, b"")))
    return found or texts(lists.read_object(sample.texts.get(".json", b"")))


def read_list(path: Path, name: str = "") -> Iterator[Item]:
    """Yields the rows of a list; paths of images are relative to the list's folder.

    Consecutive rows of one image become one item with several captions.
    """
    name = printable(name or path.name)
    folder = name.rpartition("/")[0]
    try:
        for location, rows in itertools.groupby(
            lists.read_rows(path), key=lambda row: row.location or row.number
        ):
            rows = list(itertools.islice(rows, lists.CAPTIONS_LIMIT))
            captions = tuple(c for row in rows for c in texts(row.fields))
            key = printable(f"{folder}/{location}" if folder else str(location))
            if isinstance(location, int):
                key = f"{name}/{location}"
            if rows[0].image is not None:
                yield Item(key, rows[0].image, captions)
                continue
            if not rows[0].location:
                yield Item(key, fault="rows without an image", reason=rows[0].problem)
                continue
            try:
                yield Item(key, images.read_bytes(path.parent / location), captions)
            except UserError as error:
                yield Item(key, fault="unreadable files", reason=str(error))
    except UserError as error:
        yield Item(name, fault="damaged lists", reason=str(error))


def read_tfds(name: str, split: str) -> Iterator[Item]:
    """Yields the images of a prepared tfds data set, with its texts or class names as captions."""
    from tensorflow_datasets import builder as make_builder
    from tensorflow_datasets import builder_from_directory, decode, features

    if Path(name).is_dir():
        odd = next(
            (p for p in sorted(Path(name).iterdir()) if not (p.is_file() or p.is_dir())), None
        )
        if odd is not None:  # tfds would block on a pipe
            raise UserError(f"{odd} is missing or not a file; {builder.REMEDY}")
        builder.check_classes(Path(name))
    try:
        build = builder_from_directory(name) if Path(name).is_dir() else make_builder(name)
        build_features, splits = dict(build.info.features.items()), list(build.info.splits)
    except Exception as error:  # tfds and its registry raise many types
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"cannot open tfds data set {name}: {reason}") from error
    image_keys = [k for k, f in build_features.items() if isinstance(f, features.Image)]
    if not image_keys or not splits:
        raise UserError(f"tfds data set {name} has no image feature or no prepared split")
    if split and split not in splits:
        raise UserError(f"tfds data set {name} has no split {split!r}; it has {', '.join(splits)}")
    label = next((k for k, f in build_features.items() if isinstance(f, features.ClassLabel)), None)
    for part in [split] if split else splits:
        try:
            data = build.as_data_source(split=part, decoders={image_keys[0]: decode.SkipDecoding()})
            count = len(data)
        except (NotImplementedError, ValueError) as error:
            raise UserError(
                f"tfds data set {name} is not array_record: prepare it with "
                "file_format='array_record'"
            ) from error
        except _DAMAGE as error:
            yield Item(part, fault="damaged splits", reason=f"{type(error).__name__}: {error}")
            continue
        names = build_features[label].names if label else None
        read = functools.partial(_tfds_item, data, part, image_keys[0], label, names)
        yield from map(read, range(count))


def _tfds_item(
    data: Any, part: str, image: str, label: str | None, names: list[str] | None, index: int
) -> Item:
    key = f"{part}/{index}"
    try:
        record = data[index]
        concept = names[int(record[label])].replace("_", " ") if names else ""
        captions = texts(record) or ((concept,) if concept else ())
        return Item(key, bytes(record[image]), captions, concept)
    except _DAMAGE as error:
        return Item(key, fault="damaged records", reason=f"{type(error).__name__}: {error}")


def texts(record: object, depth: int = 0) -> tuple[str, ...]:
    """Finds the captions of a record under one of CAPTION_KEYS, as text, list of texts or nested.

    Numbers and nulls are not captions.
    """
    if not isinstance(record, Mapping):
        return ()
    found = (_strings(record[key], depth + 1) for key in lists.CAPTION_KEYS if key in record)
    return next(filter(None, found), ())


def _strings(value: object, depth: int) -> tuple[str, ...]:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):  # a lone surrogate, which JSON can contain, cannot be written
        value = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").strip()
        return (value,) if value else ()
    if depth > _NESTING:
        return ()
    if isinstance(value, Mapping):
        return texts(value, depth)
    if isinstance(value, list | tuple):
        return tuple(text for one in value for text in _strings(one, depth + 1))
    return ()


def printable(name: str) -> str:
    """Returns a name as UTF-8 text; bytes that are not UTF-8 are escaped."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _text(path: Path) -> bytes:
    if not path.is_file():  # a pipe or a device might never end
        raise UserError(f"{path} is not a file")
    with path.open("rb") as file:
        data = file.read(tars.TEXT_LIMIT + 1)
    if len(data) > tars.TEXT_LIMIT:
        raise UserError(f"{path} is too large for captions: over {tars.TEXT_LIMIT / 2**20:.0f} MiB")
    return data


def _lines(text: bytes) -> tuple[str, ...]:
    lines = (line.strip() for line in text.decode("utf-8", "replace").splitlines())
    return tuple(line for line in lines if line)
