"""The paper in one report: all suites that make its tables and figures, its numbers beside ours.

Every suite writes its usual files into one folder. What a suite lacks (a bundle to compare with, a
CLIP that judges, people's answers) is no error here: its rows say what is missing.
"""

import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.errors import UserError
from unclip_jax.evals import paper_rows
from unclip_jax.evals.outputs import FEW_PROMPTS, PROMPTS, is_read
from unclip_jax.evals.paper_rows import Number, Row
from unclip_jax.evals.settings import Settings
from unclip_jax.evals.smoke import WARNING, small_bundle, stand_in_ratings

Report = dict[str, Any]
Others = Sequence[tuple[str, Bundle]]
WriteSuite = Callable[..., tuple[Report, str]]
"""runner.write_suite"""

ALONE = ("gallery", "preference")  # suites that compare no bundles, or a --baseline
SMOKE_DATA = {
    "binding": "scenes:size=64,count=24",
    "complexity": "scenes:size=64,count=24",
    "spelling": "words:size=64",
}
DIFFERENT = "Of this bundle and data: compare with the paper's numbers only what is like theirs."


def write_paper(
    folder: Path,
    model: Bundle,
    settings: Settings,
    recorded: Mapping[str, Any],
    others: Others,
    write_suite: WriteSuite,
) -> tuple[Report, str]:
    """Runs every suite of the paper's rows and writes paper.json and paper.md.

    Raises:
        UserError: no suite could be run; the message is that of the first.
    """
    start = time.perf_counter()
    reports: dict[str, Report] = {}
    refusals: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as spare:
        for suite in paper_rows.suites():
            if settings.report is not None:
                settings.report(f"suite {suite}", 0, 0)
            compared = () if suite in ALONE else others
            chosen, changed = settings_of(suite, model, settings, Path(spare))
            try:
                reports[suite], _ = write_suite(
                    suite, model, chosen, {**recorded, **changed}, folder, compared
                )
            except UserError as error:
                refusals[suite] = str(error)
    if not reports:
        raise UserError(next(iter(refusals.values())))
    seconds = round(time.perf_counter() - start, 1)
    report = to_json(reports, refusals, {**recorded, "seconds": seconds})
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    (folder / "paper.json").write_text(text, encoding="utf-8")
    markdown = to_markdown(report)
    (folder / "paper.md").write_text(markdown, encoding="utf-8")
    return report, markdown


def settings_of(
    suite: str, model: Bundle, settings: Settings, spare: Path
) -> tuple[Settings, dict[str, Any]]:
    """Returns a suite's settings, and those that are not the report's.

    A smoke run makes do without what a person would have to bring: the model is its own judge and
    baseline, the suites of procedural data get theirs, and ratings are made up.

    Args:
        spare: a folder for files that are needed for the run only.
    """
    changes: dict[str, Any] = {}
    if suite == "prompts" and settings.prompts_file is None:
        changes["prompts_file"] = str(paper_rows.PROMPTS)
    if suite in PROMPTS and settings.prompts == FEW_PROMPTS:
        changes["prompts"] = PROMPTS[suite]
    if settings.prior is not None and not is_read(suite, "prior"):
        changes["prior"] = None
    if settings.smoke and suite in SMOKE_DATA:
        changes |= {"data": SMOKE_DATA[suite], "splits": ("test",)}
    chosen = dataclasses.replace(settings, **changes)
    if settings.smoke:
        judge, other = chosen.eval_clip or model, chosen.baseline or small_bundle(model)
        ratings = chosen.ratings or (stand_in_ratings(spare) if suite == "aesthetics" else None)
        chosen = dataclasses.replace(chosen, eval_clip=judge, baseline=other, ratings=ratings)
    return chosen, changes


def to_json(
    reports: Mapping[str, Report], refusals: Mapping[str, str], recorded: Mapping[str, Any]
) -> Report:
    """Returns {"suite", "rows", "metrics", "settings"}; metrics are named SUITE/METRIC."""
    rows = [_row(row, reports.get(row.suite), refusals) for row in paper_rows.rows()]
    metrics = {
        f"{suite}/{name}": metric
        for suite, report in reports.items()
        for name, metric in report.get("metrics", {}).items()
    }
    note = {"note": WARNING} if recorded.get("smoke") else {}
    return {"suite": "paper", "rows": rows, "metrics": metrics, "settings": dict(recorded), **note}


def _row(row: Row, report: Report | None, refusals: Mapping[str, str]) -> Report:
    """Returns a row as JSON: its numbers, ours None where they were not measured, and why."""
    if report is not None:
        status = "measured"
    elif row.suite in refusals:
        status = f"not run: {refusals[row.suite]}"
    else:
        status = f"not a suite: {row.line}"
    return {
        "item": row.item,
        "shows": row.shows,
        "suite": row.suite,
        "status": status,
        "missing": row.missing,
        "files": list(row.files) if report is not None else [],
        "notes": list(report.get("notes", ())) if report is not None else [],
        "numbers": [_number(number, report or {}) for number in row.numbers],
    }


def _number(number: Number, report: Report) -> Report:
    ours = _of_prior(report.get("metrics", {}).get(number.metric), number)
    theirs = [
        {"model": other["model"], "value": _of_prior(other["metrics"].get(number.metric), number)}
        for other in report.get("compare", ())
    ]
    names = ("what", "paper", "metric", "differs")
    found = {name: getattr(number, name) for name in names} | {"ours": ours}
    return found | ({"compare": theirs} if theirs else {})


def _of_prior(metric: Report | None, number: Number) -> Report | None:
    """Returns a metric; None if the number is of samples of another prior."""
    if metric is None or not number.prior:
        return metric
    return metric if f", prior {number.prior}," in metric.get("recipe", "") else None


def to_markdown(report: Report) -> str:
    """Returns the report as a table: the paper's numbers, and ours beside them."""
    lines = ["# paper", ""]
    if "note" in report:
        lines += [f"**{report['note']}**", ""]
    lines += [f"- {name}: {value}" for name, value in report["settings"].items()]
    lines += ["", DIFFERENT, ""]
    lines += ["| item | what | paper | ours | files or why not |", "|---|---|---|---|---|"]
    for row in report["rows"]:
        images = ", ".join(f"[{name}]({name})" for name in row["files"])
        done = row["status"] == "measured"
        why = images or (f"{row['suite']}.md" if done else row["status"])
        why = "; ".join([why, *row["notes"]])
        lines.append(_line(row["item"], row["shows"], "", "", why))
        lines += [
            _line("", number["what"], number["paper"], _ours(number), "")
            for number in row["numbers"]
        ]
    return "\n".join(lines) + "\n"


def _line(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _ours(number: Report) -> str:
    """Returns the measured value with its interval, those of compared bundles after it."""
    parts = [] if number["ours"] is None else [shown(number["ours"])]
    for other in number.get("compare", ()):
        if other["value"] is not None:
            parts.append(f"{other['model']}: {shown(other['value'])}")
    if not parts:
        return "not measured"
    differs = f" ({number['differs']})" if number["differs"] else ""
    return "; ".join(parts) + differs


def shown(metric: Mapping[str, Any]) -> str:
    """Returns a metric of a report as text: "0.683 (0.661 to 0.704), n = 1,000"."""
    text = f"{metric['value']:.4g}"
    if metric.get("low") is not None:
        text += f" ({metric['low']:.4g} to {metric['high']:.4g})"
    return f"{text}, n = {metric['n']:,}"
