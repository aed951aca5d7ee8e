"""The plots of the suites: each metric with its 95% interval and its baseline.

A suite's panels are rows of a table: which metrics they show, and the name and unit of their axis.
A metric that no row takes goes to a panel of its unit, so that every reported number is plotted.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unclip_jax.evals.metrics import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

VALUE, BASELINE = "C0", "C3"  # colors
UNITS = {"psnr": "PSNR (dB)", "seconds": "time (s)", "petaflops": "training (PFLOP)"}
"""Axis of a metric that no panel takes, by a part of its name."""


@dataclasses.dataclass(frozen=True)
class Panel:
    """A panel of a suite's plot.

    Attributes:
        metrics: regular expression of the names that it shows. A curve has the groups `x`, the
            number on the horizontal axis, and `line`, the name of the curve.
        axis: what is measured, with its unit.
        x_axis: of a curve; empty for bars.
        log: whether the horizontal axis of a curve is logarithmic.
    """

    metrics: str
    axis: str
    x_axis: str = ""
    log: bool = False


Named = dict[str, Metric]
Runs = Sequence[tuple[str, Mapping[str, Metric]]]
"""The metrics of one bundle or several, and their names for the legend."""

OBJECTS = "objects of the caption"
LENGTH = "letters of the word"
THETA = "theta, share of the way from the image to the text"
LEVELS = "levels of the inversion, without the noisiest"
RECALL = "share of captions with a hit"
COSINE = "cosine to the target text"
SCALE = "guidance scale of the decoder"
SHARE_LOST = "squared error (share of the variance)"
PANELS: dict[str, tuple[Panel, ...]] = {
    "retrieval": (
        Panel(r"test_concepts/.*recall", f"new concepts: {RECALL}"),
        Panel(r"test_combinations/.*recall", f"new combinations: {RECALL}"),
        Panel(r"recall", RECALL),
    ),
    "priors": (
        Panel(r"^decoded/.*cosine", "cosine of decoded images"),
        Panel(r"over_", "cosine to the true embedding, above the baseline's"),
        Panel(r"cosine", "cosine"),
        Panel(r"frechet", "Fréchet distance of unit embeddings"),
        Panel(r"diversity", "mean distance of two draws (1 - cosine)"),
    ),
    "conditioning": (
        Panel(r"/rise_", "rise of the squared error when the input is swapped"),
        Panel(r"/mse", "squared prediction error"),
        Panel(r"_over_bicubic", "PSNR above bicubic (dB)"),
    ),
    "samples": (
        Panel(r"top_\d", "share of images whose concept is among the top k"),
        Panel(r"_cosine", "cosine to the nearest training image"),
        Panel(r"_rms", "distance to the nearest training image (gray levels RMS)"),
    ),
    "combinations": (
        Panel(r"top_\d|chance", "share of images whose real image is among the top k"),
        Panel(r"over_nearest", "that share, above the nearest training image's"),
    ),
    "prompts": (Panel(r"top_\d", "share of prompts that are among the top k texts"),),
    "pca": (
        Panel(r"components_|effective_rank", "principal components (count)"),
        Panel(r"residual|/error", SHARE_LOST),
        Panel(r"cosine", "cosine of embedding and decoded codes"),
        Panel(r"outside", "share of coordinates outside of the buckets"),
    ),
    "inversion": (
        Panel(r"^(?P<line>psnr)_(?P<x>\d+)$", "PSNR (dB)", LEVELS, True),
        Panel(r"^(?P<line>latent_std)_(?P<x>\d+)$", "std of x_T (noise: 1)", LEVELS, True),
    ),
    "reconstruction": (
        Panel(r"_psnr$", "PSNR (dB)"),
        Panel(r"_lpips$", "LPIPS to the source"),
        Panel(r"_cosine$", "cosine to the source"),
        Panel(r"_top_\d$", "share whose source is among the k nearest held-out images"),
    ),
    "aesthetics": (
        Panel(r"^(?P<line>.*)/rating_(?P<x>[\d.]+)$", "mean predicted rating", SCALE),
        Panel(r"^(?P<line>.*)/realism_(?P<x>[\d.]+)$", "mean photorealism proxy", SCALE),
        Panel(r"^(?P<line>.*)/recall_(?P<x>[\d.]+)$", "recall", SCALE),
        Panel(r"^(?P<line>.*)/precision_(?P<x>[\d.]+)$", "precision", SCALE),
        Panel(r"^(probe|proxy)/", "of what the fit has not seen"),
    ),
    "preference": (
        Panel(r"not_sure$", "share of answers that are not sure"),
        Panel(r"", "share that prefers the model to the baseline"),
    ),
    "edits": (
        Panel(r"^(?P<line>.*)_cosine_(?P<x>[\d.]+)$", COSINE, THETA),
        Panel(r"^(?P<line>.*)_rise_to_(?P<x>[\d.]+)$", "rise of the cosine", THETA),
    ),
    "guidance": (
        Panel(r"^(?P<line>.*)/fid_(?P<x>[\d.]+)$", "FID", SCALE),
        Panel(r"^(?P<line>.*)/frechet_\w+_(?P<x>[\d.]+)$", "Fréchet distance", SCALE),
        Panel(r"^(?P<line>.*)/precision_(?P<x>[\d.]+)$", "precision", SCALE),
        Panel(r"^(?P<line>.*)/recall_(?P<x>[\d.]+)$", "recall", SCALE),
        Panel(r"^(?P<line>.*)/diversity_(?P<x>[\d.]+)$", "1 - cosine within a caption", SCALE),
        Panel(r"^(?P<line>.*)/clip_score_(?P<x>[\d.]+)$", "CLIP score (100 x cosine)", SCALE),
    ),
    "fidelity": (
        Panel(r"frechet|fid", "Fréchet distance to real images"),
        Panel(r"^kid", "kernel distance to real images (MMD^2)"),
        Panel(r"^cmmd", "CMMD to real images"),
        Panel(r"^(precision|recall|density|coverage)$", "share (density: over k)"),
        Panel(r"^inception_score", "Inception score"),
        Panel(r"^clip_score", "CLIP score (100 x cosine)"),
        Panel(r"_rms", "distance to the nearest training image (gray levels RMS)"),
    ),
    "binding": (
        Panel(r"/bound$", "share of captions with both objects in their colors"),
        Panel(r"/swapped$", "share with the colors swapped"),
        Panel(r"/(colors|forms)$", "share with all colors, with all forms"),
        Panel(r"/(count|related)$", "share with so many objects; bound ones where they should be"),
    ),
    "complexity": (
        Panel(r"^(?P<line>over_baseline/.*)_(?P<x>\d)$", "above the baseline", OBJECTS),
        Panel(r"^(?P<line>.*/objects)_(?P<x>\d)$", "share of the objects", OBJECTS),
        Panel(r"^(?P<line>.*/scenes)_(?P<x>\d)$", "share of whole scenes", OBJECTS),
    ),
    "spelling": (
        Panel(r"^(?P<line>.*/over_baseline/.*)_(?P<x>\d)$", "above the baseline", LENGTH),
        Panel(r"^(?P<line>.*/letters)_(?P<x>\d)$", "share of the letters", LENGTH),
        Panel(r"^(?P<line>.*/words)_(?P<x>\d)$", "share of whole words", LENGTH),
    ),
}


def plot_suite(path: Path, suite: str, results: Mapping[str, Metric], **options: Any) -> None:
    """Writes the plot of a suite's metrics as a PNG; takes the options of `make_figure`."""
    make_figure(suite, results, **options).savefig(path, dpi=120)


