"""Writing and opening captioned data sets: tfds folders of array_record files, no TensorFlow.

One record: image (PNG or JPEG bytes), captions, concept, style, category, key. LICENSES.json and
README.md are written next to the records, so that attribution travels with the images.
"""

import contextlib
import io
import json
import logging
import re
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import json_format, message

from unclip_jax.core.errors import UserError, shorten
from unclip_jax.core.files import new_folder, read_mapping
from unclip_jax.core.renamed import with_old_keys

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow_datasets as tfds

INFO = "dataset_info.json"
REMEDY = "restore it from a copy, or run unclip data prepare or ingest again with --overwrite"
# What tfds, protobuf and array_record raise for damaged files.
DAMAGE = (
    *(ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError),
    *(AssertionError, ImportError, NotImplementedError, json_format.Error, message.Error),
)

CLASSES = "tensorflow_datasets."

Record = dict[str, Any]  # image bytes, captions, concept, style, category, key
Splits = Mapping[str, Callable[[], Iterable[Record]]]


def features(encoding: str | None) -> tfds.features.FeaturesDict:
    """Returns the features of a record; `encoding` is "png", "jpeg" or None for a mixture."""
    image = tfds.features.Image(shape=(None, None, 3), encoding_format=encoding)
    texts = {name: tfds.features.Text() for name in ("concept", "style", "category", "key")}
    captions = tfds.features.Sequence(tfds.features.Text())
    return tfds.features.FeaturesDict({"image": image, "captions": captions, **texts})


class CaptionedImages(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A tfds builder over given records."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, data_dir: str, splits: Splits, encoding: str | None, about: str):
        self._records, self._encoding, self._about = splits, encoding, about
        super().__init__(data_dir=data_dir, file_format="array_record")

    def _info(self):
        return self.dataset_info_from_configs(
            features=features(self._encoding), description=self._about
        )

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples(make) for name, make in self._records.items()}

    def _generate_examples(self, make: Callable[[], Iterable[Record]]):
        for record in make():
            yield record["key"], record


def write(
    out: Path,
    splits: Splits,
    *,
    about: str,
    licenses: list[dict[str, str]],
    encoding: str | None = "png",
    overwrite: bool = False,
    lock: bool = True,
) -> None:
    """Writes a data set into the folder `out`, completely or not at all.

    Args:
        splits: for each split, a function that yields its records.
        about: description for the metadata, one paragraph.
        licenses: one entry for each part, with "part", "license", "credit" and "url".
        lock: False if the caller already holds the lock of `out`.
    """
    with new_folder(Path(out), INFO, overwrite=overwrite, lock=lock) as folder, _quiet():
        build = CaptionedImages(
            data_dir=str(folder / "build"), splits=splits, encoding=encoding, about=about
        )
        with contextlib.redirect_stdout(io.StringIO()):  # tfds prints; stdout is for results
            build.download_and_prepare()
        for path in sorted(Path(build.data_dir).iterdir()):
            path.replace(folder / path.name)
        shutil.rmtree(folder / "build")
        entries = [with_old_keys(entry) for entry in licenses]
        (folder / "LICENSES.json").write_text(json.dumps(entries, indent=2) + "\n")
        (folder / "README.md").write_text(readme(about, licenses))


def readme(about: str, licenses: list[dict[str, str]]) -> str:
    """Returns the text of README.md: description and attribution."""
    rows = [f"- {x['part']}: {x['credit']} ({x['license']}). {x['url']}" for x in licenses]
    lines = ["# Captioned images", "", about, "", "## Licenses and attribution", *rows]
    return "\n".join(lines) + "\n"


def find_prepared(folder: Path) -> Path | None:
    """Returns the folder with dataset_info.json: `folder`, or its newest version below it.

    Only folders named like a version of tfds, as 1.0.0, count: another data set in a folder of
    images must not hide the images.
    """
    if (folder / INFO).is_file():
        return folder
    found = {p.parent.name: p.parent for p in folder.glob(f"*/{INFO}") if p.is_file()}
    versions = filter(is_version, found)
    newest = max(versions, key=lambda name: tuple(map(int, name.split("."))), default=None)
    return None if newest is None else found[newest]


