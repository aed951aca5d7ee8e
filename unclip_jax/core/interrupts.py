"""What is cleared away by a process that ends without leaving its blocks, as after SIGTERM."""

import contextlib
from collections.abc import Callable, Iterator

_pending: list[Callable[[], None]] = []


@contextlib.contextmanager
def cleared(clear: Callable[[], None]) -> Iterator[None]:
    """Calls `clear` at the end of the block, or in `clear_all` if the process ends within it."""
    _pending.append(clear)
    try:
        yield
    finally:
        clear()
        _pending.remove(clear)


def clear_all() -> None:
    """Clears what the blocks that are still open would clear, the innermost first."""
    for clear in reversed(_pending):
        clear()
