"""The plots show the reported numbers: read off what is drawn, for the reports of the docs."""

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from PIL import Image

from unclip_jax.evals import conditioning, edits, inversion, plots, samples
from unclip_jax.evals.metrics import Metric
from unclip_jax.evals.outputs import EXTRA_FILES

ROOT = Path(__file__).resolve().parents[2]
REPORTS = {"edits": "edits", "inversion": "inversion", "pca": "pca_sam", "priors": "priors_common"}
HALF = Metric(0.5, 0.25, 0.75, 30, 0.125)
CURVES = {f"model/{name}_{n}": HALF for name in ("objects", "scenes") for n in (1, 2)}
LETTERS = {f"seen/model/{name}_{n}": HALF for name in ("letters", "words") for n in (1, 2)}
NOT_COMMITTED = {
    "reconstruction": {"inversion_psnr": HALF, "vary_cosine": HALF, "vary_top_1": HALF},
    "binding": {"test/model/bound": HALF, "test/model/swapped": HALF},
    "complexity": {**CURVES, "over_baseline/objects_1": HALF},
    "spelling": {**LETTERS, "seen/over_baseline/words_1": HALF},
    "aesthetics": {f"model/{name}_{x}": HALF for name in ("rating", "recall") for x in (1, 2)},
    "prompts": {"things/top_1": HALF, "things/top_5": HALF},
    "fidelity": {
        **dict.fromkeys(("frechet_clip", "kid_clip", "cmmd", "clip_score"), HALF),
        **dict.fromkeys(("precision", "recall", "density", "coverage"), HALF),
        "nearest_training_rms": HALF,
    },
    "guidance": {
        f"{name}/{statistic}_{scale}": HALF
        for statistic in ("frechet_clip", "precision", "recall", "diversity", "clip_score")
        for name in ("unclip", "baseline")
        for scale in ("1", "1.5")
    },
    "combinations": {"top_1": HALF, "over_nearest_1": HALF, "chance_1": Metric(0.1, None, None, 9)},
}
BLANK = np.zeros((4, 16, 16, 3), np.uint8)


def reported(suite):
    """A suite's metrics: of a committed report, or of the first edition of the shipped bundle."""
    if suite in NOT_COMMITTED:
        return NOT_COMMITTED[suite]
    if suite in REPORTS:
        path = ROOT / "docs" / "evals" / f"{REPORTS[suite]}.json"
        found = json.loads(path.read_text())["metrics"]
    else:
        path = ROOT / "docs" / "evals" / "first_edition.json"
        found = json.loads(path.read_text())["metrics"][suite]
    return {
        name: Metric(m["value"], m["low"], m["high"], m["n"], m.get("baseline", m.get("floor")))
        for name, m in found.items()
    }


def drawn_bars(ax):
    """The name, value, interval and baseline of every bar."""
    names = [label.get_text() for label in ax.get_yticklabels()]
    lines = [(np.asarray(line.get_xdata()), np.mean(line.get_ydata()), line.get_color())
             for line in ax.lines]  # fmt: skip
    for row, (name, bar) in enumerate(zip(names, ax.patches, strict=True)):
        own = [(xs, color) for xs, y, color in lines if y == pytest.approx(row)]
        interval = [tuple(xs) for xs, color in own if color != plots.BASELINE]
        baseline = [xs[0] for xs, color in own if color == plots.BASELINE]
        yield name, bar.get_width(), interval, baseline


@pytest.mark.parametrize("suite", sorted(EXTRA_FILES))
def test_every_reported_number_is_in_the_plot(suite):
    results = reported(suite)
    figure = plots.make_figure(suite, results)
    shown = set()
    for ax, (panel, found) in zip(figure.axes, plots.arrange(suite, results), strict=True):
        assert panel.axis in (ax.get_xlabel(), ax.get_ylabel())
        if panel.x_axis:
            assert ax.get_xlabel() == panel.x_axis
            points = {(x, y) for line in ax.lines for x, y in zip(*line.get_data(), strict=True)}
            xs = {name: float(name.rsplit("_", 1)[1]) for name in found}
            assert {(xs[name], metric.value) for name, metric in found.items()} <= points
            levels = {line.get_ydata()[0] for line in ax.lines if line.get_color() == "C3"}
            assert levels == {m.baseline for m in found.values()} - {None}
            ends = {y for band in ax.collections for _, y in band.get_paths()[0].vertices}
            assert {end for m in found.values() for end in (m.low, m.high)} <= ends
            shown |= set(found)
            continue
        for name, value, interval, baseline in drawn_bars(ax):
            metric = results[name]
            assert value == metric.value
            assert interval == ([] if metric.low is None else [(metric.low, metric.high)])
            assert baseline == ([] if metric.baseline is None else [metric.baseline])
            shown.add(name)
    assert shown == set(results)