def make_figure(
    suite: str,
    results: Mapping[str, Metric],
    *,
    label: str = "",
    others: Runs = (),
    note: str = "",
) -> "Figure":
    """Returns the plot of a suite's metrics.

    Args:
        label: names the bundle in the legend.
        others: metrics of other bundles, drawn beside them.
        note: a second line of the title.
    """
    import matplotlib.figure  # slow to import, and only needed here
    import matplotlib.patches

    runs = [(label, results), *others]
    panels = arrange(suite, {name: found[name] for _, found in runs for name in found})
    bars = 0.6 + 0.4 * len(runs)
    rows = [9 if panel.x_axis else 1 + bars * len(found) for panel, found in panels]
    height = 0.5 + 0.6 * len(panels) + 0.27 * sum(rows)
    figure = matplotlib.figure.Figure(figsize=(8.0, height), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=rows)[:, 0]
    for ax, (panel, found) in zip(axes, panels, strict=True):
        own = [(label, {n: run[n] for n in found if n in run}) for label, run in runs]
        (draw_curves if panel.x_axis else draw_bars)(ax, panel, own)
    if others and not all(panel.x_axis for panel, _ in panels):  # curves have their own
        handles = [
            matplotlib.patches.Patch(color=color_of(number), alpha=0.5, label=name)
            for number, (name, _) in enumerate(runs)
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=7)
    title = f"{suite}: 95% intervals; baselines in red"
    axes[0].set_title("\n".join(filter(None, (title, note))), fontsize=9)
    return figure


