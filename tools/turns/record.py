"""What the files of a run tell: last metrics, speed, overhead, device."""

import json
import statistics
from pathlib import Path
from typing import Any

RUN_FILES = ("metrics.jsonl", "timings.jsonl", "phases.jsonl")
OVERHEAD = ("set-up", "compile")


def rows(path: Path) -> list[dict[str, Any]]:
    """Reads a file of JSON lines; what cannot be read of it is left out."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:  # the last line of a run that was killed
            continue
        if isinstance(row, dict):
            found.append(row)
    return found


def last_metrics(workdir: Path) -> dict[str, Any]:
    """Returns the last row with a training loss, joined with the last one of held-out metrics."""
    last: dict[str, Any] = {}
    for key in ("held_out/loss", "loss"):
        with_key = [row for row in rows(workdir / "metrics.jsonl") if key in row]
        last |= with_key[-1] if with_key else {}
    return {key: float(f"{x:.6g}") if isinstance(x, float) else x for key, x in last.items()}


def images_per_second(workdir: Path) -> float:
    """Returns the median rate of a run's steps; 0 if none was recorded."""
    rates = [row.get("images_per_second") for row in rows(workdir / "timings.jsonl")]
    return statistics.median([rate for rate in rates if rate] or [0.0])


def overhead_seconds(workdir: Path) -> float:
    """Returns the seconds of a run before its second step."""
    phases = rows(workdir / "phases.jsonl")
    return float(sum(row.get("seconds", 0.0) for row in phases if row.get("phase") in OVERHEAD))


def device(workdir: Path) -> str:
    """Returns the kind of the devices of a run; empty if that is not known."""
    try:
        starts = json.loads((workdir / "environment.json").read_text(encoding="utf-8"))
        return str(starts[-1]["device_kind"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""


def steps_of(bundle: Path, stage: str) -> int:
    """Returns the number of steps that a bundle's stage was trained in its run; 0 without one."""
    try:
        manifest = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
        return int(manifest["provenance"]["stages"][stage]["steps"])
    except (OSError, ValueError, LookupError, TypeError):
        return 0


def tail(log: Path, count: int) -> list[str]:
    """Returns the last lines of a log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 2**16))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-count:]
