"""Cleanup that also runs when a process ends without leaving its blocks, as on SIGTERM."""

import contextlib
from collections.abc import Callable, Iterator

_pending: list[Callable[[], None]] = []


@contextlib.contextmanager
def cleared(clear: Callable[[], None]) -> Iterator[None]:
    """Calls `clear` at the end of the block, or from `clear_all` if the process ends before."""
    _pending.append(clear)
    try:
        yield
    finally:
        clear()
        _pending.remove(clear)


def clear_all() -> None:
    """Runs the cleanup of all blocks that are still open, innermost first."""
    for clear in reversed(_pending):
        clear()
