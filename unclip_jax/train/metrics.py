"""The record of a run: metrics.jsonl, timings.jsonl, phases.jsonl and TensorBoard events.

metrics.jsonl contains only functions of (seed, step), so that a resumed run writes the same bytes;
rates and times of steps go to timings.jsonl, what else takes time (set-up, compilation, evaluation,
saving, samples) to phases.jsonl. On start all are truncated to the restored step.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, UInt8

from unclip_jax.core.errors import UserError
from unclip_jax.core.files import free_path, whole_file

Log = Callable[[str], None]
"""A logging callback: takes one line for a person to read."""


def no_log(line: str) -> None:
    """Drops the line."""


@runtime_checkable
class Writer(Protocol):
    """Takes the results of the loop."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Writes values that are a function of (seed, step)."""

    def timings(self, step: int, values: Mapping[str, float]) -> None:
        """Writes values that depend on the machine."""

    def phase(self, step: int, name: str, seconds: float) -> None:
        """Writes how long something other than steps took."""

    def image(self, step: int, name: str, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """Writes an image."""

    def close(self) -> None:
        """Flushes and closes the record."""


def named_metrics(sums: Float[Array | np.ndarray, "m 2"], names: Sequence[str]) -> dict[str, float]:
    """Returns the means of the metrics that have any weight, from rows (sum, weight)."""
    return {
        name: float(total / weight)
        for name, (total, weight) in zip(names, sums.astype(np.float64), strict=True)
        if weight > 0
    }


def truncate_jsonl(path: Path, step: int, log: Log = no_log) -> None:
    """Drops the lines after `step`, and a last line that a kill has cut off.

    Any other unreadable line was damaged later: a copy of the file is then kept, and every readable
    line stays.
    """
    if not path.exists():
        return
    lines = path.read_bytes().split(b"\n")
    cut = lines.pop()  # after the last newline: empty, or a line that a kill has cut off
    steps = [(line, _step_of(line)) for line in lines]
    unreadable = sum(at is None for _, at in steps)
    steps.append((cut, _step_of(cut)))
    if unreadable:
        aside = free_path(path.with_name(f"{path.name}.damaged"))  # an earlier one is kept too
        with whole_file(aside) as part:
            shutil.copyfile(path, part)
        log(f"{unreadable} lines of {path} are damaged and left out; the file is kept as {aside}")
    with whole_file(path) as part:
        kept = [line + b"\n" for line, at in steps if at is not None and at <= step]
        part.write_bytes(b"".join(kept))


def _step_of(line: bytes) -> int | None:
    """Returns a line's step; None if it is not a line of a record."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    at = record.get("step") if isinstance(record, dict) else None
    return at if isinstance(at, int) else None


class NullWriter:
    """The writer of the processes without a record: all but process 0."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Does nothing."""

    def timings(self, step: int, values: Mapping[str, float]) -> None:
        """Does nothing."""

    def phase(self, step: int, name: str, seconds: float) -> None:
        """Does nothing."""

    def image(self, step: int, name: str, image: UInt8[np.ndarray, "h w 3"]) -> None:
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
        log: Log = no_log,
    ):
        """Continues the record of a run that was restored at `step` (0: from the start)."""
        self._files = {}
        for name in ("metrics", "timings", "phases"):
            path = workdir / f"{name}.jsonl"
            truncate_jsonl(path, step, log)
            self._files[name] = path.open("ab", buffering=0)
        self._events = None
        if tensorboard:
            from tensorboardX import SummaryWriter  # takes half a second

            self._events = SummaryWriter(str(workdir / "tensorboard"), purge_step=step or None)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Appends one line to metrics.jsonl."""
        self._write("metrics", step, values)

    def timings(self, step: int, values: Mapping[str, float]) -> None:
        """Appends one line to timings.jsonl."""
        self._write("timings", step, values)

    def phase(self, step: int, name: str, seconds: float) -> None:
        """Appends one line to phases.jsonl."""
        self._append("phases", {"step": step, "phase": name, "seconds": seconds})

    def image(self, step: int, name: str, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """Adds an image to the TensorBoard events."""
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
        self._append(name, record)
        if self._events is not None:
            for key, value in record.items():
                if key != "step" and value is not None:
                    self._events.add_scalar(key, value, step)

    def _append(self, name: str, record: Mapping[str, Any]) -> None:
        file = self._files[name]
        try:
            file.write((json.dumps(record) + "\n").encode())
        except OSError as error:
            raise UserError(f"cannot write {file.name}: {error.strerror or error}") from error


def _number(value: ArrayLike) -> float | int | None:
    """Returns a number as JSON has it: None where it is not finite."""
    value = np.asarray(value).item()
    return value if np.isfinite(value) else None
