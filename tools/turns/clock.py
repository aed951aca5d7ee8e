"""The time of a turn, and processes that end in time."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

GRACE = 0.5  # share of the reserve that a process has to save and end


@dataclasses.dataclass
class Clock:
    """When a turn has to be over.

    Attributes:
        deadline: the end, in seconds of `time.monotonic`.
        reserve: seconds before it at which training stops, for saving, export and copies.
    """

    deadline: float
    reserve: float

    def until_stop(self, reserve: float = 0.0) -> float:
        """Returns the seconds left for training; a stage may need a larger reserve."""
        return self.deadline - max(self.reserve, reserve) - time.monotonic()

    def until_end(self) -> float:
        """Returns the seconds left in all."""
        return self.deadline - time.monotonic()

    def end_now(self) -> None:
        """Makes this the moment at which training stops."""
        self.deadline = min(self.deadline, time.monotonic() + self.reserve)

    @contextlib.contextmanager
    def ended_by_signals(self) -> Iterator[None]:
        """Lets SIGTERM and Ctrl-C stop the training, after which its results are still written."""

        def stop(number: int, frame: object) -> None:
            self.end_now()

        handled = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, stop) for number in handled}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run(
    command: Sequence[str],
    log: Path,
    clock: Clock,
    *,
    env: Mapping[str, str] | None = None,
    reserve: float = 0.0,
    to_end: bool = False,
) -> tuple[int, float]:
    """Runs a command to its end, or stops it by SIGTERM in time; what it prints goes to `log`.

    One that does not end after SIGTERM is killed, so that there is time left for what follows.

    Args:
        reserve: seconds before the deadline at which it is stopped, if more than the clock's.
        to_end: whether it may use the reserve too: then it is killed at the deadline.

    Returns:
        Its exit code (negative: the signal that ended it) and the seconds from SIGTERM to its end.
    """
    with log.open("ab") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env=env, start_new_session=True
        )
    try:
        while process.poll() is None and _left(clock, reserve, to_end) > 0:
            with contextlib.suppress(subprocess.TimeoutExpired):  # a signal moves the deadline
                process.wait(max(0.01, min(0.5, _left(clock, reserve, to_end))))
        if process.poll() is not None:
            return process.returncode, 0.0
        stopped = time.monotonic()
        if not to_end:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, clock.until_end() * (1.0 - GRACE)))
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return process.returncode, time.monotonic() - stopped


def _left(clock: Clock, reserve: float, to_end: bool) -> float:
    return clock.until_end() if to_end else clock.until_stop(reserve)
