"""WebDataset tars, which are untrusted: streamed forward, a bounded part at a time.

Neither a member of gigabytes (a sparse one takes no space in the tar) nor a small file that expands
to terabytes is read. The samples before a damaged place are returned.
"""

import dataclasses
import gzip
import struct
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from unclip_jax.core.errors import UserError
from unclip_jax.data.images import FILE_LIMIT

TAR_ENDS = (".tar", ".tar.gz", ".tgz")
IMAGE_ENDS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif")
TEXT_ENDS = (".txt", ".caption", ".json")
TEXT_LIMIT = 2**20  # bytes of a member or file of text
HEADER_LIMIT = 16 * 2**10  # bytes of one part of a member's header
EXPANDED_LIMIT = 2**30  # bytes to which a compressed tar may expand, or
EXPANSION_LIMIT = 100  # times its own size, whichever is more; images hardly compress
_PIECE = 2**20
_DAMAGE = (
    *(ArithmeticError, EOFError, LookupError, OSError, RuntimeError, struct.error),
    *(tarfile.TarError, TypeError, ValueError, zlib.error),
)


@dataclasses.dataclass
class Sample:
    """Members whose names agree up to the first dot.

    Attributes:
        name: the common part of the names.
        image: bytes of the first image.
        texts: texts by file extension.
        oversized: name of a member that is too large to be read.
    """

    name: str
    image: bytes | None = None
    texts: dict[str, bytes] = dataclasses.field(default_factory=dict)
    oversized: str = ""


def read_samples(path: Path) -> Iterator[Sample]:
    """Yields the samples of a tar in order.

    Raises:
        UserError: the tar is damaged; the samples before have been yielded.
    """
    sample = None
    try:
        with path.open("rb") as file:
            forward = _Forward(file, path.stat().st_size)
            with tarfile.open(fileobj=forward, mode="r:", encoding="utf-8") as archive:
                while (member := archive.next()) is not None:
                    archive.members = []  # tarfile keeps all of them
                    if not member.isfile():
                        continue
                    folder, _, base = member.name.rpartition("/")
                    stem, _, end = base.partition(".")
                    name = f"{folder}/{stem}" if folder else stem
                    if sample is None or name != sample.name:
                        if sample is not None:
                            yield sample
                        sample = Sample(name)
                    _add(sample, member, f".{end.lower()}", forward)
            if sample is not None:
                yield sample
                sample = None
            forward.check_end()
    except _DAMAGE as error:
        if sample is not None and sample.image is not None and sample.texts:
            yield sample
        reason = getattr(error, "strerror", None) or error or type(error).__name__
        raise UserError(f"cannot read {path}: {reason}") from error


def _add(sample: Sample, member: tarfile.TarInfo, end: str, forward: "_Forward") -> None:
    """Reads a member into its sample, unless the sample does not need it."""
    is_image = end.endswith(IMAGE_ENDS)
    if (sample.image is not None) if is_image else (end not in TEXT_ENDS or end in sample.texts):
        return
    if member.issparse() or member.size > (FILE_LIMIT if is_image else TEXT_LIMIT):
        sample.oversized = sample.oversized or member.name
        return
    forward.seek(member.offset_data)
    data = forward.take(member.size)
    if is_image:
        sample.image = data
    else:
        sample.texts[end] = data


class _Forward:
    """A forward-only, bounded file object for tarfile; decompresses gzip."""

    def __init__(self, file: BinaryIO, size: int):
        self._packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        self._file = gzip.GzipFile(fileobj=file) if self._packed else file
        self._limit = max(EXPANDED_LIMIT, EXPANSION_LIMIT * size)
        self._place, self._last = 0, b""

    def tell(self) -> int:
        """Returns the position in bytes."""
        return self._place

    def read(self, size: int) -> bytes:
        """Reads a part of a header; tarfile itself accepts any size."""
        if not 0 <= size <= HEADER_LIMIT:
            raise tarfile.ReadError(f"a header of {size} bytes")
        self._last = self._some(size)
        return self._last

    def take(self, size: int) -> bytes:
        """Reads the bytes of a member."""
        data = self._some(size)
        if len(data) < size:
            raise tarfile.ReadError("it is truncated")
        return data

    def seek(self, place: int) -> None:
        """Skips ahead; a position behind the current one comes from a damaged header."""
        if place < self._place:
            raise tarfile.ReadError("members that overlap")
        if not self._packed:
            self._file.seek(place)
            self._place = place
        while self._place < place and self._some(min(_PIECE, place - self._place)):
            pass

    def check_end(self) -> None:
        """Fails if tarfile stopped at anything but the end-of-archive mark."""
        if not self._last:
            raise tarfile.ReadError("it is truncated: no end-of-archive mark")
        if self._last.strip(b"\0"):
            raise tarfile.ReadError(f"a damaged header at byte {self._place - len(self._last)}")

    def _some(self, size: int) -> bytes:
        data = self._file.read(size)
        self._place += len(data)
        if self._packed and self._place > self._limit:
            raise tarfile.ReadError(f"it expands to more than {self._limit / 2**30:.3g} GiB")
        return data
