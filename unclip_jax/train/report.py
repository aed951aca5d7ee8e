"""report.html of a run: its curves, speed, samples, config and environment on one page.

The page is a convenience: whatever goes wrong while it is written is a logged line and never ends
the run. It reads the record's files and not the run, so that after a resume it covers the whole
history; each refresh reads only the lines since the last one, and long series are thinned.
"""

import contextlib
import dataclasses
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from unclip_jax.core import pages
from unclip_jax.core.charts import Line, Point, line_chart, share_bar, short
from unclip_jax.core.errors import one_line
from unclip_jax.core.files import whole_file
from unclip_jax.train.metrics import Log

REPORT = "report.html"
MOST_POINTS = 1000  # of a series; a chart has fewer pixels
MOST_GRIDS, GRID_WIDTH = 8, 320
MOST_CHARTS = 16
LARGEST_VALUE = 1e100  # of a plotted number; also leaves out what is not a number
LARGEST_SHARE = 0.02  # of the time of a run that the page may take
STEPS = "steps"
PHASES = (STEPS, "set-up", "compile", "evaluation", "saving", "samples")
"""The order of the phases in the report; the first is the useful one."""
ENTRY_KEYS = ("date", "commit", "device_kind", "devices", "processes", "cpu_cores", "python")
OTHERWISE_SHOWN = ("loss", "learning_rate", "grad_norm", "skipped")
OTHERWISE_SHOWN += ("images_per_second", "mfu", "hfu", "seconds", "seconds_left", "time")
HELD_OUT, HELD_OUT_KEY = "held_out/", b'"held_out/'
SECONDS = re.compile(rb'"seconds": ([\d.e+-]+)')  # as RunWriter writes it
QUARTILE = re.compile(r"_q[1-4]$")


class Lines:
    """Lines of a file of the record, thinned by powers of two; the last one is always kept."""

    def __init__(self, most: int = MOST_POINTS):
        """Keeps at most 2 `most` lines."""
        self._most, self._every, self._count = most, 1, 0
        self._kept: list[bytes] = []
        self._last: list[bytes] = []

    def add(self, line: bytes) -> None:
        """Appends a line."""
        is_kept = self._count % self._every == 0
        if is_kept:
            self._kept.append(line)
        self._last = [] if is_kept else [line]
        self._count += 1
        if len(self._kept) > 2 * self._most:
            self._kept, self._every = self._kept[::2], 2 * self._every

    def rows(self) -> list[dict[str, Any]]:
        """Returns the kept rows that have a step; what is unreadable is left out."""
        return [row for line in (*self._kept, *self._last) if (row := _row(line))]


