"""Atomic writes of files and folders, and strict reading of JSON.

Output is written to a hidden folder next to its destination and renamed into place at the end, so
that a crash, a full disk or Ctrl-C leaves the previous content. Renames are atomic within one file
system; this is why the hidden folder is next to the destination and not in /tmp.
"""

import contextlib
import errno
import functools
import glob
import json
import math
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from unclip_jax.core.errors import UserError, shorten
from unclip_jax.core.interrupts import cleared
from unclip_jax.core.locks import LOCK, is_stale, locked, locked_beside

DISK_ERRORS = tuple(
    os.strerror(number)
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
)
OLD, NEW = "old", "new"  # in a hidden folder: the replaced content and its replacement

JSON_BYTES = 64 << 20  # of a JSON file; CLIP's tokenizer.json has 2 MiB
JSON_DEPTH = 64  # of nested objects and lists
JSON_DIGITS = 64  # of an integer: transformers writes 10**30 for "no limit"
RESTORE = "restore it or make it again"


def cache_folder() -> Path:
    """Returns the cache folder for compiled programs and records: $XDG_CACHE_HOME or ~/.cache.

    For a user without a home, as in a container that runs under a numeric user id, it is in the
    folder for temporary files.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(base or Path.home() / ".cache") / "unclip_jax"
    except RuntimeError:
        return _temporary_cache()


@functools.cache
def _temporary_cache() -> Path:
    """Returns this user's private cache folder in /tmp; one that others can write is not used."""
    folder = Path(tempfile.gettempdir()) / f"unclip_jax-{os.getuid()}"
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700)
    with contextlib.suppress(OSError):
        info = folder.lstat()
        private = stat.S_ISDIR(info.st_mode) and not info.st_mode & 0o022
        if private and info.st_uid == os.getuid():
            return folder
    return Path(tempfile.mkdtemp(prefix="unclip_jax-"))


def disk_reason(error: BaseException) -> str | None:
    """Returns the operating system's message for a disk error; None for any other error.

    array_record, safetensors and tensorstore wrap the message in errors of their own.
    """
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return next((words for words in DISK_ERRORS if words in str(error)), None)


@contextlib.contextmanager
def _writing(path: Path, hidden: Path) -> Iterator[None]:
    """Turns a full or read-only disk into a one-line UserError that names `path`.

    An error in a file other than `path` and `hidden`, such as an input, names that file.
    """
    try:
        yield
    except Exception as error:
        reason = None if isinstance(error, UserError) else disk_reason(error)
        if reason is None:
            raise
        name = getattr(error, "filename", None)
        if isinstance(name, str) and not any(_is_within(name, own) for own in (path, hidden)):
            raise UserError(f"cannot read or write {name}: {reason}") from error
        raise UserError(f"cannot write {path}: {reason}") from error


