"""Safetensors files of parameter trees; errors name the file and the key.

Keys are slash paths ("unet/conv_in/kernel"). Parameters are float16, bfloat16 or float32; the dtype
is chosen when writing.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from unclip_jax.core.errors import UserError
from unclip_jax.core.files import cache_folder, read_mapping
from unclip_jax.core.trees import flatten_paths, unflatten_paths

DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
CODES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}  # as safetensors spells them
NAMES = {code: name for name, code in CODES.items()}
READABLE = frozenset("BOOL U8 I8 U16 I16 F16 BF16 U32 I32 F32 U64 I64 F64".split())
TABLE_BYTES = 2 << 20  # of a .npy file with one number per noise level
NPY_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '(<f[48])', 'fortran_order': False, "
    rb"'shape': \((\d{1,7}),\), \} *\n",
    re.DOTALL,
)
REHASH_LIMIT = 1 << 30  # bytes; larger files are hashed again only if size or mtime changed


def numpy_dtype(name: str) -> np.dtype:
    """Returns the NumPy dtype of a name in DTYPES."""
    if name not in DTYPES:
        raise UserError(f"unknown dtype {name!r}: choose one of {', '.join(DTYPES)}")
    return np.dtype(DTYPES[name])


def write_tree(path: Path, tree: Mapping[str, Any], dtype: str) -> None:
    """Writes every leaf of `tree` as `dtype`; a value out of its range is a UserError."""
    write_streamed(path, flatten_paths(tree), dtype)


def write_streamed(
    path: Path,
    arrays: Mapping[str, Any],
    dtype: str,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes arrays as `dtype` with one in memory at a time; they need `shape` and `__array__`.

    The layout is safetensors' (https://github.com/huggingface/safetensors#format): the header's
    length, the header, the arrays in order of their names.
    """
    target = numpy_dtype(dtype)
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for key in sorted(arrays):
        start, end = end, end + math.prod(arrays[key].shape) * target.itemsize
        shape = list(arrays[key].shape)
        header[key] = {"dtype": CODES[dtype], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for key in sorted(arrays):
            file.write(as_dtype(arrays[key], dtype, f"{path.name}: {key}").tobytes())


def as_dtype(leaf: Any, dtype: str, name: str) -> np.ndarray:
    """Returns an array as `dtype`; a value out of its range is a UserError with `name`."""
    with np.errstate(over="ignore"):
        array = np.asarray(leaf).astype(numpy_dtype(dtype), order="C")
    if not np.isfinite(array.astype(np.float32)).all():
        raise UserError(f"{name} does not fit in {dtype} (or is not finite)")
    return array


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Opens a safetensors file; what the library raises about it is a UserError that names it."""
    try:
        with safe_open(path, framework="np") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path}: not a readable safetensors file, truncated or damaged ({error})"
        ) from error


def read_tree(
    path: Path,
    expected: Mapping[str, tuple[int, ...]] | None,
    dtype: str | None = None,
    *,
    stored: str | None = None,
) -> dict[str, Any]:
    """Reads a parameter tree, checking that its keys and shapes are the expected ones.

    Args:
        expected: shape of every slash path; None = not checked.
        dtype: to convert to; None keeps the stored one.
        stored: the dtype that the file must have; None = any of DTYPES.
    """
    arrays, allowed = {}, DTYPES if stored is None else (stored,)
    with opened(path) as file:
        keys = list(file.keys())
        if expected is not None:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in keys}
            _check_shapes(path, shapes, expected)
        for key in keys:
            _check_type(path, key, file.get_slice(key).get_dtype(), allowed)
            array = file.get_tensor(key)
            arrays[key] = array if dtype is None else array.astype(numpy_dtype(dtype))
    return unflatten_paths(arrays)


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Reads the shape of every array from a file's header."""
    with opened(path) as file:
        return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}


def _check_type(path: Path, key: str, code: str, allowed: Collection[str]) -> None:
    """Fails if an array's stored dtype is not one of the allowed ones."""
    if NAMES.get(code) not in allowed:
        found = NAMES.get(code, code)
        raise UserError(f"{path}: {key} is stored as {found}, not as {' or '.join(allowed)}")


