"""The run's written record: metrics.jsonl, timings.jsonl and TensorBoard events.

metrics.jsonl holds only what is a function of (seed, step), so that a resumed run writes the same
bytes; rates and times go to timings.jsonl. On start both are cut back to the restored step.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from unclip_jax.core.errors import UserError
from unclip_jax.core.files import free_path, whole_file

Say = Callable[[str], None]


@runtime_checkable
class Writer(Protocol):
    """What the loop tells its results to."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Takes values that are a function of (seed, step)."""

    def timings(self, step: int, values: Mapping[str, float]) -> None:
        """Takes values that depend on the machine."""

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Takes a picture, uint8 [h, w, 3]."""

    def close(self) -> None:
        """Writes what is still held."""


def truncate_jsonl(path: Path, step: int, say: Say = lambda text: None) -> None:
    """Drops the lines after `step`, and a last line that a kill has cut.

    Any other line that cannot be read was damaged later: the file is then kept beside, and every
    line that can be read stays.
    """
    if not path.exists():
        return
    lines = path.read_bytes().split(b"\n")
    cut = lines.pop()  # what follows the last newline: nothing, or what a kill has left of a line
    found = [(line, _step_of(line)) for line in lines]
    unread = sum(at is None for _, at in found)
    found.append((cut, _step_of(cut)))
    if unread:
        aside = free_path(path.with_name(f"{path.name}.damaged"))  # an earlier one is kept too
        with whole_file(aside) as part:
            shutil.copyfile(path, part)
        say(f"{unread} lines of {path} are damaged and left out; the file is kept as {aside}")
    with whole_file(path) as part:
        kept = [line + b"\n" for line, at in found if at is not None and at <= step]
        part.write_bytes(b"".join(kept))


def _step_of(line: bytes) -> int | None:
    """Returns a line's step; None if it is not a line of a record."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    at = record.get("step") if isinstance(record, dict) else None
    return at if isinstance(at, int) else None


class NoWriter:
    """The writer of the processes that keep no record: all but the first."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Does nothing."""

    def timings(self, step: int, values: Mapping[str, float]) -> None:
        """Does nothing."""

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


class RunWriter:
    """Writes to the workdir; only process 0 has one."""

    def __init__(
        self,
        workdir: Path,
        step: int,
        *,
        tensorboard: bool = True,
        say: Say = lambda text: None,
    ):
        """Continues the record of a run that was restored at `step` (0: from the start)."""
        self._files = {}
        for name in ("metrics", "timings"):
            path = workdir / f"{name}.jsonl"
            truncate_jsonl(path, step, say)
            self._files[name] = path.open("ab", buffering=0)
        self._events = None
        if tensorboard:
            from tensorboardX import SummaryWriter  # half a second that a smoke run need not pay

            self._events = SummaryWriter(str(workdir / "tensorboard"), purge_step=step or None)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Appends one line to metrics.jsonl."""
        self._write("metrics", step, values)

    def timings(self, step: int, values: Mapping[str, float]) -> None:
        """Appends one line to timings.jsonl."""
        self._write("timings", step, values)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Adds a picture to the TensorBoard events."""
        if self._events is not None:
            self._events.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        """Closes the files."""
        for file in self._files.values():
            file.close()
        if self._events is not None:
            self._events.close()

    def _write(self, name: str, step: int, values: Mapping[str, float]) -> None:
        record: dict[str, Any] = {"step": step}
        record |= {key: _number(value) for key, value in values.items()}
        file = self._files[name]
        try:
            file.write((json.dumps(record) + "\n").encode())
        except OSError as error:
            raise UserError(f"cannot write {file.name}: {error.strerror or error}") from error
        if self._events is not None:
            for key, value in record.items():
                if key != "step" and value is not None:
                    self._events.add_scalar(key, value, step)


def _number(value: Any) -> float | int | None:
    """JSON has no NaN: what is not finite is written as null."""
    value = np.asarray(value).item()
    return value if np.isfinite(value) else None
