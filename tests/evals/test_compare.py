"""Bundles side by side: JSON, table, plot and the names of their images."""

import dataclasses
import json

import jax
import pytest

from tests.evals.suites import SETTINGS
from tests.evals.test_plots import drawn_bars
from unclip_jax.evals import plots, runner
from unclip_jax.evals.metrics import Metric
from unclip_jax.evals.outputs import output_files

OURS = {"top_1": Metric(0.5, 0.4, 0.6, 10, 0.1, "by rank"), "ours": Metric(1.0, None, None, 3)}
THEIRS = {"top_1": Metric(0.25, 0.2, 0.3, 12, 0.2), "theirs": Metric(7.0, None, None, 4, 2.0)}


def test_metrics_stand_side_by_side(tmp_path):
    report, text = runner.write_report(
        tmp_path, "samples", OURS, {"model": "a"}, [("b", THEIRS), ("b", OURS)]
    )
    assert json.loads((tmp_path / "samples.json").read_text()) == report
    assert set(report["metrics"]) == set(OURS)
    assert [entry["model"] for entry in report["compare"]] == ["b", "b"]
    assert report["compare"][0]["metrics"]["top_1"]["value"] == 0.25
    assert report["compare"][1]["metrics"] == report["metrics"]
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows == [
        "| metric | a | b | b | baseline | n |",
        "|---|---|---|---|---|---|",
        "| top_1 | 0.5000 (0.4000 to 0.6000) | 0.2500 (0.2000 to 0.3000) | "
        "0.5000 (0.4000 to 0.6000) | 0.1000 | 10 |",
        "| ours | 1.0000 | – | 1.0000 | – | 3 |",
        "| theirs | – | 7.0000 | – | 2.0000 | 4 |",
    ]
    assert "- top_1: by rank" in text


def test_every_number_of_every_bundle_is_drawn():
    figure = plots.make_figure("samples", OURS, label="a", others=[("b", THEIRS)])
    (top, rest) = figure.axes
    values = [bar.get_width() for bar in top.patches]
    assert values == [0.5, 0.25]
    rows = [bar.get_y() + bar.get_height() / 2 for bar in top.patches]
    assert rows[0] < rows[1] and sum(rows) == pytest.approx(0)  # around the name's row
    colors = {bar.get_facecolor() for bar in top.patches}
    assert len(colors) == 2
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]
    assert {patch.get_facecolor() for patch in legend.get_patches()} == colors
    assert [bar.get_width() for bar in rest.patches] == [1.0, 7.0]
    alone = plots.make_figure("samples", OURS)
    assert [bar[:2] for bar in drawn_bars(alone.axes[0])] == [("top_1", 0.5)]
    assert alone.legends == []


def test_curves_of_bundles_are_told_apart():
    ours = {f"psnr_{x}": Metric(1.0 * x, x - 1.0, x + 1.0, 4) for x in (10, 20)}
    theirs = {f"psnr_{x}": Metric(2.0 * x, 1.0 * x, 3.0 * x, 4) for x in (10, 20)}
    figure = plots.make_figure("inversion", ours, label="a", others=[("b", theirs)])
    lines = figure.axes[0].lines
    assert [list(line.get_ydata()) for line in lines] == [[10, 20], [20, 40]]
    assert [line.get_label() for line in lines] == ["psnr, a", "psnr, b"]
    assert [line.get_linestyle() for line in lines] == ["-", "--"]


def test_a_compared_bundle_is_measured_with_the_same_settings(model, tmp_path, monkeypatch):
    seen = []

    def suite(measured, settings):
        seen.append((measured, dataclasses.replace(settings, image_folder=None, note=None)))
        settings.say("few")
        (settings.image_folder / "samples_images.png").write_text(str(len(seen)))
        return {"top_1": Metric(float(len(seen)), None, None, 4)}

    monkeypatch.setitem(runner.SUITES, "samples", suite)
    told = []
    settings = dataclasses.replace(SETTINGS, image_folder=tmp_path, note=told.append)
    models = [dataclasses.replace(model, name=name) for name in "abc"]
    others = [("b", models[1]), ("c", models[2])]
    report, text = runner.write_suite(
        "samples", models[0], settings, {"model": "a"}, tmp_path, others
    )
    assert [measured.name for measured, _ in seen] == list("abc")
    assert [chosen for _, chosen in seen] == [SETTINGS] * 3
    assert report["notes"] == told == ["few"]  # once, whoever says it
    assert "**Note: few**" in text
    assert [entry["metrics"]["top_1"]["value"] for entry in report["compare"]] == [2.0, 3.0]
    assert {path.name for path in tmp_path.iterdir()} == set(output_files("samples", 2))
    for name, number in (("", "1"), ("compare1_", "2"), ("compare2_", "3")):
        assert (tmp_path / f"{name}samples_images.png").read_text() == number


def with_other_clip(model):
    """The bundle with a CLIP whose every parameter is larger by 1."""
    clip = model.stages["clip"]
    params = jax.tree.map(lambda leaf: leaf + 1.0, clip.params)
    return dataclasses.replace(
        model, stages={**model.stages, "clip": dataclasses.replace(clip, params=params)}
    )


@pytest.mark.parametrize("given", [False, True])
def test_one_clip_judges_all_columns(model, tmp_path, monkeypatch, given):
    """The first bundle's, unless one is given; a distance to each one's own would be no row."""
    judges = []

    def suite(measured, settings):
        judges.append(settings.eval_clip or measured)
        return {"frechet_clip": Metric(1.0, None, None, 4)}

    monkeypatch.setitem(runner.SUITES, "fidelity", suite)
    other = with_other_clip(model)
    third = with_other_clip(other)
    settings = dataclasses.replace(SETTINGS, eval_clip=third if given else None)
    recorded = {"model": "a", "eval_clip": "third" if given else None}
    args = (settings, recorded, tmp_path, [("b", other)])
    report, text = runner.write_suite("fidelity", model, *args)
    assert [id(judge) for judge in judges] == [id(third if given else model)] * 2
    assert report["settings"]["eval_clip"] == ("third" if given else "a")
    own = [note for note in report.get("notes", []) if "is the model's own" in note]
    assert [note[:3] for note in own] == ([] if given else ["a: "])
    assert ("**Note: a: the evaluation CLIP is the model's own" in text) != given


def test_a_model_alone_is_judged_by_its_own_and_the_report_says_so(model, tmp_path, monkeypatch):
    one = {"frechet_clip": Metric(1.0, None, None, 4)}
    monkeypatch.setitem(runner.SUITES, "fidelity", lambda *args: one)
    report, text = runner.write_suite("fidelity", model, SETTINGS, {"model": "a"}, tmp_path)
    assert report["notes"][0].startswith("the evaluation CLIP is the model's own")
    assert "eval_clip" not in report["settings"] and "**Note: the evaluation" in text
