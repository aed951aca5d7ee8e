"""Files as a few pieces of bounded size, with checksums: cut on one machine, joined on another.

The files' bytes, one after the other in the order of their list, are cut every so many bytes.
"""

import dataclasses
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from tools.turns.plan import FILE
from unclip_jax.core.errors import UserError
from unclip_jax.core.files import read_mapping, scratch_for

PART = re.compile(r"part([1-9][0-9]{0,3})")
LIST, BYTES = "part.json", "bytes"  # the two files of a part


@dataclasses.dataclass(frozen=True)
class Entry:
    """A file: its name relative to a folder, its size in bytes and its SHA-256."""

    name: str
    bytes: int
    sha256: str


def list_files(root: Path, names: Sequence[str]) -> list[Entry]:
    """Lists files of a folder, and those in its subfolders `names`, in alphabetical order each."""
    entries = []
    for name in names:
        top = root / name
        paths = sorted(p for p in top.rglob("*") if p.is_file()) if top.is_dir() else [top]
        entries += [_entry(root, path) for path in paths]
    return entries


def _entry(root: Path, path: Path) -> Entry:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Entry(path.relative_to(root).as_posix(), path.stat().st_size, digest)


def cut(root: Path, entries: Sequence[Entry], limit: int) -> Iterator[bytes]:
    """Yields the pieces of files of a folder, all but the last of `limit` bytes."""
    piece = bytearray()
    for entry in entries:
        with (root / entry.name).open("rb") as file:
            while data := file.read(limit - len(piece)):
                piece += data
                if len(piece) == limit:
                    yield bytes(piece)
                    piece.clear()
    if piece:
        yield bytes(piece)


def join(pieces: Sequence[bytes], entries: Sequence[Entry], out: Path, where: str) -> None:
    """Writes the files of pieces into a folder and checks them.

    Raises:
        UserError: a file differs from its checksum; `where` names what to bring anew.
    """
    data, start = memoryview(b"".join(pieces)), 0
    if len(data) != sum(entry.bytes for entry in entries):
        raise UserError(f"{where} does not have the bytes of its list; copy it again")
    for entry in entries:
        part = data[start : start + entry.bytes]
        start += entry.bytes
        if hashlib.sha256(part).hexdigest() != entry.sha256:
            raise UserError(f"{where}: the checksum of {entry.name} does not match; copy it again")
        path = out / entry.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(part)


def read_piece(path: Path, size: Any, sha256: Any) -> bytes:
    """Reads a piece and checks it."""
    try:
        data = path.read_bytes() if path.stat().st_size == size else b""
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; copy it again") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise UserError(f"{path} is damaged: its checksum does not match; copy it again")
    return data


def parse_entries(found: Any, where: str) -> list[Entry]:
    """Builds a list of files from parsed JSON; refuses names that lead out of the folder."""
    entries = []
    for item in found if isinstance(found, list) else [None]:
        try:
            entry = Entry(**item)
            parts = PurePosixPath(entry.name).parts
            fine = all(FILE.fullmatch(part) for part in parts) and len(parts) > 0
            fine = fine and type(entry.bytes) is int and entry.bytes >= 0
            fine = fine and entry.name == "/".join(parts) and isinstance(entry.sha256, str)
        except TypeError:
            fine = False
        if not fine:
            raise UserError(f"{where} is damaged: {item!r:.80} is not a file; copy it again")
        entries.append(entry)
    return entries


def write_parts(turn: Path, entries: Sequence[Entry], limit: int) -> int:
    """Writes TURN/part1, part2, ... of at most `limit` bytes each, in place of earlier ones.

    Returns:
        The number of parts.
    """
    files = [dataclasses.asdict(entry) for entry in entries]
    room = limit - len(json.dumps(files)) - 1024
    if room < 1024:
        raise UserError(f"a part of {limit} bytes is too small for its list; raise --part-mib")
    total = sum(entry.bytes for entry in entries)
    count = -(-total // room)
    with scratch_for(turn, inside=True) as scratch:
        for number, piece in enumerate(cut(turn, entries, room), 1):
            folder = scratch / f"part{number}"
            folder.mkdir()
            (folder / BYTES).write_bytes(piece)
            about = {"part": number, "parts": count, "bytes": len(piece)}
            about |= {"sha256": hashlib.sha256(piece).hexdigest(), "files": files}
            (folder / LIST).write_text(json.dumps(about) + "\n", encoding="utf-8")
        for old in parts_of(turn):
            shutil.rmtree(old)
        for number in range(1, count + 1):
            os.replace(scratch / f"part{number}", turn / f"part{number}")
    return count


def parts_of(turn: Path) -> list[Path]:
    """Lists the parts in a folder, by their number."""
    found = [path for path in turn.glob("part*") if PART.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name[4:]))


def read_parts(turn: Path) -> tuple[list[bytes], list[Entry]]:
    """Reads and checks all parts of a turn.

    Raises:
        UserError: one is missing, damaged, or of another packing.
    """
    lists = [read_mapping(path / LIST, remedy="copy it again") for path in parts_of(turn)]
    if not lists:
        raise UserError(f"{turn} has no part1; copy the parts that pack wrote there")
    count = lists[0].get("parts")
    for path, about in zip(parts_of(turn), lists, strict=True):
        if about.get("parts") != count or about.get("files") != lists[0].get("files"):
            raise UserError(f"{path} is of another packing than part1; copy all parts again")
        if about.get("part") != int(path.name[4:]):
            raise UserError(f"{path} holds another part; copy it again")
    if count != len(lists):
        raise UserError(f"{turn} has {len(lists)} of {count} parts; copy the others too")
    pieces = [
        read_piece(path / BYTES, about.get("bytes"), about.get("sha256"))
        for path, about in zip(parts_of(turn), lists, strict=True)
    ]
    return pieces, parse_entries(lists[0].get("files"), str(turn / "part1" / LIST))
