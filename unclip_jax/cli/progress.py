"""Progress of a command on stderr: a bar in a terminal, lines in a log.

A command names what it does (`phase`) and hands `report` to whatever counts. It is never silent for
long: a thread reports when nothing else does, as while XLA compiles. A command that is done within
two seconds reports nothing, and no command does if TQDM_DISABLE=1 is set or with --quiet, which
leaves out notes too.
"""

import dataclasses
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import click

from unclip_jax.core.compiling import Compiles

FIRST = 2.0  # seconds until the first line, and until that of a new phase
EVERY, RARELY = 5.0, 60.0  # seconds between the lines of one phase: at first, and at most
TICK = 0.25


_active: "list[Progress]" = []  # of the running command: there is only one terminal
_is_quiet = False  # whether the running command has --quiet


def set_quiet(is_quiet: bool) -> None:
    """Turns notes and progress of the running command off or on."""
    global _is_quiet
    _is_quiet = is_quiet


def note(text: str) -> None:
    """Writes to stderr what is neither a result nor an error, unless the command is quiet."""
    if not _is_quiet:
        click.echo(text, err=True)


def warn(text: str) -> None:
    """Writes a warning to stderr that --quiet must not hide, such as one about security."""
    click.echo(f"unclip: warning: {text}", err=True)


def say(line: str) -> None:
    """Writes a line for the user on stderr, above the bar if there is one."""
    if _active:
        _active[-1].say(line)
    else:
        note(f"unclip: {line}")


class Progress:
    """Reports phases and counts on stderr; use it as a context.

        with Progress() as progress:
            progress.phase("loading emoji")
            ...
            sample(..., progress=progress.report)

    In a terminal it draws one bar at a time and leaves nothing behind. Elsewhere it writes a line
    for a new phase and then one every few seconds, so that a log stays short.
    """

    def __init__(self, unit: str = "step", clock: Callable[[], float] = time.monotonic):
        """Reports nothing yet; `unit` is what `report` counts."""
        self._clock = clock
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._compiles = Compiles(clock)
        self._bar = _Bar(unit)
        self._name, self._note, self._unit, self._outer_unit = "", "", unit, ""
        self._inner, self._outer = _Count(), _Count()
        self._began = self._said = 0.0
        self._announced: set[str] = set()
        self.is_terminal = False

    def __enter__(self) -> "Progress":
        _active.append(self)
        self.is_terminal = sys.stderr.isatty()
        self._began = self._said = self._clock()
        if _is_quiet or os.environ.get("TQDM_DISABLE"):
            return self
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        _active.remove(self)
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            self._bar.close()
        self._compiles.forget()

    def phase(self, name: str) -> None:
        """Names what is done from now on, where nothing counts it."""
        self.report(name, 0, 0)

    def report(self, stage: str, done: int, total: int | None) -> None:
        """Reports how much of a stage is done; `total` is 0 or None if it is not known."""
        self._compiles.listen()
        with self._lock:
            self._update(stage, done, total or 0)
            self._show()

    def advance(self, done: int, note: str) -> None:
        """Updates the stage's count, and the note after its bar; shown at the next tick."""
        with self._lock:
            self._note = note
            self._update(self._name, done, self._inner.total)

    def count(self, done: int, total: int, unit: str) -> None:
        """Reports how much of the whole is done, e.g. images; shown before every stage."""
        with self._lock:
            if not self._outer_unit:
                self._outer.first = done
            if done <= self._outer.first:
                self._outer.since = self._clock()
            self._outer.done, self._outer.total, self._outer_unit = done, total, unit
            self._show()

    def say(self, line: str) -> None:
        """Writes a line for the user on stderr, above the bar if there is one."""
        with self._lock:
            self._bar.close()
            note(f"unclip: {line}")
            self._said = self._clock()

    def announce(self, line: str) -> None:
        """Names what is done from now on, on a line of its own, however short it may take."""
        self.say(line)
        with self._lock:
            self._announced.add(line)
        self.phase(line)

    def _update(self, stage: str, done: int, total: int) -> None:
        now = self._clock()
        if stage != self._name or done < self._inner.done or total != self._inner.total:
            self._bar.close()
            self._name, self._began, self._inner = stage, now, _Count()
        if done and not self._inner.first:  # rates leave out the first part: it may compile
            self._bar.close()
            self._inner.first, self._inner.since = done, now
        self._inner.done, self._inner.total = done, total

    def _watch(self) -> None:
        while not self._stop.wait(TICK):
            with self._lock:
                self._show()

    def _show(self) -> None:
        if not self._name or self._thread is None or self._stop.is_set():
            return
        if self.is_terminal:
            name = f"{self._overall()}{self._name}"
            if self._compiles.seconds():
                name += ", compiling"
            self._bar.draw(name, self._inner, self._note)
            return
        now = self._clock()
        wait = FIRST
        if self._name in self._announced:  # a tenth of what has passed, so that logs stay short
            wait = min(RARELY, max(EVERY, (now - self._began) / 10))
        if now - self._said >= wait:
            self._announced.add(self._name)
            self._said = now
            click.echo(f"unclip: {self._text(now)}", err=True)

    def _overall(self) -> str:
        outer = self._outer
        return f"{outer.done}/{outer.total} {self._outer_unit}, " if self._outer_unit else ""

    def _text(self, now: float) -> str:
        """Returns the state as one line: "16/88 images, decoder 20/40, 2 min left"."""
        text = f"{self._overall()}{self._name}{self._inner.amount(self._unit)}"
        left = (self._outer if self._outer_unit else self._inner).left(now)
        compiling = self._compiles.seconds()
        if compiling:
            return f"{text}: compiling, {compiling:.0f} s"
        if left:
            return f"{text}, {left}"
        if now - self._began >= EVERY and not self._inner.total:
            return f"{text}, {now - self._began:.0f} s"
        return text