def _is_within(name: str, folder: Path) -> bool:
    return Path(os.path.realpath(name)).is_relative_to(os.path.realpath(folder))


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields a temporary name to write to; at the end of the block it is renamed to `path`.

    If writing fails, as on a full disk, the temporary file is removed and the error names `path`.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        with _writing(path, part):
            yield part
            os.replace(part, path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def read_json(
    path: Path, *, remedy: str = RESTORE, nan: bool = False, limit: int = JSON_BYTES
) -> Any:
    """Reads a JSON file strictly (see `parse_json`).

    Args:
        remedy: what to do about a bad file, appended to the message ("fetch it again").
        nan: accept NaN and infinities, which Python writes although JSON has none.
        limit: largest size of the file in bytes.

    Raises:
        UserError: the file cannot be read or is malformed.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', error)}") from error
    if len(data) > limit:
        raise UserError(f"{path} is larger than {limit >> 20} MiB, the limit for JSON files")
    return parse_json(data, str(path), remedy=remedy, nan=nan)


def read_mapping(path: Path, **options: Any) -> dict[str, Any]:
    """Reads a JSON file that must hold an object; takes the options of `read_json`."""
    found = read_json(path, **options)
    if not isinstance(found, dict):
        remedy = options.get("remedy", RESTORE)
        raise UserError(f"{path} is not a JSON object but a {type(found).__name__}; {remedy}")
    return found


def parse_json(data: bytes | str, what: str, *, remedy: str = RESTORE, nan: bool = False) -> Any:
    """Parses JSON strictly; all JSON from outside is read by this function.

    Rejects encodings other than UTF-8, duplicate keys, more than JSON_DEPTH levels, integers of
    more than JSON_DIGITS digits, lone surrogates, and NaN and infinities unless `nan`.

    Args:
        what: names the source at the beginning of a message.

    Raises:
        UserError: the text is malformed or rejected.
    """
    try:
        text = data if isinstance(data, str) else data.decode("utf-8-sig")
        found = json.loads(
            text,
            object_pairs_hook=_without_duplicates,
            parse_int=_bounded_int,
            parse_float=float if nan else _finite_float,
            parse_constant=float if nan else _finite_float,
        )
        _check_depth(found)
        if "\\ud" in text or "\\uD" in text or not isinstance(data, bytes):
            json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        reason = "it contains a lone surrogate, which is not valid Unicode"
        raise UserError(f"{what}: not readable as JSON ({reason}); {remedy}") from error
    except RecursionError as error:
        reason = f"more than {JSON_DEPTH} levels deep"
        raise UserError(f"{what}: not readable as JSON ({reason}); {remedy}") from error
    except ValueError as error:
        raise UserError(f"{what}: not readable as JSON ({error}); {remedy}") from error
    return found


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise ValueError(f"the key {shorten(counts.most_common(1)[0][0], 60)!r} occurs twice")
    return found


def _bounded_int(digits: str) -> int:
    if len(digits) > JSON_DIGITS:
        raise ValueError(f"an integer of {len(digits)} digits")
    return int(digits)


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{shorten(text, 60)} is not a finite number")
    return value


def _check_depth(value: Any) -> None:
    """Raises RecursionError if objects and lists are nested more than JSON_DEPTH deep."""
    level, depth = [value], 0
    while level := [part for part in level if isinstance(part, dict | list)]:
        depth += 1
        if depth > JSON_DEPTH:
            raise RecursionError
        level = [
            item for part in level for item in (part.values() if isinstance(part, dict) else part)
        ]


@contextlib.contextmanager
def scratch_for(out: Path, *, inside: bool = False) -> Iterator[Path]:
    """Yields a new hidden folder on the file system of `out`; it is removed at the end.

    It is next to `out`, or with `inside` in it if `out` exists. Parents of `out` that had to be
    created are removed again if they stay empty.
    """
    out = Path(out)
    scratch = _hidden(out, out if inside and out.is_dir() else out.absolute().parent)
    sweep(out)
    with locked(scratch, "unclip", named=out), cleared(lambda: _remove(scratch, out)):
        with _writing(out, scratch):
            yield scratch


def _hidden(out: Path, parent: Path) -> Path:
    """Returns an unused name in `parent` for a hidden folder of `out`, as `sweep` expects it."""
    return parent / f".{out.absolute().name}.{secrets.token_hex(8)}.part"


def sweep(out: Path) -> None:
    """Removes hidden folders of `out` left by dead processes; a live process holds a lock.

    A folder that was being replaced when its process was killed is restored.
    """
    out = out.absolute()
    name = re.compile(rf"\.{re.escape(out.name)}\.[0-9a-f]{{16}}\.part")  # of `a`, not of `a.b`
    for parent in (out.parent, out):
        for scratch in parent.glob(f".{glob.escape(out.name)}.*.part"):
            if not name.fullmatch(scratch.name):
                continue
            if is_stale(scratch / LOCK):
                _remove(scratch, out)
            with contextlib.suppress(OSError):  # killed before it had a lock, or after
                scratch.rmdir()


def _remove(scratch: Path, out: Path) -> None:
    """Removes a hidden folder of `out`, but never the only copy of the replaced content.

    It is renamed first, so that a thread that is still running cannot move anything into it.
    """
    _put_back(scratch, out)
    if _unfinished(scratch, out):
        return
    doomed = _hidden(out, scratch.parent)
    try:
        os.replace(scratch, doomed)
    except OSError:
        doomed = scratch
    _put_back(doomed, out)
    if not _unfinished(doomed, out):
        shutil.rmtree(doomed, ignore_errors=True)


def _unfinished(scratch: Path, out: Path) -> bool:
    """Whether a hidden folder has the previous `out` and its replacement is not in place."""
    waiting = os.path.lexists(scratch / NEW) or not os.path.lexists(out)
    return os.path.lexists(scratch / OLD) and waiting


def _put_back(scratch: Path, out: Path) -> Path | None:
    """Restores the previous `out` if its replacement is not in place; to NAME.old if `out` exists.

    Returns:
        Where it is now; None if it is restored, or if there was nothing to restore.
    """
    if not _unfinished(scratch, out):
        return None
    taken = os.path.lexists(out) and not is_empty_folder(out)
    place = free_path(out.with_name(f"{out.name}.old")) if taken else out
    try:
        os.replace(scratch / OLD, place)
    except OSError:
        place = scratch / OLD
    return None if place == out else place


def free_path(path: Path) -> Path:
    """Returns `path`, or the first of PATH-2, PATH-3, … that does not exist."""
    place, number = path, 2
    while os.path.lexists(place):
        place, number = path.with_name(f"{path.name}-{number}"), number + 1
    return place


@contextlib.contextmanager
def new_folder(
    out: Path, marker: str, *, overwrite: bool = False, lock: bool = True
) -> Iterator[Path]:
    """Yields a folder to fill; on success it becomes `out`, replacing a previous one if allowed.

    Of two processes that write the same folder at once the second is refused.

    Args:
        marker: a file that `out` must contain to be replaced: other folders never are.
        lock: False if the caller already holds `locked_beside(out)`.
    """
    out = Path(out)
    refuse_taken(out, marker, overwrite=overwrite)
    lock_of = locked_beside(out, "unclip") if lock else contextlib.nullcontext()
    with lock_of, scratch_for(out) as scratch:
        refuse_taken(out, marker, overwrite=overwrite)
        fresh = scratch / NEW
        fresh.mkdir()
        yield fresh
        if overwrite and out.exists():
            os.replace(out, scratch / OLD)
        try:
            os.replace(fresh, out)  # fails if another has filled `out` since
        except OSError as error:
            kept = _put_back(scratch, out)
            if kept is None:
                raise
            reason = f"{error.strerror}; the previous one is now {kept}"
            raise UserError(f"cannot write {out}: {reason}") from error


def refuse_taken(out: Path, marker: str, *, overwrite: bool = False) -> None:
    """Fails unless `new_folder` may create `out`, before any work is done."""
    if out.exists() and os.path.samefile(out, os.curdir):
        raise UserError(f"{out} is the current folder and cannot be replaced; choose another --out")
    if out.is_symlink() and (not out.exists() or is_empty_folder(out)):
        raise UserError(
            f"{out} is a symbolic link, which a folder cannot replace; remove it or choose another"
        )
    if out.exists() and not is_empty_folder(out):
        if not overwrite:
            raise UserError(f"{out} exists; choose another --out or pass --overwrite")
        if not (out / marker).is_file():
            raise UserError(
                f"{out} does not contain {marker}; refusing to replace it; choose another --out"
            )


def is_empty_folder(path: Path) -> bool:
    """Whether `path` is an empty folder."""
    return path.is_dir() and not any(path.iterdir())


def refuse_existing(out: Path, names: Iterable[str], *, overwrite: bool = False) -> None:
    """Fails if `out` is not a folder, or if one of the names exists in it and must stay."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; --out must be a folder")
    for name in names:
        if (out / name).exists() and not overwrite:
            raise UserError(f"{out / name} exists; choose another --out or pass --overwrite")


def publish(ready: Path, out: Path, *, overwrite: bool = False) -> None:
    """Moves the files of the folder `ready` into the folder `out`, without replacing any.

    All names are checked before the first move; a new `out` appears complete.
    """
    names = sorted(path.name for path in ready.iterdir())
    refuse_existing(out, names, overwrite=overwrite)
    if not out.exists():
        os.replace(ready, out)
        return
    for name in names:
        os.replace(ready / name, out / name)
