"""What workflows report to while they run."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class Reporter(Protocol):
    """Shows phases, counts and lines to the user; the command line's is cli/progress.py."""

    def say(self, line: str) -> None:
        """Writes a line for the user."""

    def phase(self, name: str) -> None:
        """Names what is done from now on, where nothing counts it."""

    def report(self, stage: str, done: int, total: int | None) -> None:
        """Reports how much of a stage is done."""

    def count(self, done: int, total: int, unit: str) -> None:
        """Reports how much of the whole is done."""
