"""What a command says while it works: a bar in a terminal, lines in a log. On stderr alone.

A command names what it does (`phase`), hands `report` to whatever counts, and is never silent for
long: where nothing is reported, as while XLA compiles, a thread says so. A command that is done
within two seconds says nothing, and none says anything where TQDM_DISABLE=1 is set.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import click

FIRST = 2.0  # seconds until the first line, and until that of a new phase
EVERY, RARELY = 5.0, 60.0  # seconds between the lines of one phase: at first, and at most
TICK = 0.25

# JAX says when it begins to trace, lower or compile a program, and when that has ended.
COMPILE_EVENTS = (
    "/jax/core/compile/jaxpr_trace_duration",
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "/jax/core/compile/backend_compile_duration",
)


_active: "list[Progress]" = []  # of the command that runs; the terminal is one, too


def say(line: str) -> None:
    """Writes a line for the person on stderr, beside the bar if there is one."""
    if _active:
        _active[-1].say(line)
    else:
        click.echo(f"unclip: {line}", err=True)


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
        """Says nothing yet; `unit` is what `report` counts."""
        self._unit, self._clock = unit, clock
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._compiles = _Compiles(clock)
        self._name, self._done, self._total = "", 0, 0
        self._outer: tuple[int, int, str] | None = None
        self._began = self._counted = self._said = self._outer_began = 0.0
        self._first = self._outer_first = 0
        self._announced: set[str] = set()
        self._bar: Any = None
        self._is_terminal = False

    def __enter__(self) -> "Progress":
        _active.append(self)
        self._is_terminal = sys.stderr.isatty()
        self._began = self._said = self._clock()
        if os.environ.get("TQDM_DISABLE"):
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
            self._close_bar()
        self._compiles.forget()

    def phase(self, name: str) -> None:
        """Says what is done from now on, where nothing counts it."""
        self.report(name, 0, 0)

    def report(self, stage: str, done: int, total: int | None) -> None:
        """Says how much of a stage is done; `total` is 0 or None where nobody knows."""
        self._compiles.listen()
        with self._lock:
            total, now = total or 0, self._clock()
            if stage != self._name or done < self._done or total != self._total:
                self._close_bar()
                self._name, self._began, self._first, self._counted = stage, now, 0, 0.0
            if done and not self._first:  # rates leave out the first part: it may have compiled
                self._close_bar()
                self._first, self._counted = done, now
            self._done, self._total = done, total
            self._show()

    def count(self, done: int, total: int, unit: str) -> None:
        """Says how much of the whole is done, e.g. images; it stands before every stage."""
        with self._lock:
            if self._outer is None:
                self._outer_first = done
            if done <= self._outer_first:
                self._outer_began = self._clock()
            self._outer = (done, total, unit)
            self._show()

    def say(self, line: str) -> None:
        """Writes a line for the person on stderr, beside the bar if there is one."""
        with self._lock:
            self._close_bar()
            click.echo(f"unclip: {line}", err=True)
            self._said = self._clock()

    def announce(self, line: str) -> None:
        """Says what is done from now on, as a line of its own, however short it may take."""
        self.say(line)
        with self._lock:
            self._announced.add(line)
        self.phase(line)

    def _watch(self) -> None:
        while not self._stop.wait(TICK):
            with self._lock:
                self._show()

    def _show(self) -> None:
        if not self._name or self._thread is None or self._stop.is_set():
            return
        if self._is_terminal:
            self._draw_bar()
            return
        now = self._clock()
        wait = FIRST
        if self._name in self._announced:  # a tenth of what has passed, so that logs stay short
            wait = min(RARELY, max(EVERY, (now - self._began) / 10))
        if now - self._said >= wait:
            self._announced.add(self._name)
            self._said = now
            click.echo(f"unclip: {self._text(now)}", err=True)

    def _text(self, now: float) -> str:
        """Returns the state as one line: "16/88 images, decoder 20/40, 2 min left"."""
        parts = []
        left = _left(self._first, self._done, self._total, now - self._counted)
        if self._outer is not None:
            done, total, unit = self._outer
            parts.append(f"{done}/{total} {unit}")
            left = _left(self._outer_first, done, total, now - self._outer_began)
        parts.append(self._name if not self._done else f"{self._name} {self._amount()}")
        compiling = self._compiles.seconds()
        if compiling:
            parts[-1] += f": compiling, {compiling:.0f} s"
        elif left:
            parts.append(left)
        elif now - self._began >= EVERY and not self._total:
            parts.append(f"{now - self._began:.0f} s")
        return ", ".join(parts)

    def _amount(self) -> str:
        return f"{self._done:,}/{self._total:,}" if self._total else f"{self._done:,} {self._unit}s"

    def _draw_bar(self) -> None:
        from tqdm import tqdm

        if self._bar is None:
            counts = self._first > 0
            self._bar = tqdm(
                total=self._total if counts and self._total else None,
                initial=self._done if counts else 0,
                unit=self._unit,
                file=sys.stderr,
                leave=False,
                disable=False,
                smoothing=0,
                dynamic_ncols=True,
                bar_format=None if counts else "{desc}[{elapsed}]",
            )
        name = self._name
        if self._outer is not None:
            name = "{}/{} {}, {}".format(*self._outer, name)
        if self._compiles.seconds():
            name += ", compiling"
        self._bar.set_description(name, refresh=False)
        self._bar.update(self._done - self._bar.n)
        self._bar.refresh()

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class _Compiles:
    """Knows whether JAX traces or compiles at the moment, and for how long it has."""

    def __init__(self, clock: Callable[[], float]):
        self._clock, self._depth, self._since = clock, 0, 0.0
        self._monitoring: Any = None

    def listen(self) -> None:
        """Listens from now on, if JAX is there; what it compiles has not begun before."""
        if self._monitoring is None and "jax" in sys.modules:
            from jax import monitoring

            self._monitoring = monitoring
            monitoring.register_scalar_listener(self._begun)
            monitoring.register_event_duration_secs_listener(self._ended)

    def forget(self) -> None:
        """Stops listening."""
        if self._monitoring is not None:
            self._monitoring.unregister_scalar_listener(self._begun)
            self._monitoring.unregister_event_duration_listener(self._ended)
            self._monitoring = None

    def seconds(self) -> float:
        """Returns for how long a compilation has been going on; 0 if none is, or a short one."""
        spent = self._clock() - self._since
        return spent if self._depth > 0 and spent >= 1.0 else 0.0

    def _begun(self, event: str, value: float | int, **_: Any) -> None:
        if event in COMPILE_EVENTS:
            if self._depth == 0:
                self._since = self._clock()
            self._depth += 1

    def _ended(self, event: str, seconds: float | int, **_: Any) -> None:
        if event in COMPILE_EVENTS:
            self._depth = max(0, self._depth - 1)


def _left(first: int, done: int, total: int, seconds: float) -> str:
    """Says how long the rest takes at the rate since `first`; nothing while no rate is known."""
    if done <= first or done >= total or seconds <= 0:
        return ""
    rest = round((total - done) * seconds / (done - first))
    if rest < 100:
        return f"{rest} s left"
    minutes = round(rest / 60)
    return f"{minutes} min left" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min left"
