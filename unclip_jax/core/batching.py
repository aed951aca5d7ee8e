"""One function over many examples, a batch at a time."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np

T = TypeVar("T")


def iter_batches(
    function: Callable[[list[T]], Any],
    items: Iterable[T],
    size: int,
    *,
    pad: bool = True,
    report: Callable[[int], None] | None = None,
) -> Iterator[Any]:
    """Yields function(batch) for each `size` items, as trees of NumPy arrays with a row an item.

    Args:
        items: examples, or the numbers of their rows; read as they are needed.
        pad: repeats the last item to fill the last batch, so that a compiled function sees one
            shape; the rows of the repeated item are cut off.
        report: called before each batch with the number of items done.
    """
    items, done = iter(items), 0
    while batch := list(itertools.islice(items, size)):
        if report is not None:
            report(done)
        kept = len(batch)
        filled = batch + [batch[-1]] * (size - kept) if pad else batch
        result = jax.device_get(function(filled))
        yield jax.tree.map(lambda leaf: leaf[:kept], result)  # noqa: B023
        done += kept


def map_batches(
    function: Callable[[list[T]], Any],
    items: Iterable[T],
    size: int,
    *,
    pad: bool = True,
    report: Callable[[int], None] | None = None,
) -> Any:
    """Concatenates the results of `iter_batches`: one tree of NumPy arrays, a row an item."""
    parts = list(iter_batches(function, items, size, pad=pad, report=report))
    if not parts:
        raise ValueError("there are no items to map over")
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