class TrainingProgress:
    """Progress of a training loop: a bar with the metrics after it, or a line of metrics at a time.

    In a log, `progress` reports until the loop has its first line.
    """

    def __init__(self, progress: Progress, done: int, steps: int):
        """Starts at `done` of `steps` steps."""
        self._progress, self._done, self._note = progress, done, ""
        if progress.is_terminal:
            progress.report("training", done, steps)
        else:
            progress.phase("first steps")

    def update(self, n: int) -> None:
        """Counts `n` more steps."""
        self._done += n
        if self._progress.is_terminal:
            self._progress.advance(self._done, self._note)

    def set_postfix_str(self, text: str) -> None:
        """Shows a line of metrics."""
        self._note = text
        if not self._progress.is_terminal:
            self._progress.phase("")
            note(text)

    def close(self) -> None:
        """Ends the bar; the last metrics stay on the terminal."""
        self._progress.phase("")
        if self._progress.is_terminal and self._note:
            self._progress.say(self._note)


@dataclasses.dataclass
class _Count:
    """How much is done, and at what rate since the part `first` was done at the time `since`."""

    done: int = 0
    total: int = 0
    first: int = 0
    since: float = 0.0

    def amount(self, unit: str) -> str:
        """Returns " 20/40", or " 20 steps" if the total is not known; "" while nothing is done."""
        if not self.done:
            return ""
        return f" {self.done:,}/{self.total:,}" if self.total else f" {self.done:,} {unit}s"

    def left(self, now: float) -> str:
        """Returns how long the rest will take; "" while no rate is known."""
        seconds = now - self.since
        if self.done <= self.first or self.done >= self.total or seconds <= 0:
            return ""
        rest = round((self.total - self.done) * seconds / (self.done - self.first))
        if rest < 100:
            return f"{rest} s left"
        minutes = round(rest / 60)
        if minutes < 100:
            return f"{minutes} min left"
        return f"{minutes // 60} h {minutes % 60} min left"


class _Bar:
    """The bar in a terminal; the next one is created when it is drawn after `close`."""

    def __init__(self, unit: str):
        self._unit = unit
        self._tqdm: Any = None

    def draw(self, name: str, count: _Count, note: str) -> None:
        """Draws the bar, without a rate until the first part is done."""
        from tqdm import tqdm

        if self._tqdm is None:
            counts = count.first > 0
            self._tqdm = tqdm(
                total=count.total if counts and count.total else None,
                initial=count.done if counts else 0,
                unit=self._unit,
                file=sys.stderr,
                leave=False,
                disable=False,
                smoothing=0,
                dynamic_ncols=True,
                bar_format=None if counts else "{desc}[{elapsed}]",
            )
        self._tqdm.set_description(name, refresh=False)
        self._tqdm.set_postfix_str(note, refresh=False)
        self._tqdm.update(count.done - self._tqdm.n)
        self._tqdm.refresh()

    def close(self) -> None:
        """Removes the bar."""
        if self._tqdm is not None:
            self._tqdm.close()
            self._tqdm = None