def is_version(name: str) -> bool:
    """Whether a folder name is a version as tfds writes it."""
    return re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9}){2}", name) is not None


def split_sizes(folder: Path) -> dict[str, int]:
    """Reads the number of records of each split."""
    splits = _open(folder).info.splits
    return {name: split.num_examples for name, split in splits.items()}


def open_records(folder: Path, split: str) -> "Records":
    """Opens a split for random access; item i is a record whose image is still encoded bytes."""
    build = _open(folder)
    known = dict(build.info.splits.items())
    if not set(split.split("+")) <= set(known):
        raise UserError(f"{folder} has no split {split!r}; it has {', '.join(known)}")
    lacking = set(features(None)) - set(build.info.features)
    if lacking:
        raise UserError(
            f"{folder} has no {', '.join(sorted(lacking))}: not a data set of this program; "
            "convert it with: unclip data ingest"
        )
    shards = []
    for name in split.split("+"):
        with _readable(folder / INFO):
            files = list(map(Path, known[name].filepaths))
            shards += zip(files, known[name].shard_lengths, strict=True)
    for file, _ in shards:
        if not file.is_file():
            raise UserError(f"{file} is missing; {REMEDY}")
    with _readable(folder / INFO), _quiet():
        decoders = {"image": tfds.decode.SkipDecoding()}
        return Records(build.as_data_source(split=split, decoders=decoders), shards)


class Records:
    """The records of a split; errors of a damaged record name its file."""

    def __init__(self, data: Any, shards: list[tuple[Path, int]]):
        """Wraps tfds' data source; `shards` are its files with their numbers of records."""
        self._data, self._files = data, [file for file, _ in shards]
        self._ends = np.cumsum([count for _, count in shards])

    def __len__(self) -> int:
        """Returns the number of records."""
        return len(self._data)

    def __getitem__(self, index: int) -> Record:
        """Reads record `index`."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        shard = int(np.searchsorted(self._ends, index, side="right"))
        with _readable(self._files[min(shard, len(self._files) - 1)]):
            return self._data[index]


def _open(folder: Path) -> tfds.core.DatasetBuilder:
    """Opens a data set that was written as array_record."""
    for name in (INFO, "features.json"):
        if not (folder / name).is_file():
            raise UserError(f"{folder / name} is missing; {REMEDY}")
    read_mapping(folder / INFO, remedy=REMEDY)
    check_classes(folder)
    with _readable(folder / f"{INFO} or features.json"), _quiet():
        build = tfds.builder_from_directory(str(folder))
        dict(build.info.splits.items())
        return build


def check_classes(folder: Path) -> None:
    """Rejects a data set that names classes outside of tfds, which would import them."""
    path = folder / "features.json"
    if path.exists():
        _check_classes(read_mapping(path, remedy=REMEDY), path)


def _check_classes(found: Any, path: Path) -> None:
    if isinstance(found, Mapping):
        name = found.get("pythonClassName", CLASSES)
        if not (isinstance(name, str) and name.startswith(CLASSES)):
            raise UserError(f"{path} names {name!r:.80}, which is not a class of tfds; {REMEDY}")
        found = list(found.values())
    for part in found if isinstance(found, list) else ():
        _check_classes(part, path)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns errors of a damaged file into a UserError with its path and the remedy."""
    try:
        yield
    except DAMAGE as error:
        reason = shorten(str(error) or type(error).__name__, 200)
        raise UserError(f"{path} is damaged ({reason}); {REMEDY}") from error


def decode_text(value: bytes | str | np.ndarray) -> str:
    """Decodes a text feature, which tfds returns as bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences tfds' log lines and progress bars."""
    tfds.disable_progress_bar()
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