@dataclasses.dataclass
class NewLines:
    """Reads what a file has got since it was read last."""

    path: Path
    _read: int = 0

    def __iter__(self) -> Iterator[bytes]:
        """Yields the new lines, without one that is still being written."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                yield line


class History:
    """What the record says, from the first start of a run on.

    Attributes:
        points: by the name of a metric, thinned.
        seconds: by phase.
        step: the last step of the record.
    """

    def __init__(self, workdir: Path):
        """Reads nothing yet."""
        names = ("metrics", "timings", "phases")
        self._files = {name: NewLines(workdir / f"{name}.jsonl") for name in names}
        self._lines = {name: Lines() for name in ("metrics", "held_out", "timings")}
        self.points: dict[str, list[Point]] = {}
        self.seconds: dict[str, float] = {}
        self.step = 0

    def update(self) -> None:
        """Reads what is new; of most lines only what is needed, for there may be a million."""
        for line in self._files["metrics"]:
            self._lines["held_out" if HELD_OUT_KEY in line else "metrics"].add(line)
        for line in self._files["timings"]:
            self._lines["timings"].add(line)
            found = SECONDS.search(line)
            self._spend(STEPS, float(found[1]) if found else None)
        for line in self._files["phases"]:
            row = _row(line) or {}
            self._spend(str(row.get("phase")), row.get("seconds"))
        self.points = {}
        for row in (row for lines in self._lines.values() for row in lines.rows()):
            step = row.pop("step")
            self.step = max(self.step, step)
            for key, value in row.items():
                if isinstance(value, int | float) and abs(value) < LARGEST_VALUE:
                    self.points.setdefault(key, []).append((step, value))

    def latest(self, key: str) -> int | float | None:
        """Returns the last value of a metric."""
        return self.points[key][-1][1] if key in self.points else None

    def line(self, key: str, label: str = "") -> Line:
        """Returns a metric as a series of a chart; `label` instead of its name."""
        return Line(label or key, self.points.get(key, []))

    def _spend(self, phase: str, seconds: object) -> None:
        if isinstance(seconds, int | float):
            self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds


class Report:
    """Writes report.html into the folder of a run, as often as it is asked to."""

    def __init__(self, workdir: Path, log: Log):
        """Reads nothing yet."""
        self._workdir, self._log, self._history = workdir, log, History(workdir)
        self._figures: dict[Path, str] = {}
        self._due = 0.0

    def refresh(self) -> None:
        """Writes the page, unless that would take more than LARGEST_SHARE of the time."""
        if time.monotonic() >= self._due:
            self.write()

    def write(self) -> None:
        """Writes the page; a failure is a logged line."""
        start = time.monotonic()
        try:
            self._history.update()
            text = pages.page(*self._content())
            with whole_file(self._workdir / REPORT) as part:
                part.write_text(text, encoding="utf-8")
        except Exception as error:  # noqa: BLE001 - a page is not worth a run
            self._log(f"{REPORT} is not written: {one_line(f'{type(error).__name__}: {error}')}")
        end = time.monotonic()
        self._due = end + (end - start) / LARGEST_SHARE

    def _content(self) -> tuple[str, list[str]]:
        """Returns the page's title and parts."""
        config = _json(self._workdir / "config.json", {})
        starts = [entry for entry in _json(self._workdir / "environment.json", []) if entry]
        title = f"{self._workdir.absolute().name}: {config.get('stage', 'training')}"
        parts = [pages.paragraph(self._summary(config, len(starts)))]
        parts.append(pages.charts(self._charts()))
        parts += [pages.heading("Where the time goes"), *self._goodput()]
        figures = self._samples()
        if figures:
            parts += [pages.heading("Samples over the steps"), pages.images(figures)]
        parts.append(pages.heading("Environment"))
        latest = starts[-1] if starts else {}
        parts.append(pages.table([(key, latest.get(key, "")) for key in ENTRY_KEYS]))
        parts.append(pages.folded("all starts, with versions", json.dumps(starts, indent=1)))
        parts.append(pages.heading("Configuration"))
        parts.append(pages.folded("config.json", json.dumps(config, indent=1)))
        return title, parts

    def _summary(self, config: Mapping[str, Any], starts: int) -> str:
        total = _section(config, "train").get("steps")
        words = [f"Step {self._history.step:,}" + (f" of {total:,}" if total else "")]
        for key, name in (("loss", "loss"), (f"{HELD_OUT}loss", "held-out loss")):
            if (value := self._history.latest(key)) is not None:
                words.append(f"{name} {value:.4g}")
        if skipped := self._history.latest("skipped"):
            words.append(f"{skipped:,} updates skipped")
        words.append(f"data {_section(config, 'data').get('name', 'not recorded')}")
        words.append("1 start" if starts == 1 else f"{starts} starts")
        return ", ".join(words) + "."

    def _charts(self) -> list[str]:
        chart = lambda title, unit, *lines: line_chart(title, "step", unit, lines)  # noqa: E731
        drawn = [self._metric_chart("loss")]
        drawn.append(chart("learning rate", "learning rate", self._history.line("learning_rate")))
        drawn.append(chart("norm of the gradient", "norm", self._history.line("grad_norm")))
        speed = self._history.line("images_per_second", "training")
        drawn.append(chart("throughput", "images/s", speed))
        if "mfu" in self._history.points:
            shares = (self._history.line("mfu", "MFU"), self._history.line("hfu", "HFU"))
            drawn.append(chart("share of the devices' peak", "share", *shares))
        groups: dict[str, list[str]] = {}
        for key in self._history.points:
            name = key.removeprefix(HELD_OUT)
            if name not in OTHERWISE_SHOWN:
                groups.setdefault(QUARTILE.sub("", name), []).append(key)
        drawn += [self._group_chart(name, keys) for name, keys in groups.items()]
        return drawn[:MOST_CHARTS]

    def _group_chart(self, name: str, keys: Sequence[str]) -> str:
        """Draws a metric with its held-out values, or the quartiles of one in training."""
        quartiles = [key for key in keys if QUARTILE.search(key) and not key.startswith(HELD_OUT)]
        if not quartiles:
            return self._metric_chart(name)
        title = f"{name} by quartile of the noise level, training"
        return line_chart(
            title, "step", name, [self._history.line(key, key[-2:]) for key in quartiles]
        )

    def _metric_chart(self, name: str) -> str:
        held_out = self._history.line(f"{HELD_OUT}{name}", "held out")
        return line_chart(name, "step", name, [self._history.line(name, "training"), held_out])

    def _goodput(self) -> list[str]:
        order = [*PHASES, *sorted(set(self._history.seconds) - set(PHASES))]
        shares = [
            (name, self._history.seconds[name]) for name in order if name in self._history.seconds
        ]
        rows = [(name, f"{seconds:.1f}") for name, seconds in shares]
        total = sum(seconds for _, seconds in shares)
        share = self._history.seconds.get(STEPS, 0.0) / total if total else 0.0
        return [
            pages.paragraph(
                f"Goodput {100 * share:.1f}%: the share of {short(total)} recorded seconds that "
                "went into training steps. Not counted: time between two starts, and steps that "
                "were repeated after one."
            ),
            pages.charts(
                [
                    share_bar("share of the recorded time", shares),
                    pages.table(rows, ("phase", "seconds")),
                ]
            ),
        ]

    def _samples(self) -> list[str]:
        """Returns up to MOST_GRIDS grids, evenly over the steps, the first and the last included.

        Grids of later steps than the record's are of a run that was killed after its last save.
        """
        found = sorted(
            (int(path.stem), path)
            for path in self._workdir.glob("samples/*.png")
            if path.stem.isdigit() and int(path.stem) <= self._history.step
        )
        if len(found) > MOST_GRIDS:
            last = len(found) - 1
            found = [found[round(i * last / (MOST_GRIDS - 1))] for i in range(MOST_GRIDS)]
        drawn = {}
        for step, path in found:
            if path in self._figures:
                drawn[path] = self._figures[path]
                continue
            with contextlib.suppress(OSError), Image.open(path) as image:  # cut off by a kill
                drawn[path] = pages.figure(image, f"step {step:,}", GRID_WIDTH)
        self._figures = drawn  # a grid of an earlier step does not change
        return list(drawn.values())


def _row(line: bytes) -> dict[str, Any] | None:
    """Returns a line's row; None if it is not one of a record."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) else None


def _json(path: Path, default: Any) -> Any:
    """Returns a file's JSON; `default` if there is no file or it holds something else."""
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else default
    return found if isinstance(found, type(default)) else default


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = config.get(name)
    return found if isinstance(found, Mapping) else {}
