"""The run's written record: metrics.jsonl, timings.jsonl and TensorBoard events.

metrics.jsonl holds only what is a function of (seed, step), so that a resumed run writes the same
bytes; rates and times go to timings.jsonl. On start both are cut back to the restored step.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from unclip_jax.core.files import whole_file


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


def truncate_jsonl(path: Path, step: int) -> None:
    """Drops the lines after `step`, and a last line that a kill has cut."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            break
        if record["step"] <= step:
            kept.append(line + "\n")
    with whole_file(path) as part:
        part.write_text("".join(kept), encoding="utf-8")


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

    def __init__(self, workdir: Path, step: int, *, tensorboard: bool = True):
        """Continues the record of a run that was restored at `step` (0: from the start)."""
        self._files = {}
        for name in ("metrics", "timings"):
            path = workdir / f"{name}.jsonl"
            truncate_jsonl(path, step)
            self._files[name] = path.open("a", encoding="utf-8")
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
        self._files[name].write(json.dumps(record) + "\n")
        self._files[name].flush()
        if self._events is not None:
            for key, value in record.items():
                if key != "step" and value is not None:
                    self._events.add_scalar(key, value, step)


def _number(value: Any) -> float | int | None:
    """JSON has no NaN: what is not finite is written as null."""
    value = np.asarray(value).item()
    return value if np.isfinite(value) else None
