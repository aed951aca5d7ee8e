"""JSON records of checkpoints: the data iterator's state and the checksums.

The record is the item "data" of a step's folder. Older versions wrote the iterator's state alone,
without checksums.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from unclip_jax.core.errors import UserError
from unclip_jax.core.files import read_json, read_mapping, whole_file

STEP = re.compile("[0-9]{1,18}")  # str.isdigit also accepts ², which int() does not
HELD_OUT = "held_out_loss"
_RENAMED = {"consecutive_skips": "skipped_row"}  # fields of TrainState, and their former names
_FIELDS = ("step", "iterator", "checksums", "metrics")


class DamagedCheckpoint(UserError):
    """A step whose files are missing, unreadable or changed."""

    def __init__(self, step: int, reason: str):
        """Names the step and the reason."""
        super().__init__(f"the checkpoint of step {step} is damaged ({reason})")
        self.step = step


@dataclasses.dataclass(frozen=True)
class Record:
    """The contents of a record.

    Attributes:
        checksums: by path of the leaf; None in checkpoints of older versions.
        metrics: as given to Orbax; None if there are none, or in older versions.
    """

    iterator: dict[str, Any]
    checksums: Mapping[str, int] | None = None
    metrics: Mapping[str, float] | None = None


def newest_step(checkpoints: Path) -> int | None:
    """Returns the newest complete step; unfinished ones have other names."""
    return max(_steps(checkpoints), default=None)


def make_record(
    step: int,
    iterator: Mapping[str, Any],
    checksums: Mapping[str, int],
    metrics: Mapping[str, float] | None,
) -> dict[str, Any]:
    """Returns the record as a JSON object, with its own digest."""
    values = (step, dict(iterator), dict(checksums), metrics)
    record = dict(zip(_FIELDS, values, strict=True))
    return {**record, "digest": _digest(record)}


def read_record(checkpoints: Path, step: int) -> Record:
    """Reads a step's record and checks its digest."""
    path = _record_path(checkpoints, step)
    try:
        found = read_mapping(path, remedy="restore a copy", nan=True)
    except UserError as error:
        raise DamagedCheckpoint(step, str(error)) from error
    if not {"digest", *_FIELDS} & set(found):
        return Record(found)
    digest = found.pop("digest", None)
    if set(found) != set(_FIELDS) or digest != _digest(found) or found["step"] != step:
        raise DamagedCheckpoint(step, f"the digest of {path} does not match")
    return Record(found["iterator"], found["checksums"], found["metrics"])


def old_names(record: Record, state: Any) -> dict[str, str]:
    """Returns {name: name in the checkpoint} of the renamed fields of a training state."""
    if not dataclasses.is_dataclass(state):
        return {}
    fields = {field.name for field in dataclasses.fields(state)} & set(_RENAMED)
    saved = record.checksums  # None in versions that only knew the old names
    return {new: _RENAMED[new] for new in fields if saved is None or _RENAMED[new] in saved}


def repair_metrics(checkpoints: Path, say: Callable[[str], None]) -> None:
    """Repairs damaged metrics files, which Orbax reads on opening and fails without.

    The values are also in the record; if that is damaged too, the file is moved away.
    """
    for step in _steps(checkpoints):
        path = checkpoints / str(step) / "metrics" / "metrics"
        if not path.parent.is_dir():
            continue
        try:
            wanted, known = read_record(checkpoints, step).metrics, True
        except DamagedCheckpoint:
            wanted, known = None, False
        found = _metrics(path)
        if found is not None and (not known or found == wanted or wanted is None):
            continue
        if wanted is not None:
            with whole_file(path) as part:
                part.write_text(json.dumps(dict(wanted)), encoding="utf-8")
            say(f"the metrics of step {step} were damaged and have been rewritten")
        else:
            place = free_name(checkpoints.with_name(f"{checkpoints.name}.damaged"), step)
            place.parent.mkdir(exist_ok=True)
            path.parent.rename(place.with_name(f"{place.name}.metrics"))
            say(f"the metrics of step {step} are damaged; moved to {place}.metrics")


def free_name(folder: Path, step: int) -> Path:
    """Returns folder/STEP, or the first of folder/STEP-2, … that does not exist."""
    place, number = folder / str(step), 2
    while place.exists() or place.with_name(f"{place.name}.metrics").exists():
        place, number = folder / f"{step}-{number}", number + 1
    return place


def _steps(checkpoints: Path) -> list[int]:
    if not checkpoints.is_dir():
        return []
    return [int(p.name) for p in checkpoints.iterdir() if STEP.fullmatch(p.name) and p.is_dir()]


def _record_path(checkpoints: Path, step: int) -> Path:
    return checkpoints / str(step) / "data" / "metadata"


def _metrics(path: Path) -> dict[str, float] | None:
    try:
        found = read_json(path, nan=True)
    except UserError:
        return None
    is_right = isinstance(found, dict) and isinstance(found.get(HELD_OUT), int | float)
    return found if is_right else None


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
