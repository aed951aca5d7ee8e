"""The paper's tables and figures as rows: how each is made, the paper's numbers, ours.

The rows are data, in paper.toml. docs/reproduce.md shows them all, and `unclip eval --suite paper`
runs them.
"""

import dataclasses
import functools
import shlex
import tomllib
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
ROWS, PROMPTS = FOLDER / "paper.toml", FOLDER / "paper_prompts.json"
GROUPS = ("tables", "figures", "numbers", "limits")


@dataclasses.dataclass(frozen=True)
class Number:
    """A number of the paper.

    Attributes:
        what: it is.
        paper: as printed; "" where the paper has the quantity as a picture only, or not at all.
        metric: its name in the suite's report; "" where no suite gives it.
        differs: what the metric is, where it is not the paper's quantity.
        file: a committed report with our measurement, from the root of the repository; "" for none.
        name: of the metric in that report.
        note: on that measurement.
        plan: a stage of configs/paper whose parameters are our number.
        prior: whose samples the number is of, as in `Metric.recipe`; "" for any.
    """

    what: str
    paper: str = ""
    metric: str = ""
    differs: str = ""
    file: str = ""
    name: str = ""
    note: str = ""
    plan: str = ""
    prior: str = ""


@dataclasses.dataclass(frozen=True)
class Row:
    """A table, a figure or a section with numbers.

    Attributes:
        item: its name in the paper.
        shows: what.
        group: one of GROUPS.
        needs: what has to be there beside trained stages.
        suite: of `unclip eval`, which makes it; "" where `command` does.
        options: of the suite, beyond --model and --out; names in capitals stand for the reader's
            bundles and data.
        command: in place of a suite.
        stages: of configs/paper, which have to be trained.
        numbers: of the paper.
        files: of the suite's, which show it.
        see: our picture, from docs/.
        missing: why it cannot be made, or made in full.
    """

    item: str
    shows: str
    group: str
    needs: str
    suite: str = ""
    options: str = ""
    command: str = ""
    stages: tuple[str, ...] = ()
    numbers: tuple[Number, ...] = ()
    files: tuple[str, ...] = ()
    see: str = ""
    missing: str = ""

    @property
    def line(self) -> str:
        """The command that makes the row."""
        if self.command:
            return self.command
        words = ["unclip eval --suite", self.suite, "--model MODEL", self.options, "--out DIR"]
        return " ".join(filter(None, words))


@dataclasses.dataclass(frozen=True)
class Published:
    """A row of the paper's table 2: FID on MS-COCO as its authors published it; "" for none.

    Attributes:
        fid: of a model trained on MS-COCO.
        zero_shot: of one that was not.
        filtered: zero-shot, the reference without images that training images resemble.
    """

    model: str
    fid: str = ""
    zero_shot: str = ""
    filtered: str = ""


@dataclasses.dataclass(frozen=True)
class PlannedStage:
    """What `unclip plan` says of a stage of configs/paper.

    Attributes:
        params: number of parameters.
        chips: number of chips.
        hours: of the whole training at 40% MFU, as it prints them; None: not estimated.
    """

    stage: str
    params: int
    chips: int
    hours: float | None = None

    @property
    def chip_hours(self) -> float:
        """Hours of one chip; 0 where they are not estimated."""
        return self.chips * (self.hours or 0.0)


@functools.cache
def _table() -> dict[str, Any]:
    return tomllib.loads(ROWS.read_text(encoding="utf-8"))


def rows() -> list[Row]:
    """Reads all rows, in the order of the file."""
    lists = ("stages", "files")
    return [
        Row(
            **{name: tuple(row.pop(name, ())) for name in lists},
            numbers=tuple(Number(**number) for number in row.pop("numbers", ())),
            **row,
        )
        for row in map(dict, _table()["row"])
    ]


def published() -> list[Published]:
    """Reads what others published on MS-COCO."""
    return [Published(**row) for row in _table()["published"]]


def planned() -> list[PlannedStage]:
    """Reads what was planned for each stage."""
    return [PlannedStage(**row) for row in _table()["plan"]]


def suites() -> list[str]:
    """Lists the suites that make any row, each once, in the order of the rows."""
    return list(dict.fromkeys(row.suite for row in rows() if row.suite))


def fill(line: str, values: dict[str, str]) -> list[str]:
    """Returns a command's words, those in capitals replaced by the reader's."""
    return [values.get(word, word) for word in shlex.split(line)]
