"""Fills in the tables of docs/reproduce.md, or runs each of its commands with --smoke.

    python -m tools.docs.reproduce
    python -m tools.docs.reproduce --smoke FOLDER [SUITE]

The tables are made of unclip_jax/evals/paper.toml and the committed reports in docs/evals/.
"""

import json
import sys
import time
from pathlib import Path

from unclip_jax.evals import paper_rows
from unclip_jax.evals.paper import shown
from unclip_jax.evals.paper_rows import Number, Row
from unclip_jax.evals.smoke import stand_in_ratings

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reproduce.md"
SHAPES = "shapes:size=64,count=24"
SMOKE = {
    **dict.fromkeys(("MODEL", "GLIDE", "DALLE", "CLIP"), "emoji"),
    **dict.fromkeys(("DATA", "COCO", "emoji"), SHAPES),
    "inception:WEIGHTS": "clip",
    "scenes:size=32": "scenes:size=64,count=24",
    "words:size=32": "words:size=64",
    "everyday": "all",
    "3d,flat": "",
    "PCA": str(ROOT / "unclip_jax" / "bundles" / "emoji" / "pca.safetensors"),
}
"""What the words in the commands stand for in a smoke run."""

Table = list[tuple[str, ...]]
"""Its rows; the first is the head."""


def filled(text: str) -> str:
    """Returns the page with every table between its markers made anew."""
    for name, rows in tables().items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        head, found, rest = text.partition(begin)
        if not found or end not in rest:
            raise ValueError(f"the page has no markers {begin} and {end}")
        rules = ("---",) * len(rows[0])
        lines = [f"| {' | '.join(cells)} |" for cells in (rows[0], rules, *rows[1:])]
        text = "\n".join([head + begin, *lines, end + rest.partition(end)[2]])
    return text


def tables() -> dict[str, Table]:
    """Returns every table of the page by the name of its markers."""
    rows = paper_rows.rows()
    groups = {g: item_table([row for row in rows if row.group == g]) for g in paper_rows.GROUPS}
    return {"compute": compute_table(), **groups, "published": published_table()}


def compute_table() -> Table:
    """Returns what training each stage takes, and all of them."""
    stages = paper_rows.planned()
    table: Table = [("stage", "parameters", "chips", "hours", "chip-hours")]
    for stage in stages:
        chips, hours, work = f"{stage.chips} v5p", "not estimated", ""
        if stage.hours is not None:
            hours, work = f"{stage.hours:,.0f}", f"{stage.chip_hours:,.0f}"
        table.append((f"`{stage.stage}`", billions(stage.params), chips, hours, work))
    total = sum(stage.chip_hours for stage in stages)
    return [*table, ("all", "", "", "", f"{total:,.0f}")]


def billions(count: int) -> str:
    """Returns a number of parameters as text."""
    return f"{count / 1e9:.2f}B"


def item_table(rows: list[Row]) -> Table:
    """Returns the table of a group of the paper's items."""
    table: Table = [("item", "shows", "command", "needs", "paper", "ours")]
    for row in rows:
        paper = "<br>".join(f"{n.what}: {n.paper}" for n in row.numbers if n.paper)
        table.append((row.item, row.shows, f"`{row.line}`", needs(row), paper or "–", ours(row)))
    return table


def needs(row: Row) -> str:
    """Returns what a row needs, with the compute to train its stages."""
    if not row.stages:
        return row.needs
    work = sum(stage.chip_hours for stage in paper_rows.planned() if stage.stage in row.stages)
    return f"{row.needs}; training {', '.join(row.stages)}: {work:,.0f} chip-hours"


def ours(row: Row) -> str:
    """Returns what was measured or drawn, each with its file, or that nothing was."""
    parts = [f"{n.what}: {found}" for n in row.numbers if (found := measured(n))]
    if row.see:
        parts.append(f"[{Path(row.see).name}]({row.see})")
    parts = parts or ["not measured"]
    return "<br>".join([*parts, row.missing] if row.missing else parts)


def measured(number: Number) -> str:
    """Returns our value with its interval and file; "" if there is none."""
    if number.plan:
        params = {stage.stage: stage.params for stage in paper_rows.planned()}
        return billions(params[number.plan])
    if not number.file:
        return ""
    metrics = json.loads((ROOT / number.file).read_text(encoding="utf-8"))["metrics"]
    file = Path(number.file).relative_to("docs").with_suffix(".md")
    notes = "".join(f"; {note}" for note in (number.differs, number.note) if note)
    return f"{shown(metrics[number.name])} ([{file.stem}]({file}){notes})"


def published_table() -> Table:
    """Returns the published FIDs on MS-COCO, and a row of ours."""
    table: Table = [("model", "FID", "zero-shot", "zero-shot, filtered")]
    for row in paper_rows.published():
        scores = (score or "–" for score in (row.fid, row.zero_shot, row.filtered))
        table.append((row.model, *scores))
    return [*table, ("unclip_jax", *["not measured"] * 3)]


def smoke_commands() -> list[list[str]]:
    """Lists the words of each of the page's commands once, with --smoke, on what ships."""
    found = []
    for row in paper_rows.rows():
        words = [smallest(word) for word in paper_rows.fill(row.line, SMOKE)[1:]]
        found.append([*words, "--smoke"] if words[0] == "eval" else words)
    return [words for i, words in enumerate(found) if words not in found[:i]]


def smallest(word: str) -> str:
    """Returns a config's smoke variant; any other word as it is."""
    return f"{word}:smoke" if word.startswith("configs/") and word.endswith(".py") else word


def run_smoke(folder: Path, suite: str = "") -> int:
    """Runs the commands one after the other and says how long each took; returns how many failed.

    Args:
        suite: the only one to run; "" for all.
    """
    from unclip_jax.cli.main import main

    folder.mkdir(parents=True, exist_ok=True)
    ratings, failed = str(stand_in_ratings(folder)), 0
    for number, words in enumerate(smoke_commands()):
        if suite and suite not in words:
            continue
        own = [{"DIR": str(folder / str(number)), "RATINGS": ratings}.get(w, w) for w in words]
        start, code = time.perf_counter(), 0
        try:
            main(own)
        except SystemExit as end:
            code = end.code
        failed += code != 0
        spent = f"{time.perf_counter() - start:.0f} s"
        said = f"{'failed after' if code else 'ok in'} {spent}: unclip {' '.join(own)}"
        sys.stdout.write(f"{said}\n")
        sys.stdout.flush()
    return failed


if __name__ == "__main__":
    if sys.argv[1:2] == ["--smoke"]:
        sys.exit(run_smoke(Path(sys.argv[2]), *sys.argv[3:4]) > 0)
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
