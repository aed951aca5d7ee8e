"""Runs a suite by name and writes its report: JSON, a Markdown table and a plot."""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.errors import UserError
from unclip_jax.evals import gallery, paper, preference
from unclip_jax.evals.aesthetics import aesthetics
from unclip_jax.evals.binding import binding
from unclip_jax.evals.combinations import combinations
from unclip_jax.evals.complexity import complexity
from unclip_jax.evals.conditioning import conditioning
from unclip_jax.evals.edits import edits
from unclip_jax.evals.fidelity import fidelity
from unclip_jax.evals.guidance import guidance
from unclip_jax.evals.inversion import inversion
from unclip_jax.evals.metrics import Metric
from unclip_jax.evals.outputs import compared_file, is_read
from unclip_jax.evals.pca import pca
from unclip_jax.evals.plots import plot_suite
from unclip_jax.evals.preference_answers import rate
from unclip_jax.evals.priors import priors
from unclip_jax.evals.prompts import prompts
from unclip_jax.evals.reconstruction import reconstruction
from unclip_jax.evals.retrieval import retrieval
from unclip_jax.evals.samples import samples
from unclip_jax.evals.settings import Settings
from unclip_jax.evals.smoke import WARNING, small_bundle, small_settings, small_size
from unclip_jax.evals.spelling import spelling

LISTED = 12  # metrics of one recipe that a report lists by name
Suite = Callable[[Bundle, Settings], dict[str, Metric]]

SUITES: dict[str, Suite] = {
    "retrieval": retrieval,
    "priors": priors,
    "conditioning": conditioning,
    "samples": samples,
    "combinations": combinations,
    "prompts": prompts,
    "pca": pca,
    "inversion": inversion,
    "edits": edits,
    "reconstruction": reconstruction,
    "fidelity": fidelity,
    "aesthetics": aesthetics,
    "binding": binding,
    "complexity": complexity,
    "spelling": spelling,
    "guidance": guidance,
}


Named = Mapping[str, Metric]
Others = Sequence[tuple[str, Named]]
"""The metrics of compared bundles, in the order of the options, with their names."""
Written = tuple[dict[str, Any], str]
WITHOUT_METRICS: dict[str, Callable[[Path, Bundle, Settings, Mapping[str, Any]], Written]] = {
    "gallery": gallery.write_gallery,
    "preference": preference.write_preference,
}


def run_suite(name: str, model: Bundle, settings: Settings) -> dict[str, Metric]:
    """Runs a suite, a smoke run at its size, and returns its metrics by name."""
    if name not in SUITES:
        raise UserError(f"unknown suite {name!r}; there are {', '.join(SUITES)}")
    if settings.smoke:
        model, settings = small_bundle(model), small_size(model, small_settings(settings))
    return SUITES[name](model, settings)


def write_suite(
    name: str,
    model: Bundle,
    settings: Settings,
    recorded: Mapping[str, Any],
    folder: Path,
    others: Sequence[tuple[str, Bundle]] = (),
) -> Written:
    """Runs a suite, with metrics or without, and writes its files.

    Args:
        recorded: the settings as the report states them.
        others: bundles to compare with, and their names; their images get names of their own, and
            one CLIP judges all.

    Returns:
        The report's JSON object and its Markdown.
    """
    if name == "paper":
        return paper.write_paper(folder, model, settings, recorded, others, write_suite)
    models = [(str(recorded.get("model", model.name)), model), *others]
    judged = settings.comparing(name, [bundle for _, bundle in models])
    if judged is not settings:
        settings, recorded = judged, {**recorded, "eval_clip": models[0][0]}
    notes = settings.judging_notes(name, models)
    settings = dataclasses.replace(settings, note=_noted(notes, settings))
    if name in WITHOUT_METRICS:
        if settings.smoke:
            model, settings = small_bundle(model), small_size(model, settings)
        report, text = WITHOUT_METRICS[name](folder, model, settings, _read(name, recorded))
        report |= {"notes": notes} if notes else {}
        return ({**report, "note": WARNING} if settings.smoke else report), text
    start = time.perf_counter()
    results = run_suite(name, model, settings)
    compared = [
        (label, run_apart(name, other, settings, folder, number))
        for number, (label, other) in enumerate(others, 1)
    ]
    recorded = {**recorded, "seconds": round(time.perf_counter() - start, 1)}
    return write_report(folder, name, results, recorded, compared, notes)


def _noted(notes: list[str], settings: Settings) -> Callable[[str], None]:
    """Returns what keeps each note once, and passes it on."""

    def note(text: str) -> None:
        if text not in notes:
            notes.append(text)
            settings.say(text)

    return note


def run_apart(
    name: str, model: Bundle, settings: Settings, folder: Path, number: int
) -> dict[str, Metric]:
    """Runs a suite on the compared bundle `number`, from 1, whose files are named after it."""
    apart = folder / "apart"
    apart.mkdir()
    results = run_suite(name, model, dataclasses.replace(settings, image_folder=apart))
    for path in apart.iterdir():
        path.rename(folder / compared_file(number, path.name))
    apart.rmdir()
    return results


