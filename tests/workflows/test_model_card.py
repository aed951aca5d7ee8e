"""The model card says what the runs recorded, and says where they recorded nothing."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image

from tests.toy import random_params, toy_bundle
from unclip_jax.checkpoint.runs import RunResult
from unclip_jax.workflows import model_card

# Two log intervals of 50 steps at 100 and 25 images a second, in batches of 10: 5 s and 20 s.
TIMINGS = [{"step": 50, "images_per_second": 100.0}, {"step": 100, "images_per_second": 25.0}]
METRICS = [
    {"step": 50, "loss": 0.5},
    {"step": 50, "held_out/loss": 0.75},
    {"step": 100, "loss": 0.25},
    {"step": 100, "held_out/loss": 0.625},
]
METRIC = {"value": 0.8125, "low": 0.75, "high": 0.875, "n": 64}


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def toy():
    return toy_bundle()


@pytest.fixture
def run(toy, tmp_path):
    """A run of the toy upsampler with a record."""
    folder = tmp_path / "run"
    folder.mkdir()
    write_lines(folder / "timings.jsonl", TIMINGS)
    write_lines(folder / "metrics.jsonl", METRICS)
    spec = toy.stage("upsampler_256").spec
    return RunResult(
        folder=folder,
        config={
            "data": {"name": "shapes", "split": "train", "concepts": "all", "styles": ["3d"]},
            "train": {"steps": 100, "batch_size": 10},
        },
        spec=spec,
        step=100,
        ema_params=random_params(spec, 0),
        environment=({"device_kind": "cpu", "devices": 1, "cpu_cores": 2},),
        arrays={},
    )


def cells(text, first):
    """Returns the cells of the table row that begins with `first`."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {first} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_time_is_the_sum_over_all_log_intervals(run):
    assert model_card.training_seconds(run) == pytest.approx(25.0)


def test_a_stage_row_is_what_the_run_recorded(toy, run):
    row = cells(model_card.model_card(toy, [run]), "upsampler_256")
    count = sum(np.size(leaf) for leaf in jax.tree.leaves(toy.stage("upsampler_256").params))
    assert row[1:] == [f"{count:,}", "float32", "100 x 10", "0 min", "2 CPU cores", "0.625"]


def test_what_is_not_recorded_is_said_to_be_so(toy, run):
    text = model_card.model_card(toy, [run])
    assert cells(text, "decoder")[3:] == [model_card.UNKNOWN] * 4
    assert model_card.training_seconds(dataclasses.replace(run, folder=run.folder / "none")) is None


@pytest.mark.parametrize("key", ["baseline", "floor"])
def test_a_baseline_is_read_by_its_new_and_its_old_name(toy, run, key):
    metrics = {"retrieval": {"recall_at_1": {**METRIC, key: 0.03125}}}
    text = model_card.model_card(dataclasses.replace(toy, metrics=metrics), [run])
    assert cells(text, "recall_at_1")[3:] == ["0.031", "64"]


def test_metrics_license_notes_and_credits(toy, run, tmp_path, monkeypatch):
    metric = {**METRIC, "baseline": 0.03125}
    measured = dataclasses.replace(toy, metrics={"retrieval": {"recall_at_1": metric}, "total": 3})
    text = model_card.model_card(measured, [run], "It draws shapes.\n")
    assert text.startswith("# toy\n\nIt draws shapes.\n")
    assert cells(text, "recall_at_1") == ["recall_at_1", "0.812", "0.750 to 0.875", "0.031", "64"]
    assert cells(text, "total") == ["total", "3"]
    assert "Apache-2.0" in text and "0" * 40 in text
    assert "Trained on the following works" not in text
    license = {"part": "3d", "credit": "A. Painter", "license": "CC-BY-4.0", "url": "https://a.b"}
    (tmp_path / "LICENSES.json").write_text(json.dumps([license]))
    monkeypatch.setattr(model_card, "locate", lambda name: tmp_path)
    assert "- 3d: A. Painter (CC-BY-4.0). https://a.b" in model_card.model_card(toy, [run, run])


def test_the_folder_holds_the_card_and_its_curves(toy, run, tmp_path):
    model_card.write_card(tmp_path, toy, [run])
    assert f"({model_card.CURVES})" in (tmp_path / model_card.CARD).read_text()
    with Image.open(tmp_path / model_card.CURVES) as picture:
        assert np.asarray(picture.convert("L")).std() > 5  # not blank


def test_without_a_record_there_are_no_curves(toy, run, tmp_path):
    (run.folder / "metrics.jsonl").unlink()
    model_card.write_card(tmp_path, toy, [run])
    assert model_card.CURVES not in (tmp_path / model_card.CARD).read_text()
    assert not (tmp_path / model_card.CURVES).exists()
