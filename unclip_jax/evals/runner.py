"""Runs a suite by name and writes its report: JSON, a Markdown table and a plot."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.errors import UserError
from unclip_jax.evals import gallery
from unclip_jax.evals.combinations import combinations
from unclip_jax.evals.conditioning import conditioning
from unclip_jax.evals.edits import edits
from unclip_jax.evals.inversion import inversion
from unclip_jax.evals.metrics import Metric
from unclip_jax.evals.pca import pca
from unclip_jax.evals.plots import plot_suite
from unclip_jax.evals.priors import priors
from unclip_jax.evals.prompts import prompts
from unclip_jax.evals.reconstruction import reconstruction
from unclip_jax.evals.retrieval import retrieval
from unclip_jax.evals.samples import samples
from unclip_jax.evals.settings import Settings

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
}


def run_suite(name: str, model: Bundle, settings: Settings) -> dict[str, Metric]:
    """Runs a suite and returns its metrics by name."""
    if name not in SUITES:
        raise UserError(f"unknown suite {name!r}; there are {', '.join(SUITES)}")
    return SUITES[name](model, settings)


def write_suite(
    name: str, model: Bundle, settings: Settings, recorded: Mapping[str, Any], folder: Path
) -> tuple[dict[str, Any], str]:
    """Runs a suite or the gallery and writes its files.

    Args:
        recorded: the settings as the report states them.

    Returns:
        The report's JSON object and its Markdown.
    """
    if name == "gallery":
        return gallery.write_gallery(folder, model, settings, recorded)
    start = time.perf_counter()
    results = run_suite(name, model, settings)
    recorded = {**recorded, "seconds": round(time.perf_counter() - start, 1)}
    return write_report(folder, name, results, recorded)


def write_report(
    folder: Path, suite: str, results: Mapping[str, Metric], recorded: Mapping[str, Any]
) -> tuple[dict[str, Any], str]:
    """Writes SUITE.json, SUITE.md and SUITE.png; returns the JSON object and the Markdown."""
    report = to_json(suite, results, recorded)
    text = json.dumps(report, indent=2) + "\n"
    (folder / f"{suite}.json").write_text(text, encoding="utf-8")
    markdown = to_markdown(suite, results, recorded)
    (folder / f"{suite}.md").write_text(markdown, encoding="utf-8")
    plot_suite(folder / f"{suite}.png", suite, results)
    return report, markdown


def to_json(
    suite: str, results: Mapping[str, Metric], recorded: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns {"suite", "metrics": {name: Metric.to_dict()}, "settings"}."""
    metrics = {name: metric.to_dict() for name, metric in results.items()}
    return {"suite": suite, "metrics": metrics, "settings": dict(recorded)}


def to_markdown(suite: str, results: Mapping[str, Metric], recorded: Mapping[str, Any]) -> str:
    """Returns the settings as a list and the metrics as a table, one per row."""
    lines = [f"# {suite}", "", *(f"- {name}: {value}" for name, value in recorded.items()), ""]
    lines += ["| metric | value | 95% interval | baseline | n |", "|---|---|---|---|---|"]
    measured_by = {}
    for name, metric in results.items():
        interval = "–" if metric.low is None else f"{metric.low:.4f} to {metric.high:.4f}"
        baseline = "–" if metric.baseline is None else f"{metric.baseline:.4f}"
        lines.append(f"| {name} | {metric.value:.4f} | {interval} | {baseline} | {metric.n} |")
        how = "; against ".join(filter(None, (metric.recipe, metric.reference)))
        if how:
            measured_by.setdefault(how, []).append(name)
    if measured_by:
        lines += ["", *(f"- {', '.join(names)}: {how}" for how, names in measured_by.items())]
    return "\n".join(lines) + "\n"
