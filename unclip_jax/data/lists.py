"""Lists of images and captions: CSV and TSV with a header, JSON lines, and Parquet.

A row names an image by its path, or contains its bytes as Hugging Face's Parquet files do. Lists
are streamed and untrusted: they may be of any length.
"""

import csv
import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from unclip_jax.core.errors import UserError
from unclip_jax.core.files import parse_json
from unclip_jax.data.images import FILE_LIMIT

LIST_ENDS = (".csv", ".tsv", ".jsonl", ".parquet")
IMAGE_KEYS = (
    "image",
    "image_path",
    "path",
    "file",
    "file_path",
    "filepath",
    "file_name",
    "filename",
)
CAPTION_KEYS = ("captions", "caption", "text", "sentences", "title", "txt")
CAPTIONS_LIMIT = 1000  # consecutive rows of one image that are merged
LINE_LIMIT = 2**20  # characters of a row
_GROUP_LIMIT = 2**30  # bytes of a Parquet file's row group, expanded
_BATCH = 16  # rows of Parquet at a time
_DAMAGE = (ArithmeticError, EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError)


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a list.

    Attributes:
        number: counted from 1, without the header.
        location: path of the image, if the row names one.
        image: bytes of the image, if the row contains them.
        fields: all fields of the row, by lower-case name.
        problem: why the row has no image.
    """

    number: int
    location: str = ""
    image: bytes | None = None
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    problem: str = ""


def read_rows(path: Path) -> Iterator[Row]:
    """Yields the rows of a list.

    Raises:
        UserError: the list is damaged; the rows before have been yielded.
    """
    read = {".jsonl": _json_rows, ".parquet": _parquet_rows}.get(path.suffix.lower(), _csv_rows)
    try:
        for number, fields in enumerate(read(path), start=1):
            yield _row(number, fields)
    except _DAMAGE as error:
        reason = getattr(error, "strerror", None) or error or type(error).__name__
        raise UserError(f"cannot read {path}: {reason}") from error


def _row(number: int, fields: object) -> Row:
    if not isinstance(fields, Mapping):
        return Row(number, problem="not a row of named fields")
    fields = {str(key).strip().lower(): value for key, value in fields.items()}
    for key in IMAGE_KEYS:
        value, image = fields.get(key), None
        if isinstance(value, Mapping):  # Hugging Face's image: bytes, or the path of a file
            value, image = value.get("path"), value.get("bytes")
        if isinstance(value, bytes):
            value, image = None, value
        if isinstance(image, bytes) and len(image) <= FILE_LIMIT:
            return Row(number, image=image, fields=fields)
        if isinstance(value, str) and value.strip():
            return Row(number, value.strip(), fields=fields)
    return Row(number, problem=f"none of {', '.join(IMAGE_KEYS)} names an image")


def read_object(text: str | bytes) -> object:
    """Parses the JSON of a sample or row; returns None if it is not JSON."""
    try:
        return parse_json(text, "", nan=True)
    except UserError:
        return None


def _json_rows(path: Path) -> Iterator[object]:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        yield from (read_object(line) for line in _long_lines(file) if line.strip())


def _csv_rows(path: Path) -> Iterator[object]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        tabs = path.suffix.lower() == ".tsv"
        reader = csv.reader(_long_lines(file), delimiter="\t" if tabs else ",")
        names = next(reader, [])
        if not {name.strip().lower() for name in names} & set(IMAGE_KEYS):
            raise UserError(
                f"{path} needs a header with one of {', '.join(IMAGE_KEYS)}; it begins with "
                f"{', '.join(names[:8])[:200]!r}"
            )
        while True:
            try:
                values = next(reader)
            except csv.Error:
                yield None
                continue
            except StopIteration:
                return
            if values:
                yield dict(zip(names, values, strict=False))


def _long_lines(file: TextIO) -> Iterator[str]:
    """Yields lines, splitting those longer than LINE_LIMIT: a file may be a single line."""
    return itertools.takewhile(bool, iter(lambda: file.readline(LINE_LIMIT), None))


def _parquet_rows(path: Path) -> Iterator[object]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise UserError(f"{path} needs pyarrow: pip install pyarrow") from error

    try:
        with parquet.ParquetFile(path) as file:
            wanted = {*IMAGE_KEYS, *CAPTION_KEYS}
            names = [name for name in file.schema_arrow.names if name.strip().lower() in wanted]
            groups = (file.metadata.row_group(i) for i in range(file.num_row_groups))
            if any(group.total_byte_size > _GROUP_LIMIT for group in groups):
                raise UserError(
                    f"{path} has row groups of more than {_GROUP_LIMIT / 2**30:.0f} GiB"
                )
            for batch in file.iter_batches(_BATCH, columns=names):
                yield from batch.to_pylist()
    except ArrowException as error:
        raise UserError(f"cannot read {path}: {error}") from error
