"""Folders and files that appear whole or not at all.

Work is written to a hidden folder beside its destination and renamed into place at the end, so that
a crash, a full disk or Ctrl-C leaves what was there before. Renames are atomic within a file system,
which is why the hidden folder sits beside the destination and not in /tmp.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from unclip_jax.core.errors import UserError


def cache_folder() -> Path:
    """Returns the folder for compiled programs and records: $XDG_CACHE_HOME or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "unclip_jax"


@contextlib.contextmanager
def scratch_beside(out: Path) -> Iterator[Path]:
    """Yields a fresh hidden folder on the file system of `out`; it is removed at the end.

    Parents of `out` that had to be created are removed again if nothing came to stand in them.
    """
    parent = out.absolute().parent
    missing = [p for p in (parent, *parent.parents) if not p.exists()]
    scratch = None
    try:
        parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=parent))
        yield scratch
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
        for folder in missing:
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextlib.contextmanager
def new_folder(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields a folder to fill; on success it becomes `out`, replacing an older one if allowed."""
    out = Path(out)
    if out.exists() and not overwrite and not is_empty_folder(out):
        raise UserError(f"{out} exists; choose another --out or pass --overwrite")
    with scratch_beside(out) as scratch:
        fresh = scratch / "new"
        fresh.mkdir()
        yield fresh
        if out.exists():
            os.replace(out, scratch / "old")
        os.replace(fresh, out)


def is_empty_folder(path: Path) -> bool:
    """Whether `path` is a folder with nothing in it."""
    return path.is_dir() and not any(path.iterdir())


def publish(scratch: Path, out: Path, names: list[str], *, overwrite: bool = False) -> None:
    """Moves the named files from `scratch` into the folder `out`, refusing to replace any of them.

    All names are checked before the first move, so that a refusal changes nothing.
    """
    taken = [name for name in names if (out / name).exists()]
    if taken and not overwrite:
        raise UserError(f"{out / taken[0]} exists; choose another --out or pass --overwrite")
    out.mkdir(parents=True, exist_ok=True)
    for name in names:
        os.replace(scratch / name, out / name)