def test_a_metric_that_no_panel_takes_has_one_of_its_unit():
    results = {"new/psnr": Metric(30.0, None, None, 4), "other": Metric(1.0, None, None, 4)}
    axes = [panel.axis for panel, _ in plots.arrange("a suite", results)]
    assert axes == ["PSNR (dB)", "value"]


def test_curves_of_edits_are_told_apart_from_the_baseline():
    figure = plots.make_figure("edits", reported("edits"))
    colors = [line.get_color() for line in figure.axes[0].lines]
    assert len({to_rgba(color) for color in colors}) == 3 and plots.BASELINE not in colors


def test_a_suites_plot_is_a_png(tmp_path):
    plots.plot_suite(tmp_path / "a.png", "samples", reported("samples"))
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG" and image.width > 800


def labels_of(monkeypatch, module):
    """What a grid's function hands to the drawing of strips: (title, labels)."""
    seen = []
    draw = module.labeled_strips
    monkeypatch.setattr(
        module, "labeled_strips", lambda strips: seen.extend(strips) or draw(strips)
    )
    return seen


def test_the_worst_samples_come_first(monkeypatch):
    seen = []
    monkeypatch.setattr(samples, "SHOWN", 1)
    draw = samples.labeled_grid
    monkeypatch.setattr(samples, "labeled_grid", lambda *a: seen.append(a) or draw(*a))
    images = BLANK + np.arange(4, dtype=np.uint8)[:, None, None, None]
    samples.ranked_grid(images, list("abcd"), np.array([2, 9, 1, 3]))
    ((rows, labels),) = seen
    assert labels == ["b (rank 9)", "c (rank 1)"]
    assert [int(row[0].max()) for row in rows] == [1, 2]


def test_ranks_count_the_concepts_that_score_no_less():
    gallery, names = np.eye(4)[[0, 1, 1, 2]], ("a", "b", "b", "c")
    emb = np.array([[0.9, 0.5, 0.1, 0.0], [0.9, 0.5, 0.1, 0.0], [0.0, 0.2, 0.9, 0.0]])
    ranks = samples.concept_ranks(emb, ("a", "b", "c"), gallery, names)
    assert ranks.tolist() == [1, 2, 1]
    assert samples.concept_ranks(np.ones((1, 4)), ("a",), gallery, names).tolist() == [3]


def test_strips_of_an_inversion_name_the_psnr(monkeypatch):
    strips = labels_of(monkeypatch, inversion)
    images = {"held-out image": BLANK, "10 levels": BLANK + np.uint8(51)}  # a fifth of 255
    inversion.inversion_grid(images, ["a sun"])
    assert strips[0].title == "a sun"
    assert strips[0].labels == ["held-out image", "10 levels, 14.0 dB"]


def test_strips_of_edits_name_both_texts_and_theta(monkeypatch):
    strips = labels_of(monkeypatch, edits)
    monkeypatch.setattr(edits, "SHOWN", 1)
    edits.edits_grid(np.concatenate([BLANK, BLANK])[:6], ["a sun", "a car"], ["a car", "a sun"])
    ((title, labels),) = [(strip.title, strip.labels) for strip in strips]
    assert title == "a sun -> a car"
    assert labels == ["theta 0.0", "theta 0.2", "theta 0.5"]


def test_strips_of_an_upsampler_name_what_is_measured(monkeypatch):
    strips = labels_of(monkeypatch, conditioning)
    columns = {"input": (BLANK, None), "upsampled": (BLANK, np.full(4, 33.25))}
    conditioning.upsampling_grid(columns, ["a sun"])
    assert [strip.labels for strip in strips] == [["input", "upsampled, 33.2 dB"]]