def arrange(suite: str, results: Mapping[str, Metric]) -> list[tuple[Panel, Named]]:
    """Returns the panels of a suite with their metrics; each metric is in one of them."""
    left, panels = dict(results), []
    for panel in PANELS.get(suite, ()):
        found = {name: metric for name, metric in left.items() if re.search(panel.metrics, name)}
        if found:
            panels.append((panel, found))
            left = {name: metric for name, metric in left.items() if name not in found}
    units: dict[str, Named] = {}
    for name, metric in left.items():
        units.setdefault(axis_of(name), {})[name] = metric
    return panels + [(Panel("", axis), found) for axis, found in units.items()]


def axis_of(name: str) -> str:
    """Returns the axis of a metric that no panel takes."""
    return next((axis for part, axis in UNITS.items() if part in name), "value")


def draw_bars(ax: "Axes", panel: Panel, runs: Runs) -> None:
    """Draws a bar per metric and bundle, with its interval, and a mark at its baseline."""
    names = list(dict.fromkeys(name for _, found in runs for name in found))
    thick = 0.6 / len(runs)
    for number, (_, found) in enumerate(runs):
        rows = [
            names.index(name) + thick * (number - (len(runs) - 1) / 2) for name in found
        ]  # the bundles' bars of a metric lie below each other
        values = [metric.value for metric in found.values()]
        ax.barh(rows, values, thick, color=color_of(number), alpha=0.5)
        for row, metric in zip(rows, found.values(), strict=True):
            if metric.low is not None:
                ax.plot([metric.low, metric.high], [row, row], color="0.2", linewidth=1.5)
            if metric.baseline is not None:
                ends = [row - thick / 1.5, row + thick / 1.5]
                ax.plot([metric.baseline] * 2, ends, color=BASELINE, linewidth=2)
    ax.set_yticks(range(len(names)), names, fontsize=7)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlabel(panel.axis, fontsize=8)
    ax.tick_params(axis="x", labelsize=7)
    ax.grid(axis="x", alpha=0.3)


def color_of(number: int) -> str:
    """Returns the color of a curve or of a bundle; C3 is the baseline's."""
    return f"C{number if number < 3 else number + 1}"


def curves_of(panel: Panel, runs: Runs) -> dict[tuple[str, int], dict[float, Metric]]:
    """Returns the points of every curve by its label and the number of its bundle."""
    curves: dict[tuple[str, int], dict[float, Metric]] = {}
    for number, (label, found) in enumerate(runs):
        for name, metric in found.items():
            match = re.search(panel.metrics, name)
            title = f"{match['line']}, {label}" if len(runs) > 1 else match["line"]
            curves.setdefault((title, number), {})[float(match["x"])] = metric
    return curves


def draw_curves(ax: "Axes", panel: Panel, runs: Runs) -> None:
    """Draws a curve per name of a line with its interval as a band, and baselines as lines.

    Bundles are told apart by the style of their lines.
    """
    curves = curves_of(panel, runs)
    for place, ((title, number), points) in enumerate(curves.items()):
        color, style = color_of(place), ("-", "--", ":", "-.")[number % 4]
        xs, metrics = list(points), list(points.values())
        values = [metric.value for metric in metrics]
        ax.plot(xs, values, f"o{style}", color=color, markersize=4, label=title)
        if all(metric.low is not None for metric in metrics):
            ends = [m.low for m in metrics], [m.high for m in metrics]
            ax.fill_between(xs, *ends, color=color, alpha=0.15)
    for baseline in {m.baseline for _, found in runs for m in found.values()} - {None}:
        ax.axhline(baseline, color=BASELINE, linewidth=1)
    if panel.log:
        ax.set_xscale("log")
        xs = sorted({x for points in curves.values() for x in points})
        ax.set_xticks(xs, [f"{x:g}" for x in xs])
        ax.minorticks_off()
    ax.set_xlabel(panel.x_axis, fontsize=8)
    ax.set_ylabel(panel.axis, fontsize=8)
    ax.tick_params(labelsize=7)
    ax.grid(alpha=0.3)
    if len(curves) > 1:
        ax.legend(fontsize=7)
