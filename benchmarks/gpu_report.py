"""The figures of `gpu.py` as a table: rates, ratios and shares of the card's peak."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpu_cells import Cell

from unclip_jax.core.chips import chip_of
from unclip_jax.core.files import whole_file

BEGIN, END = "<!-- gpu.py: begin -->", "<!-- gpu.py: end -->"
COLUMNS = (
    "what, dtype|side|card, date|batch|median, s|rows/s|speed of ours to it|MFU|goal|GPU, GiB"
).split("|")
NONE = "–"

Sides = Mapping[str, Mapping[str, Any]]
"""What each side of a cell told: `wall` seconds of a call on `rows` rows, or why it `failed`."""


def rate(side: Mapping[str, Any]) -> float | None:
    """Returns rows per second; None of a side that has not run."""
    return None if "wall" not in side else side["rows"] / side["wall"]


def is_ours(name: str) -> bool:
    """Whether a side is this package."""
    return name.startswith("unclip_jax")


def best_of_ours(sides: Sides) -> str | None:
    """Returns the fastest of our sides; None if none has run."""
    rates = {name: rate(side) for name, side in sides.items() if is_ours(name)}
    ran = {name: value for name, value in rates.items() if value is not None}
    return max(ran, key=lambda name: ran[name]) if ran else None


def speed(sides: Sides, name: str) -> float | None:
    """Returns our rate over that of a side, the best of ours; above 1 ours is faster.

    None where one of them has not run, or they ran on different cards.
    """
    best = best_of_ours(sides)
    theirs = None if name not in sides else rate(sides[name])
    if best is None or theirs is None or sides[best]["device"] != sides[name]["device"]:
        return None
    return rate(sides[best]) / theirs


def mfu(sides: Sides, name: str) -> float | None:
    """Returns the model FLOPs of a second over the card's peak in bfloat16.

    Model FLOPs are counted as `unclip plan` does, of our side; a side of another network has
    counted its own.
    """
    side, achieved = sides[name], rate(sides[name])
    counted = [one for one in (side, *sides.values()) if one.get("flops")]
    chip = chip_of(side.get("device", ""))
    if achieved is None or not counted or chip is None:
        return None
    return counted[0]["flops"] / counted[0]["rows"] * achieved / chip.flops


def goal_text(cell: Cell, sides: Sides, name: str) -> str:
    """Says what a side should reach, and whether it does."""
    goal = cell.goal
    wanted, reached, text = goal.speed, speed(sides, goal.against), ""
    if goal.speed is not None and name == goal.against:
        text = f"speed ≥ {goal.speed:g}"
    elif goal.mfu is not None and is_ours(name):
        wanted, text = goal.mfu, f"MFU ≥ {goal.mfu:.0%}"
        reached = mfu(sides, name) if name in sides else None
    elif goal.error is not None and is_ours(name):
        error = sides.get(name, {}).get("error")
        wanted, text = -goal.error, f"error ≤ {goal.error:g}"
        reached = None if error is None else -error
    if not text or reached is None:
        return text or NONE
    return f"{text}: {'yes' if reached >= wanted else 'no'}"


def number(value: float | None, form: str) -> str:
    """Formats a figure that may be missing."""
    return NONE if value is None else format(value, form)


def row(*cells: str) -> str:
    """Returns a row of the table, empty where cells are left out."""
    padded = [*cells, *[""] * (len(COLUMNS) - len(cells))]
    return f"| {' | '.join(text.replace('|', '/') for text in padded)} |"


def side_row(cell: Cell, record: Mapping[str, Any], name: str) -> str:
    """Returns the row of a side."""
    sides = record["sides"]
    side = sides.get(name, {"failed": "not run"})
    what, card = f"{cell.what}, {cell.dtype}", side.get("device", NONE)
    if "failed" in side:
        return row(what, name, NONE, NONE, side["failed"])
    return row(
        what,
        name,
        f"{card}, {side['date']}",
        str(side["rows"]),
        f"{side['wall']:.3g}",
        number(rate(side), ".4g"),
        NONE if is_ours(name) else number(speed(sides, name), ".2f"),
        number(mfu(sides, name), ".1%") if cell.trains else NONE,
        goal_text(cell, sides, name),
        number(side.get("gpu_gib"), ".1f"),
    )


def table(cells: Sequence[Cell], records: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns all cells as Markdown; those without a record are said not to have run."""
    lines = [row(*COLUMNS), "|" + "---|" * len(COLUMNS)]
    versions: dict[str, None] = {}
    for cell in cells:
        record = records.get(cell.name)
        if record is None:
            goals = {goal_text(cell, {}, name) for name in cell.sides} - {NONE}
            what, sides = f"{cell.what}, {cell.dtype}", "; ".join(cell.sides)
            empty = [NONE] * 3
            lines.append(row(what, sides, NONE, NONE, "not run", *empty, *goals, NONE))
            continue
        lines += [side_row(cell, record, name) for name in cell.sides]
        versions[", ".join(f"{k} {v}" for k, v in record["environment"].items())] = None
    return "\n".join(["\n".join(lines), *(f"\n{text}" for text in versions)])


def put_into(page: Path, text: str) -> None:
    """Replaces what stands between the marks of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{page} has no {BEGIN} ... {END}")
    with whole_file(page) as part:
        part.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
