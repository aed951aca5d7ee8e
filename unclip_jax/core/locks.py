"""Locks that allow one writer per folder; the system releases them however their holder dies.

A lock is flock's on the file `.lock` in the folder. It works between processes of one machine, and
between machines if the file system supports it (NFS does). A second writer is refused at once. The
file names the holder; it is removed on release, and one left by a killed process is taken over.
"""

import contextlib
import errno
import fcntl
import itertools
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

from unclip_jax.core.errors import UserError
from unclip_jax.core.interrupts import cleared

LOCK = ".lock"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
_held: set[int] = set()  # open lock files of this process


@contextlib.contextmanager
def locked(folder: str | Path, what: str, *, named: str | Path | None = None) -> Iterator[None]:
    """Holds `folder`/.lock inside the block.

    A missing folder is created, and removed again if it stays empty. In a job of several processes
    process 0 holds the lock (`distributed.locked_by_zero`).

    Args:
        what: name of the writer, as shown to a process that is refused: "unclip train".
        named: name of the folder in messages, if not its path.

    Raises:
        UserError: another process holds the lock, or the folder cannot be written.
    """
    folder, target = Path(folder), Path(named or folder)
    with _present(folder, target), _holding(folder / LOCK, target, what):
        yield


@contextlib.contextmanager
def locked_beside(out: str | Path, what: str) -> Iterator[None]:
    """Holds `.NAME.lock` next to a folder that is created by a rename; otherwise as `locked`."""
    out = Path(out)
    parent = out.absolute().parent
    with _present(parent, out), _holding(parent / f".{out.name}{LOCK}", out, what):
        yield


def is_stale(path: Path) -> bool:
    """Whether a lock file was left by a dead process of this machine.

    One of another machine counts as held, because not every shared file system supports locks. One
    without a name is of a process that was killed before it could write it.
    """
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        owner = _owner(file)
        return not owner or owner.rpartition(" on ")[2] == platform.node()
    except OSError:
        return False
    finally:
        os.close(file)


@contextlib.contextmanager
def _present(folder: Path, target: Path) -> Iterator[None]:
    """Creates the folder if it is missing, and removes what it created at the end if empty."""
    missing = [p for p in (folder.absolute(), *folder.absolute().parents) if not p.exists()]

    def clear() -> None:
        for made in missing:
            with contextlib.suppress(OSError):
                made.rmdir()

    with cleared(clear):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise UserError(
                f"cannot write {target}: {_obstacle(folder)} is not a folder"
            ) from error
        except OSError as error:
            raise UserError(f"cannot write {target}: {error.strerror or error}") from error
        yield


def _obstacle(folder: Path) -> Path:
    """Returns the part of a path that is there and is no folder: a file, or a link to nothing."""
    parts = (folder, *folder.parents)
    return next((p for p in parts if os.path.lexists(p) and not p.is_dir()), folder)


@contextlib.contextmanager
def _holding(path: Path, target: Path, what: str) -> Iterator[None]:
    try:
        file = _take(path)
    except BlockingIOError as error:
        holder = error.strerror or "another process"
        raise UserError(
            f"{target} is in use by {holder}; wait for it to end, or stop it"
        ) from error
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror or error}") from error
    _held.add(file)
    with contextlib.suppress(OSError):  # on a full disk the lock works without a name
        os.truncate(file, 0)
        os.write(file, f"{what}, process {os.getpid()} on {platform.node()}".encode())

    def clear() -> None:
        with contextlib.suppress(OSError):
            path.unlink()  # before the release: afterwards it may be another process's
        _held.discard(file)
        with contextlib.suppress(OSError):
            os.close(file)

    with cleared(clear):
        yield


def _take(path: Path) -> int:
    """Returns the locked, open file; the text of a BlockingIOError names its holder."""
    for patience in itertools.count():
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except FileNotFoundError:  # removed by a sweep while it was empty
            path.parent.mkdir()
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file), path.stat()):
                return file
        except BlockingIOError as error:
            owner = _owner(file)
            os.close(file)
            if not owner and patience < 50:  # just taken, or being inspected by a sweep
                time.sleep(0.01)
                continue
            raise BlockingIOError(error.errno, owner) from error
        except FileNotFoundError:
            pass  # removed by its last holder after it was opened
        except OSError as error:
            if error.errno in _NO_LOCKS:  # the file system has no locks: run without one
                return file
            os.close(file)
            raise
        os.close(file)


def _owner(file: int) -> str:
    return " ".join(os.pread(file, 200, 0).decode("utf-8", "replace").split())


def _release_in_child() -> None:
    """Closes the locks in a forked process, such as a data worker, which may outlive its parent."""
    for file in _held:
        with contextlib.suppress(OSError):
            os.close(file)
    _held.clear()


os.register_at_fork(after_in_child=_release_in_child)
