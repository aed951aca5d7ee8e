"""One writer a folder: a lock that the system lets go of when its holder dies, however it dies.

The lock is flock's on the file `.lock` in the folder, so that it holds between processes of one
machine, and between machines where the file system passes it on (NFS does). A second writer is
refused at once. The file says who holds the lock; it is removed when the lock is let go of, and one
that a killed process has left is taken over.
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
    """Holds `folder`/.lock inside the block; a folder that another holds is refused in one line.

    A folder that does not exist is made, and removed again if nothing came to stand in it. In a job
    of several processes process 0 holds the lock (`distributed.locked_by_first`).

    Args:
        what: who writes, as the refused one is told: "unclip train".
        named: what the messages call the folder, if not by its own path.
    """
    folder, target = Path(folder), Path(named or folder)
    with _present(folder, target), _holding(folder / LOCK, target, what):
        yield


@contextlib.contextmanager
def locked_beside(out: str | Path, what: str) -> Iterator[None]:
    """As `locked`, for a folder that appears by a rename: holds `.NAME.lock` beside it."""
    out = Path(out)
    parent = out.absolute().parent
    with _present(parent, out), _holding(parent / f".{out.name}{LOCK}", out, what):
        yield


def is_stale(path: Path) -> bool:
    """Whether a lock file is of a process of this machine that is gone.

    One of another machine counts as held: not every shared file system passes locks on. One that
    names nobody is of a process that was killed before it could write its name.
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
    """Makes the folder if need be, and at the end removes what it made if it is empty."""
    missing = [p for p in (folder.absolute(), *folder.absolute().parents) if not p.exists()]

    def clear() -> None:
        for made in missing:
            with contextlib.suppress(OSError):
                made.rmdir()

    with cleared(clear):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write {target}: {error.strerror or error}") from error
        yield


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
    with contextlib.suppress(OSError):  # a full disk: the lock holds without a name in it
        os.truncate(file, 0)
        os.write(file, f"{what}, process {os.getpid()} on {platform.node()}".encode())

    def clear() -> None:
        with contextlib.suppress(OSError):
            path.unlink()  # before it is let go of: nobody else's can be meant
        _held.discard(file)
        with contextlib.suppress(OSError):
            os.close(file)

    with cleared(clear):
        yield


def _take(path: Path) -> int:
    """Returns the locked, open file; BlockingIOError's text says who has it."""
    for patience in itertools.count():
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except FileNotFoundError:  # swept away while it stood empty
            path.parent.mkdir()
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file), path.stat()):
                return file
        except BlockingIOError as error:
            owner = _owner(file)
            os.close(file)
            if not owner and patience < 50:  # just taken, or only looked at by a sweep
                time.sleep(0.01)
                continue
            raise BlockingIOError(error.errno, owner) from error
        except FileNotFoundError:
            pass  # its last holder has removed it since it was opened
        except OSError as error:
            if error.errno in _NO_LOCKS:  # a file system without locks: none is better than no run
                return file
            os.close(file)
            raise
        os.close(file)


def _owner(file: int) -> str:
    return " ".join(os.pread(file, 200, 0).decode("utf-8", "replace").split())


def _let_go_in_child() -> None:
    """A forked process, such as a data worker, must not hold the lock on after its parent."""
    for file in _held:
        with contextlib.suppress(OSError):
            os.close(file)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_child)
