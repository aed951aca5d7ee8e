"""A report of figures as JSON, as a Markdown table, and as a plot."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from unclip_jax.evals.metrics import Figure


def to_json(suite: str, figures: Mapping[str, Figure], settings: Mapping[str, Any]) -> dict:
    """Returns {"suite", "metrics": {name: {value, low, high, n, floor}}, "settings"}."""
    metrics = {name: figure.to_dict() for name, figure in figures.items()}
    return {"suite": suite, "metrics": metrics, "settings": dict(settings)}


def to_markdown(suite: str, figures: Mapping[str, Figure], settings: Mapping[str, Any]) -> str:
    """Returns a table with one figure a row, and what it was measured with."""
    lines = [f"# {suite}", "", *(f"- {name}: {value}" for name, value in settings.items()), ""]
    lines += ["| figure | value | 95% interval | floor | n |", "|---|---|---|---|---|"]
    for name, figure in figures.items():
        interval = "–" if figure.low is None else f"{figure.low:.4f} to {figure.high:.4f}"
        floor = "–" if figure.floor is None else f"{figure.floor:.4f}"
        lines.append(f"| {name} | {figure.value:.4f} | {interval} | {floor} | {figure.n} |")
    return "\n".join(lines) + "\n"


def unit_of(name: str) -> str:
    """Returns the unit of a figure by its name, empty for a plain number."""
    units = {"psnr": "dB", "seconds": "s", "petaflops": "PFLOP"}
    return next((unit for part, unit in units.items() if part in name), "")


def plot(path: Path, suite: str, figures: Mapping[str, Figure]) -> None:
    """Draws every figure with its interval and floor, one panel for each scale of numbers."""
    import matplotlib.figure  # slow to import, and only needed here

    panels: dict[str, dict[str, Figure]] = {}
    for name, figure in figures.items():
        panels.setdefault(unit_of(name), {})[name] = figure
    height = 0.9 * len(panels) + 0.27 * len(figures)
    canvas = matplotlib.figure.Figure(figsize=(8.0, height), layout="constrained")
    ratios = [len(panel) + 1 for panel in panels.values()]
    axes = canvas.subplots(len(panels), 1, squeeze=False, height_ratios=ratios)[:, 0]
    for ax, (unit, panel) in zip(axes, panels.items(), strict=True):
        for row, figure in enumerate(panel.values()):
            low = figure.value if figure.low is None else figure.low
            high = figure.value if figure.high is None else figure.high
            ax.plot([low, high], [row, row], color="C0", linewidth=3, alpha=0.5)
            ax.plot(figure.value, row, "o", color="C0", markersize=4)
            if figure.floor is not None:
                ax.plot(figure.floor, row, "|", color="C3", markersize=12)
        ax.set_yticks(range(len(panel)), list(panel), fontsize=7)
        ax.invert_yaxis()
        ax.set_xlabel(unit)
        ax.grid(axis="x", alpha=0.3)
    axes[0].set_title(f"{suite}: value, 95% interval (blue), floor (red)", fontsize=9)
    canvas.savefig(path, dpi=120)


def write(
    folder: Path,
    suite: str,
    figures: Mapping[str, Figure],
    settings: Mapping[str, Any],
    draw: Callable[[Path, str, Mapping[str, Figure]], None] = plot,
) -> dict:
    """Writes SUITE.json, SUITE.md and SUITE.png into `folder` and returns the JSON object.

    Args:
        draw: draws the figures; the suite's own, or bars.
    """
    result = to_json(suite, figures, settings)
    text = json.dumps(result, indent=2) + "\n"
    (folder / f"{suite}.json").write_text(text, encoding="utf-8")
    markdown = to_markdown(suite, figures, settings)
    (folder / f"{suite}.md").write_text(markdown, encoding="utf-8")
    draw(folder / f"{suite}.png", suite, figures)
    return result