def write_answers(
    folder: Path, out: Path, answers: Sequence[Path], recorded: Mapping[str, Any]
) -> Written:
    """Writes the report on raters' answers to the page that suite `preference` wrote into `out`."""
    results, table, facts = rate(out, answers)
    report, markdown = write_report(folder, "preference", results, {**recorded, **facts})
    markdown = f"{markdown}\n{table}"
    (folder / "preference.md").write_text(markdown, encoding="utf-8")
    return report, markdown


def _read(suite: str, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings that a suite reads."""
    return {name: value for name, value in recorded.items() if is_read(suite, name)}


def write_report(
    folder: Path,
    suite: str,
    results: Named,
    recorded: Mapping[str, Any],
    others: Others = (),
    notes: Sequence[str] = (),
) -> Written:
    """Writes SUITE.json, SUITE.md and SUITE.png; returns the JSON object and the Markdown.

    Args:
        recorded: settings, of which the report lists those that the suite reads.
        notes: what a reader has to know beside the settings, a line each.
    """
    recorded = _read(suite, recorded)
    report = to_json(suite, results, recorded, others)
    if notes:
        report["notes"] = list(notes)
    text = json.dumps(report, indent=2) + "\n"
    (folder / f"{suite}.json").write_text(text, encoding="utf-8")
    markdown = to_markdown(suite, results, recorded, others, notes)
    (folder / f"{suite}.md").write_text(markdown, encoding="utf-8")
    label, note = str(recorded.get("model", "")), WARNING if recorded.get("smoke") else ""
    path = folder / f"{suite}.png"
    plot_suite(path, suite, results, label=label, others=others, note=note)
    return report, markdown


def to_json(
    suite: str, results: Named, recorded: Mapping[str, Any], others: Others = ()
) -> dict[str, Any]:
    """Returns {"suite", "metrics": {name: Metric.to_dict()}, "settings"}.

    With others there is "compare": [{"model", "metrics"}, …], and of a smoke run a "note".
    """
    report = {"suite": suite, "metrics": _dicts(results), "settings": dict(recorded)}
    if others:
        report["compare"] = [{"model": m, "metrics": _dicts(found)} for m, found in others]
    if recorded.get("smoke"):
        report["note"] = WARNING
    return report


def _dicts(results: Named) -> dict[str, Any]:
    return {name: metric.to_dict() for name, metric in results.items()}


def to_markdown(
    suite: str,
    results: Named,
    recorded: Mapping[str, Any],
    others: Others = (),
    notes: Sequence[str] = (),
) -> str:
    """Returns the notes, the settings as a list and the metrics as a table, one per row."""
    lines = [f"# {suite}", ""]
    if recorded.get("smoke"):
        lines += [f"**{WARNING}**", ""]
    lines += [line for note in notes for line in (f"**Note: {note}**", "")]
    lines += [*(f"- {name}: {value}" for name, value in recorded.items()), ""]
    runs = [(str(recorded.get("model", "")), results), *others]
    lines += compared_table(runs) if others else plain_table(results)
    measured_by: dict[str, dict[str, None]] = {}
    for name, metric in (pair for _, found in runs for pair in found.items()):
        how = "; against ".join(filter(None, (metric.recipe, metric.reference)))
        if how:
            measured_by.setdefault(how, {})[name] = None
    if measured_by:
        lines += ["", *(f"- {_listed(list(names))}: {how}" for how, names in measured_by.items())]
    return "\n".join(lines) + "\n"


def _listed(names: list[str]) -> str:
    """Returns names joined by commas; of many, the first and the last."""
    if len(names) <= LISTED:
        return ", ".join(names)
    return f"{names[0]} to {names[-1]} ({len(names)} metrics)"


def plain_table(results: Named) -> list[str]:
    """Returns the lines of a table of one bundle's metrics."""
    lines = ["| metric | value | 95% interval | baseline | n |", "|---|---|---|---|---|"]
    for name, metric in results.items():
        interval = "–" if metric.low is None else f"{metric.low:.4f} to {metric.high:.4f}"
        baseline = _number(metric.baseline)
        lines.append(f"| {name} | {metric.value:.4f} | {interval} | {baseline} | {metric.n} |")
    return lines


def compared_table(runs: Others) -> list[str]:
    """Returns the lines of a table with a column of values and intervals for each bundle.

    Baseline and n are those of the first bundle that has the metric.
    """
    labels = " | ".join(label.replace("|", "\\|") for label, _ in runs)
    lines = [f"| metric | {labels} | baseline | n |", "|---" * (len(runs) + 3) + "|"]
    for name in dict.fromkeys(name for _, found in runs for name in found):
        metrics = [found.get(name) for _, found in runs]
        first = next(metric for metric in metrics if metric is not None)
        cells = " | ".join("–" if m is None else with_interval(m) for m in metrics)
        lines.append(f"| {name} | {cells} | {_number(first.baseline)} | {first.n} |")
    return lines


def with_interval(metric: Metric) -> str:
    """Returns "VALUE (LOW to HIGH)", or the value alone."""
    interval = "" if metric.low is None else f" ({metric.low:.4f} to {metric.high:.4f})"
    return f"{metric.value:.4f}{interval}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
