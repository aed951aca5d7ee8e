"""Runs a suite by name and writes its report: JSON, a Markdown table and a plot."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.errors import UserError
from unclip_jax.evals import gallery
from unclip_jax.evals.conditioning import conditioning
from unclip_jax.evals.edits import edits
from unclip_jax.evals.inversion import inversion, plot_curve
from unclip_jax.evals.metrics import Metric
from unclip_jax.evals.pca import pca
from unclip_jax.evals.priors import priors
from unclip_jax.evals.prompts import prompts
from unclip_jax.evals.retrieval import retrieval
from unclip_jax.evals.samples import samples
from unclip_jax.evals.settings import Settings

Suite = Callable[[Bundle, Settings], dict[str, Metric]]
Plot = Callable[[Path, str, Mapping[str, Metric]], None]

SUITES: dict[str, Suite] = {
    "retrieval": retrieval,
    "priors": priors,
    "conditioning": conditioning,
    "samples": samples,
    "prompts": prompts,
    "pca": pca,
    "inversion": inversion,
    "edits": edits,
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
    PLOTS.get(suite, plot_intervals)(folder / f"{suite}.png", suite, results)
    return report, markdown


def to_json(
    suite: str, results: Mapping[str, Metric], recorded: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns {"suite", "metrics": {name: {value, low, high, n, baseline, floor}}, "settings"}."""
    metrics = {name: metric.to_dict() for name, metric in results.items()}
    return {"suite": suite, "metrics": metrics, "settings": dict(recorded)}


def to_markdown(suite: str, results: Mapping[str, Metric], recorded: Mapping[str, Any]) -> str:
    """Returns the settings as a list and the metrics as a table, one per row."""
    lines = [f"# {suite}", "", *(f"- {name}: {value}" for name, value in recorded.items()), ""]
    lines += ["| metric | value | 95% interval | baseline | n |", "|---|---|---|---|---|"]
    for name, metric in results.items():
        interval = "–" if metric.low is None else f"{metric.low:.4f} to {metric.high:.4f}"
        baseline = "–" if metric.baseline is None else f"{metric.baseline:.4f}"
        lines.append(f"| {name} | {metric.value:.4f} | {interval} | {baseline} | {metric.n} |")
    return "\n".join(lines) + "\n"


def unit_of(name: str) -> str:
    """Returns the unit of a metric by its name, empty for a plain number."""
    units = {"psnr": "dB", "seconds": "s", "petaflops": "PFLOP"}
    return next((unit for part, unit in units.items() if part in name), "")


def plot_intervals(path: Path, suite: str, results: Mapping[str, Metric]) -> None:
    """Plots every metric with its interval and baseline, one panel per unit."""
    import matplotlib.figure  # slow to import, and only needed here

    panels: dict[str, dict[str, Metric]] = {}
    for name, metric in results.items():
        panels.setdefault(unit_of(name), {})[name] = metric
    height = 0.9 * len(panels) + 0.27 * len(results)
    figure = matplotlib.figure.Figure(figsize=(8.0, height), layout="constrained")
    ratios = [len(panel) + 1 for panel in panels.values()]
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=ratios)[:, 0]
    for ax, (unit, panel) in zip(axes, panels.items(), strict=True):
        for row, metric in enumerate(panel.values()):
            low = metric.value if metric.low is None else metric.low
            high = metric.value if metric.high is None else metric.high
            ax.plot([low, high], [row, row], color="C0", linewidth=3, alpha=0.5)
            ax.plot(metric.value, row, "o", color="C0", markersize=4)
            if metric.baseline is not None:
                ax.plot(metric.baseline, row, "|", color="C3", markersize=12)
        ax.set_yticks(range(len(panel)), list(panel), fontsize=7)
        ax.invert_yaxis()
        ax.set_xlabel(unit)
        ax.grid(axis="x", alpha=0.3)
    axes[0].set_title(f"{suite}: value, 95% interval (blue), baseline (red)", fontsize=9)
    figure.savefig(path, dpi=120)


PLOTS: dict[str, Plot] = {"inversion": plot_curve}
"""Suites with a plot of their own; the others have `plot_intervals`."""
