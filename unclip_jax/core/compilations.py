"""Counts the programs that XLA compiles in this process, apart from those of JAX's cache."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import jax

COMPILED = "/jax/core/compile/backend_compile_duration"
"""JAX's event at the end of a compilation, or of what took its place."""

HIT = "/jax/compilation_cache/cache_hits"


@dataclasses.dataclass(eq=False)
class Compilations:
    """Names of programs, each as often as it was made.

    Attributes:
        compiled: by XLA.
        fetched: from JAX's cache of compiled programs.
        hits: of that cache since the last name.
    """

    compiled: list[str] = dataclasses.field(default_factory=list)
    fetched: list[str] = dataclasses.field(default_factory=list)
    hits: int = 0


_counted: list[Compilations] = []


@contextlib.contextmanager
def counted_compilations() -> Iterator[Compilations]:
    """Yields the programs that are compiled or fetched inside of the block."""
    _listen()
    counts = Compilations()
    _counted.append(counts)
    try:
        yield counts
    finally:
        _counted.remove(counts)


_listening: list[bool] = []


def _listen() -> None:
    """Registers the listeners once: JAX keeps them for the life of the process."""
    if not _listening:
        _listening.append(True)
        jax.monitoring.register_event_listener(_on_event)
        jax.monitoring.register_event_duration_secs_listener(_on_duration)


def _on_event(event: str, **about: Any) -> None:
    if event == HIT:
        for counts in _counted:
            counts.hits += 1


def _on_duration(event: str, seconds: float, **about: Any) -> None:
    if event == COMPILED:
        for counts in _counted:
            names = counts.fetched if counts.hits else counts.compiled
            names.append(str(about.get("fun_name", "")))
            counts.hits = 0
