"""Opens the three formats of torch.save and torch.jit.save, without torch.

    zip archive          NAME/data.pkl and a member NAME/data/KEY for each storage (torch >= 1.6)
    TorchScript archive  also NAME/code/…, as in OpenAI's CLIP; the code is never executed
    before torch 1.6     consecutive pickles of a magic number, a version, the system, the value and
                         the keys of its storages; then each storage: its size and numbers

Arrays are read lazily.
"""

import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unclip_jax.convert.torch_pickle import Node, Refused, Storage, TensorRecord, read_pickle

MAGIC = 0x1950A86A20F9469CFC6C  # first pickle of a file from before torch 1.6
CODE = 4 << 20  # bytes of one TorchScript source file
MODULES = 100_000  # of one TorchScript archive

ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    LookupError,
)
"""Errors of zipfile for damaged, encrypted or unusually compressed archives."""

Read = Callable[[TensorRecord], np.ndarray]


class Opened(NamedTuple):
    """A file's contents: plain data with `TensorRecord`s, and the function that reads one."""

    value: Any
    read: Read


def open_archive(path: Path) -> Opened:
    """Opens a file of any of the three formats.

    Raises:
        Refused: the file has another format, is damaged, or has more than tensors.
    """
    try:
        if zipfile.is_zipfile(path):
            return _open_zip(path)
        with open(path, "rb") as file:
            return _open_old(path, file)
    except ZIP_ERRORS as error:
        raise Refused(f"it is damaged ({type(error).__name__}: {error})") from error


def _open_zip(path: Path) -> Opened:
    archive = zipfile.ZipFile(path)
    members = {info.filename: info for info in archive.infolist()}
    roots = [name[:-8] for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise Refused("a zip archive that was not written by torch: it has no data.pkl")
    root, whole = roots[0], path.stat().st_size
    order = "<"
    if f"{root}byteorder" in members:
        with archive.open(f"{root}byteorder") as file:
            order = {b"little": "<", b"big": ">"}[file.read(8)]
    with archive.open(f"{root}data.pkl") as file:
        value = read_pickle(file)
    if isinstance(value, Node):
        value = _state_of(value, lambda kind: _declared(archive, f"{root}code/", kind))

    def read(record: TensorRecord) -> np.ndarray:
        dtype = record.storage.dtype.newbyteorder(order)
        name = f"{root}data/{record.storage.key}"
        try:
            info = members[name]
            if info.compress_type != zipfile.ZIP_STORED:
                raise Refused(f"{name} is compressed, which torch never does")
            if max(info.file_size, _extent(record.storage)) > whole:  # as claimed by headers
                raise Refused(f"{name} claims to be larger than the file")
            with archive.open(info) as file:
                return _view(file, record, dtype)
        except ZIP_ERRORS as error:
            raise Refused(f"{name} is missing or damaged ({type(error).__name__})") from error

    return Opened(value, read)


def _extent(storage: Storage) -> int:
    """Returns the size in bytes that a storage claims."""
    return storage.size * storage.dtype.itemsize


def _view(file: BufferedIOBase, record: TensorRecord, dtype: np.dtype) -> np.ndarray:
    """Reads a record's part of a storage that begins at the file's position."""
    file.seek(record.offset * dtype.itemsize, 1)
    data = file.read(record.span * dtype.itemsize)
    if len(data) != record.span * dtype.itemsize:
        raise EOFError("the storage is cut off")
    numbers = np.frombuffer(data, dtype)
    strides = [step * dtype.itemsize for step in record.strides]
    view = np.lib.stride_tricks.as_strided(numbers, record.shape, strides)
    return np.array(view, record.storage.dtype)  # a copy, in C order


def _state_of(root: Node, declared: Callable[[Node], set[str] | None]) -> dict[str, TensorRecord]:
    """Returns the parameters and buffers of a TorchScript module by their dotted names."""
    found: dict[str, TensorRecord] = {}
    waiting = [("", root)]
    for _ in range(MODULES):
        if not waiting:
            return found
        prefix, node = waiting.pop()
        names = declared(node)
        for name, value in node.attributes.items():
            if isinstance(value, Node):
                waiting.append((f"{prefix}{name}.", value))
            elif isinstance(value, TensorRecord) and (names is None or name in names):
                found[f"{prefix}{name}"] = value
    raise Refused(f"a TorchScript archive of more than {MODULES:,} modules")


def _declared(archive: zipfile.ZipFile, code: str, node: Node) -> set[str] | None:
    """Returns which attributes of a module are parameters or buffers; None if not declared.

    The source begins with "class NAME(Module):", "__parameters__ = [...]", "__buffers__ = [...]".
    """
    try:
        with archive.open(f"{code}{node.kind.module.replace('.', '/')}.py") as file:
            source = file.read(CODE).decode("utf-8", "replace")
    except KeyError:
        return None
    name = re.escape(node.kind.name)
    head = r"class {}\(Module\):\n  __parameters__ = \[([^\]]*)\]\n  __buffers__ = \[([^\]]*)\]"
    match = re.search(head.format(name), source)
    return set(re.findall(r'"([^"]*)"', " ".join(match.groups()))) if match else None


def _open_old(path: Path, file: BufferedIOBase) -> Opened:
    try:
        if read_pickle(file) != MAGIC:
            raise Refused("not a file of torch.save")
    except Refused as error:
        raise Refused("not a file of torch.save") from error
    _, system, value = read_pickle(file), read_pickle(file), read_pickle(file)
    order = "<"
    if isinstance(system, dict) and system.get("little_endian") is False:
        order = ">"
    keys = read_pickle(file)
    sizes = {s.key: s for s in _storages(value)}
    starts: dict[str, int] = {}
    if not isinstance(keys, list):
        raise Refused("a damaged list of storages")
    whole = path.stat().st_size
    for key in keys:
        storage = sizes.get(key) if isinstance(key, str) else None
        count = int.from_bytes(file.read(8), "little" if order == "<" else "big")
        if storage is None or count != storage.size:
            raise Refused("a damaged list of storages")
        starts[key] = file.tell()
        if starts[key] + _extent(storage) > whole:
            raise Refused("a storage claims to be larger than the file")
        file.seek(_extent(storage), 1)

    def read(record: TensorRecord) -> np.ndarray:
        try:
            with open(path, "rb") as file:
                file.seek(starts[record.storage.key])
                return _view(file, record, record.storage.dtype.newbyteorder(order))
        except (OSError, LookupError, EOFError, ValueError) as error:
            raise Refused(f"a storage is missing or cut off ({type(error).__name__})") from error

    return Opened(value, read)


def _storages(value: Any) -> Iterator[Storage]:
    """Yields the storages of all tensors in plain data, visiting each container once."""
    waiting, seen = [value], set()
    while waiting:
        part = waiting.pop()
        if isinstance(part, TensorRecord):
            yield part.storage
        elif isinstance(part, dict | list | tuple) and id(part) not in seen:
            seen.add(id(part))
            waiting.extend(part.values() if isinstance(part, dict) else part)