def _check_shapes(
    path: Path, shapes: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]
) -> None:
    unknown = sorted(set(shapes) - set(expected))
    missing = sorted(set(expected) - set(shapes))
    if unknown:
        raise UserError(f"{path}: unknown key {_first_of(unknown)}")
    if missing:
        raise UserError(f"{path}: missing key {_first_of(missing)}")
    for key, shape in shapes.items():
        if shape != tuple(expected[key]):
            raise UserError(f"{path}: {key} has shape {shape}, expected {expected[key]}")


def _first_of(keys: list[str]) -> str:
    return keys[0] if len(keys) == 1 else f"{keys[0]} (and {len(keys) - 1} more)"


def sha256(path: Path) -> str:
    """Returns the hex SHA-256 of a file, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclasses.dataclass(frozen=True)
class FileRecord:
    """Hex SHA-256 and size of a file, as bundle.json states them."""

    sha256: str
    bytes: int

    def __post_init__(self):
        """Refuses what is not a hash."""
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ValueError("sha256 must be 64 hexadecimal digits")


def check_file(path: Path, stated: FileRecord, *, force: bool = False) -> None:
    """Fails unless the file has the stated size and hash.

    Files under 1 GiB are hashed at every load. A larger one is hashed once; its hash is stored with
    its size and mtime, and trusted while those stay the same, unless `force` is set.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing, but bundle.json lists it")
    info = path.stat()
    if info.st_size != stated.bytes:
        raise UserError(
            f"{path} has {info.st_size} bytes, bundle.json states {stated.bytes}: "
            "it is truncated or was modified"
        )
    large = info.st_size >= REHASH_LIMIT
    record = cache_folder() / "hashes.json"
    known = _known_hashes(record) if large else {}
    stamp = [info.st_size, info.st_mtime_ns]
    entry = known.get(str(path.resolve()))
    found = entry["sha256"] if entry and entry["stamp"] == stamp and not force else sha256(path)
    if found != stated.sha256:
        raise UserError(
            f"{path}: its sha256 {found[:12]}… is not the {stated.sha256[:12]}… of bundle.json: "
            "the file is damaged or was modified"
        )
    if large and (entry is None or entry["stamp"] != stamp):
        known[str(path.resolve())] = {"stamp": stamp, "sha256": found}
        _keep_hashes(record, known)


def _keep_hashes(path: Path, known: Mapping[str, Any]) -> None:
    """Writes the record of hashes; if that fails the next load hashes again."""
    part = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(known))
        os.replace(part, path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()


def _known_hashes(path: Path) -> dict[str, Any]:
    """Reads the record of hashes; damaged entries are ignored."""
    try:
        known = read_mapping(path)
    except UserError:
        return {}
    whole = {"stamp": list, "sha256": str}
    return {
        name: entry
        for name, entry in known.items()
        if isinstance(entry, dict) and all(isinstance(entry.get(k), t) for k, t in whole.items())
    }


def read_table(path: Path) -> np.ndarray:
    """Reads a .npy file of one row of finite floats; other contents of the format are refused."""
    try:
        with open(path, "rb") as file:
            data = file.read(TABLE_BYTES)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    head = NPY_HEADER.match(data)
    body = data[head.end() :] if head else b""
    if head and len(body) == int(head[2]) * int(head[1][-1:]):
        table = np.frombuffer(body, head[1].decode()).astype(np.float64)
        if np.isfinite(table).all():
            return table
    raise UserError(
        f"{path}: not a complete row of finite numbers in NumPy's format; delete it and run the "
        "same unclip train again"
    )


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes named arrays in their own dtypes."""
    _save(path, {name: np.asarray(array, order="C") for name, array in arrays.items()})


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes a safetensors file with default permissions: the library makes it private."""
    path.touch()
    mode = path.stat().st_mode
    save_file(arrays, path)
    path.chmod(mode)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Reads named arrays in their stored dtypes."""
    with opened(path) as file:
        for name in file.keys():
            kind = file.get_slice(name).get_dtype()
            if kind not in READABLE:
                raise UserError(f"{path}: {name} is stored as {kind}, which is not supported")
        return {name: file.get_tensor(name) for name in file.keys()}


def read_annotated(path: str | Path, remedy: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads the named arrays and the metadata of a file.

    Args:
        remedy: how to make the file, for the message if it does not exist.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist; {remedy}")
    with opened(path) as file:
        about = file.metadata() or {}
    return read_arrays(path), about
