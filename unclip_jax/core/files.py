"""Folders and files that appear whole or not at all.

Work is written to a hidden folder beside its destination and renamed into place at the end, so that
a crash, a full disk or Ctrl-C leaves what was there before. Renames are atomic within one file
system, which is why the hidden folder sits beside the destination and not in /tmp.
"""

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from unclip_jax.core.errors import UserError
from unclip_jax.core.interrupts import cleared


def cache_folder() -> Path:
    """Returns the folder for compiled programs and records: $XDG_CACHE_HOME or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "unclip_jax"


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields the name to write a file under; at the end of the block it takes the name `path`."""
    part = path.with_name(f"{path.name}.part")
    yield part
    os.replace(part, path)


def read_json(path: Path) -> Any:
    """Reads a JSON file; one that cannot be read is an error that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from error


def read_mapping(path: Path) -> dict[str, Any]:
    """Reads a JSON file that holds an object."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise UserError(f"{path} holds a {type(found).__name__}, not an object")
    return found


@contextlib.contextmanager
def scratch_for(out: Path, *, inside: bool = False) -> Iterator[Path]:
    """Yields a fresh hidden folder on the file system of `out`; it is removed at the end.

    It stands beside `out`, or with `inside` in it if it is there already. Parents of `out` that had
    to be created are removed again if nothing came to stand in them.
    """
    out = Path(out)
    parent = out if inside and out.is_dir() else out.absolute().parent
    missing = [p for p in (parent, *parent.parents) if not p.exists()]
    scratch = parent / f".{out.name}.{secrets.token_hex(8)}.part"

    def discard() -> None:
        shutil.rmtree(scratch, ignore_errors=True)
        for folder in missing:
            with contextlib.suppress(OSError):
                folder.rmdir()

    with cleared(discard):
        try:
            parent.mkdir(parents=True, exist_ok=True)
            scratch.mkdir()
            yield scratch
        except OSError as error:
            raise UserError(f"cannot write {out}: {error.strerror or error}") from error


@contextlib.contextmanager
def new_folder(out: Path, marker: str, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields a folder to fill; on success it becomes `out`, replacing an older one if allowed.

    Args:
        marker: a file that the older one must hold: a folder of other things is never replaced.
    """
    out = Path(out)
    refuse_taken(out, marker, overwrite=overwrite)
    with scratch_for(out) as scratch:
        fresh = scratch / "new"
        fresh.mkdir()
        yield fresh
        if out.exists():
            os.replace(out, scratch / "old")
        os.replace(fresh, out)


def refuse_taken(out: Path, marker: str, *, overwrite: bool = False) -> None:
    """Fails unless `new_folder` may make `out`."""
    if out.exists() and not is_empty_folder(out):
        if not overwrite:
            raise UserError(f"{out} exists; choose another --out or pass --overwrite")
        if not (out / marker).is_file():
            raise UserError(f"{out} holds no {marker}, so that it is not replaced; choose another")


def is_empty_folder(path: Path) -> bool:
    """Whether `path` is a folder with nothing in it."""
    return path.is_dir() and not any(path.iterdir())


def refuse_existing(out: Path, names: Iterable[str], *, overwrite: bool = False) -> None:
    """Fails if `out` is no folder, or one of the names is taken in it and may not be replaced."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; --out must be a folder")
    for name in names:
        if (out / name).exists() and not overwrite:
            raise UserError(f"{out / name} exists; choose another --out or pass --overwrite")


def publish(ready: Path, out: Path, *, overwrite: bool = False) -> None:
    """Moves the files of the folder `ready` into the folder `out`, refusing to replace any.

    All names are checked before the first move; a new `out` appears with everything in it.
    """
    names = sorted(path.name for path in ready.iterdir())
    refuse_existing(out, names, overwrite=overwrite)
    if not out.exists():
        os.replace(ready, out)
        return
    for name in names:
        os.replace(ready / name, out / name)
