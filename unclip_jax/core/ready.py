"""Programs and tables that are made once and kept ready in a folder, for the commands that follow.

A program is kept as a `jax.export` artefact: StableHLO in flatbuffers, of which nothing runs or is
unpickled when it is read. This saves tracing Python, most of a warm start; compiled code comes from
JAX's own persistent cache. An entry's name is a digest of all that it depends on: what the caller
says, the versions of jax, jaxlib and flax, and this package's source. A damaged entry, or one that
cannot be written, costs time and nothing else.
"""

import contextlib
import dataclasses
import functools
import hashlib
import os
import secrets
from collections.abc import Callable, Hashable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import jax

from unclip_jax.core.kernels import chosen_attention

PACKAGE = Path(__file__).resolve().parents[1]
MOST_ENTRIES = 512  # the oldest are removed beyond it
DIGEST_BYTES = hashlib.sha256().digest_size
SETTINGS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_threefry_partitionable",
    "jax_default_prng_impl",
    "jax_use_shardy_partitioner",
    "jax_numpy_dtype_promotion",
)
"""Settings of jax that a traced program depends on."""

T = TypeVar("T")

_folder: Path | None = None
_portable: dict[str, type] = {}


def use_folder(folder: Path | None) -> None:
    """Keeps entries in a folder from now on; None keeps none, as before the first call.

    Call it before this package's other modules are imported: the source is read now.
    """
    global _folder
    _folder = folder
    if folder is not None:
        source_digest()


def is_used() -> bool:
    """Whether entries are kept."""
    return _folder is not None


def portable(cls: type[T]) -> type[T]:
    """Marks a struct without static fields as a part of kept programs' results."""
    _portable[f"unclip_jax.{cls.__name__}"] = cls
    return cls


def read(parts: Sequence[Hashable]) -> bytes | None:
    """Returns the entry of these parts; None if it is absent or damaged, or none are kept."""
    if _folder is None:
        return None
    try:
        stored = (_folder / entry_name(parts)).read_bytes()
    except OSError:
        return None
    digest, data = stored[:DIGEST_BYTES], stored[DIGEST_BYTES:]
    return data if hashlib.sha256(data).digest() == digest else None


def write(parts: Sequence[Hashable], data: bytes) -> None:
    """Keeps an entry, as a whole or not at all; a folder that cannot be written is no error.

    Nothing is kept once the source has changed: who knows which of it made the entry.
    """
    if _folder is None or hash_source() != source_digest():
        return
    path = _folder / entry_name(parts)
    part = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with contextlib.suppress(OSError):
        _folder.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(hashlib.sha256(data).digest() + data)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        _remove_old(_folder)


def entry_name(parts: Sequence[Hashable]) -> str:
    """Returns the file name of an entry: a digest of its parts, the versions and the source.

    Args:
        parts: whose `repr` tells everything: plain values, and dataclasses of these.
    """
    told = [*map(repr, parts), chosen_attention(), *versions(), source_digest()]
    return hashlib.sha256("\0".join(told).encode()).hexdigest()


@functools.cache
def versions() -> tuple[str, ...]:
    """Returns the versions of what makes programs."""
    return tuple(f"{name} {version(name)}" for name in ("jax", "jaxlib", "flax"))


@functools.cache
def source_digest() -> str:
    """Returns the digest of this package's modules as they were at the first call."""
    return hash_source()


def hash_source() -> str:
    """Returns a digest of this package's modules as they are."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(str(path.relative_to(PACKAGE)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def program(
    jitted: Callable[..., Any],
    parts: Sequence[Hashable],
    inputs: Sequence[Any],
    **shardings: Any,
) -> Callable[..., Any]:
    """Returns a jitted function of arrays with its program kept: read, or traced and written.

    A function that cannot be exported is returned as it is.

    Args:
        parts: what the function depends on, besides its inputs.
        inputs: arrays, or their shapes and dtypes.
        shardings: `in_shardings` and `out_shardings` that it was jitted with.
    """
    from jax import export

    if not is_used():
        return jitted
    structs = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in inputs]
    shapes = tuple((leaf.shape, str(leaf.dtype)) for leaf in structs)
    parts = (*parts, shapes, *_platform(), *(getattr(jax.config, name) for name in SETTINGS))
    _register()
    data = read(parts)
    if data is not None:
        with contextlib.suppress(Exception):  # of a version that reads it in another way
            return jax.jit(export.deserialize(bytearray(data)).call, **shardings)
    try:
        with _without_places():
            data = export.export(jitted)(*structs).serialize()
    except (ValueError, NotImplementedError):  # a result or an operation without a stable form
        return jitted
    write(parts, bytes(data))
    return jax.jit(export.deserialize(data).call, **shardings)


def _platform() -> tuple[str, ...]:
    device = jax.local_devices()[0]
    return device.platform, device.device_kind


@contextlib.contextmanager
def _without_places() -> Any:
    """Leaves out where in the source an operation comes from: a third of the bytes, never read."""
    before = jax.config.jax_traceback_in_locations_limit
    jax.config.update("jax_traceback_in_locations_limit", 0)
    try:
        yield
    finally:
        jax.config.update("jax_traceback_in_locations_limit", before)


def _register() -> None:
    """Tells jax.export the names of the structs, once each."""
    from jax import export

    for name, cls in list(_portable.items()):
        with contextlib.suppress(ValueError):  # it is there
            export.register_pytree_node_serialization(
                cls,
                serialized_name=name,
                serialize_auxdata=lambda auxdata: b"",
                deserialize_auxdata=lambda data: (),
                from_children=functools.partial(_filled, cls),
            )


def _filled(cls: type[T], auxdata: tuple[()], children: Sequence[Any]) -> T:
    """Returns a struct of what stands for its arrays, which its own constructor would check."""
    struct = object.__new__(cls)
    for field, child in zip(dataclasses.fields(cls), children, strict=True):
        object.__setattr__(struct, field.name, child)
    return struct


def _remove_old(folder: Path) -> None:
    """Removes the oldest entries beyond MOST_ENTRIES."""
    paths = list(folder.iterdir())
    if len(paths) > MOST_ENTRIES:
        paths.sort(key=lambda path: path.stat().st_mtime)
        for path in paths[: len(paths) - MOST_ENTRIES]:
            path.unlink(missing_ok=True)
