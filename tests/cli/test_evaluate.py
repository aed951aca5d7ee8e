"""`unclip eval`: the report, held-out splits, renamed options, names taken before the work."""

import dataclasses
import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.evals.suites import SETTINGS
from tests.toy import toy_bundle
from unclip_jax.cli.evaluate import evaluate, held_out_splits
from unclip_jax.core.errors import UserError
from unclip_jax.data import sources
from unclip_jax.data.ingest import ingest
from unclip_jax.evals import runner
from unclip_jax.evals.metrics import Metric
from unclip_jax.evals.outputs import output_files


def test_command_writes_the_report(toy_folder, tmp_path):
    args = ["--model", str(toy_folder), "--data", SETTINGS.data, "--limit", "6", "--json"]
    run = CliRunner().invoke(evaluate, [*args, "--out", str(tmp_path / "report")])
    assert run.exit_code == 0, run.output
    result = json.loads(run.stdout)
    assert result["suite"] == "retrieval"
    assert set(result["metrics"]["test/recall_at_1"]) == {
        *("value", "low", "high", "n", "baseline", "floor", "recipe", "reference")
    }
    assert result["settings"]["splits"] == ["test"]
    written = {path.name for path in (tmp_path / "report").iterdir()}
    assert written == {"retrieval.json", "retrieval.md", "retrieval.png"}


def test_an_ingested_set_is_measured_on_its_own_split(toy_folder, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for i in range(8):
        Image.new("RGB", (16, 16), (30 * i, 0, 0)).save(images / f"{i}.png")
        (images / f"{i}.txt").write_text(f"red number {i}")
    ingest(str(images), tmp_path / "set", test_share=0.5)
    args = ["--model", str(toy_folder), "--data", str(tmp_path / "set"), "--json"]
    run = CliRunner().invoke(evaluate, [*args, "--out", str(tmp_path / "report")])
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout)["settings"]["splits"] == ["test"]
    ingest(str(images), tmp_path / "whole", test_share=0.0)
    with pytest.raises(UserError, match="no held-out split"):
        held_out_splits(str(tmp_path / "whole"))
    args[3] = str(tmp_path / "whole")
    run = CliRunner().invoke(evaluate, [*args, "--split", "train", "--out", str(tmp_path / "all")])
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout)["metrics"]["train/recall_at_1"]["n"] == 8


def test_new_combinations_come_last(monkeypatch):
    sizes = {"test_combinations": 1, "test_concepts": 1, "train": 1}
    monkeypatch.setattr(sources, "split_sizes", lambda name: sizes)
    assert held_out_splits("emoji") == ("test_concepts", "test_combinations")


class Held:
    """Stands in for a split whose examples are a concept in a style."""

    def __init__(self, *cells):
        self.cells = cells

    def __len__(self):
        return len(self.cells)

    def __getitem__(self, index):
        return self.info(index)

    def info(self, index):
        return dict(zip(("concept", "style"), self.cells[index], strict=True)) | {"category": ""}


def test_a_split_without_the_chosen_concepts_is_left_out(monkeypatch):
    """No everyday thing of emoji is held out whole: `--concepts everyday` measures the other."""
    held = {"test_concepts": Held(("kiwi", "3d")), "test_combinations": Held(("cat", "flat"))}
    monkeypatch.setattr(sources, "split_sizes", lambda name: dict.fromkeys([*held, "train"], 1))
    monkeypatch.setattr(sources, "load_source", lambda name, split: held[split])
    assert held_out_splits("emoji", "cat") == ("test_combinations",)
    assert held_out_splits("emoji", "all", ["3d"]) == ("test_concepts",)
    assert held_out_splits("emoji", "kiwi, cat") == ("test_concepts", "test_combinations")
    assert held_out_splits("emoji", "dog") == ("test_concepts", "test_combinations")  # and fails


def test_command_leaves_nothing_behind_on_an_error(tmp_path):
    args = ["--model", "no_such_model", "--data", "shapes", "--out", str(tmp_path / "r")]
    run = CliRunner().invoke(evaluate, args)
    assert isinstance(run.exception, UserError)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("suite", "name"),
    [
        ("priors", "priors_images.png"),
        ("pca", "pca_variance.png"),
        ("gallery", "fig5_text_diffs.png"),
    ],
)
def test_a_taken_name_fails_before_the_work(tmp_path, suite, name):
    """So early that the bundle, which does not exist, is not asked for."""
    (tmp_path / name).write_text("mine")
    args = ["--model", "no_such_model", "--data", "shapes", "--out", str(tmp_path)]
    run = CliRunner().invoke(evaluate, [*args, "--suite", suite])
    assert isinstance(run.exception, UserError)
    assert f"{name} exists" in str(run.exception)
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize(
    ("suite", "judge", "is_own"),
    [
        ("prompts", "copy", True),
        ("samples", "copy", True),
        ("combinations", "other", False),
        ("samples", None, False),  # it refuses
        ("edits", None, True),
        ("priors", None, True),
        ("priors", "other", False),
        ("edits", "copy", True),
        ("retrieval", "copy", False),  # measures that CLIP itself
    ],
)
def test_a_clip_that_judges_its_own_model_is_found(suite, judge, is_own):
    judges = {"copy": toy_bundle(0), "other": toy_bundle(1), None: None}
    settings = dataclasses.replace(SETTINGS, eval_clip=judges[judge])
    assert settings.judged_by_itself(suite, toy_bundle(0)) == is_own


def test_it_is_said_in_one_line(unclip, toy_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("unclip_jax.evals.runner.write_suite", lambda *args: ({}, "table"))
    args = ("eval", "--model", toy_folder, "--data", SETTINGS.data, "--suite", "prompts")
    code, _, err = unclip(*args, "--eval-clip", toy_folder, "--out", tmp_path / "a")
    assert code == 0
    assert sum("the evaluation CLIP is the model's own: " in line for line in err.splitlines()) == 1
    code, _, err = unclip(*args, "--eval-clip", toy_folder, "--out", tmp_path / "b", "-q")
    assert (code, err) == (0, "")


def test_a_list_of_prompts_is_recorded_in_the_report(unclip, toy_folder, tmp_path, monkeypatch):
    """The report is written last, after all the sampling: whatever is an option has to fit JSON."""
    drawn = lambda model, captions, settings: np.zeros((len(captions), 16, 16, 3), np.uint8)  # noqa: E731
    monkeypatch.setattr("unclip_jax.evals.prompts.sample_prompts", drawn)
    listed = tmp_path / "list.txt"
    listed.write_text("a cat\na dog\n")
    args = ("eval", "--suite", "prompts", "--model", toy_folder, "--eval-clip", toy_folder)
    args += ("--prompts-file", listed, "--smoke", "--json")
    code, out, err = unclip(*args, "--out", tmp_path / "report")
    assert code == 0, err
    assert json.loads(out)["settings"]["prompts_file"] == str(listed)


def test_bundles_are_compared_in_a_smoke_run(unclip, toy_folder, tmp_path):
    args = ("eval", "--model", toy_folder, "--data", SETTINGS.data, "--out", tmp_path / "report")
    code, out, err = unclip(*args, "--smoke", "--compare", toy_folder, "--json")
    assert code == 0, err
    report = json.loads(out)
    assert report["settings"]["compare"] == [str(toy_folder)]
    assert report["settings"]["smoke"] is True and report["settings"]["limit"] == 8
    assert report["compare"] == [{"model": str(toy_folder), "metrics": report["metrics"]}]
    assert "note: This is a smoke run" in err


def test_a_bundle_is_measured_once(refused, tmp_path):
    args = ("eval", "--model", "emoji", "--out", tmp_path / "report", "--compare")
    assert "a bundle that is measured already" in refused(*args, "emoji")
    assert "a bundle that is measured already" in refused(*args, "a", "--compare", "a")


def test_an_output_has_a_name_and_a_folder(refused, tmp_path):
    """An empty path would be the current folder."""
    for command in (
        ("eval", "--model", "emoji", "--out", ""),
        ("train", "--config", "configs/shapes/clip.py:smoke", "--workdir", ""),
        ("plan", "--config", "configs/shapes/clip.py:smoke", "--compile", "--save", ""),
        ("data", "prepare", "emoji", "--packages", ""),
    ):
        assert "the path is empty" in refused(*command)
    (tmp_path / "file").write_text("")
    told = refused("eval", "--model", "emoji", "--out", tmp_path / "file" / "report")
    assert f"{tmp_path / 'file'} is not a folder" in told


def test_the_gallery_has_nothing_to_compare(refused, tmp_path):
    args = ("eval", "--suite", "gallery", "--compare", "emoji", "--out", tmp_path / "report")
    assert "no metrics to compare" in refused(*args)


@pytest.mark.parametrize(
    ("suite", "option", "value"),
    [
        ("priors", "--prior", "ar"),
        ("retrieval", "--scales", "1,2"),
        ("fidelity", "--baseline", "emoji"),
        ("prompts", "--features", "dinov2:x"),
        ("samples", "--prompts-file", "docs/prompts.json"),
        ("guidance", "--answers", "anna.json"),
    ],
)
def test_an_option_is_refused_where_it_changes_nothing(refused, tmp_path, suite, option, value):
    args = ("eval", "--suite", suite, "--model", "none", option, value)
    said = refused(*args, "--out", tmp_path / "report")
    assert f"suite {suite} does not read {option}, which is of " in said


def test_a_taken_name_of_a_compared_image_fails_before_the_work(refused, tmp_path):
    (tmp_path / "compare1_samples_images.png").write_text("mine")
    args = ("eval", "--suite", "samples", "--model", "none", "--compare", "none")
    assert "compare1_samples_images.png exists" in refused(*args, "--out", tmp_path)


def test_a_missing_compared_bundle_is_refused(refused, toy_folder, tmp_path):
    args = ("eval", "--model", toy_folder, "--data", SETTINGS.data, "--out", tmp_path / "r")
    assert "no_such_bundle" in refused(*args, "--compare", "no_such_bundle")
    assert not (tmp_path / "r").exists()


def test_a_bad_list_of_prompts_is_refused_before_the_models(refused, tmp_path):
    """The bundle does not exist and is not asked for."""
    (tmp_path / "list.json").write_text('{"nouns": [3]}')
    args = ("eval", "--suite", "prompts", "--model", "none", "--data", SETTINGS.data)
    args += ("--prompts-file", tmp_path / "list.json", "--out", tmp_path / "r")
    assert "nouns has an entry that is no prompt" in refused(*args)


@pytest.mark.parametrize("scales", ["", "high", "1,-2", "1,nan", "1,2000", "1,,2", "1,2,"])
def test_scales_of_a_sweep_are_numbers(refused, toy_folder, tmp_path, scales):
    args = ("eval", "--model", toy_folder, "--data", SETTINGS.data, "--suite", "aesthetics")
    told = refused(*args, "--scales", scales, "--out", tmp_path / "report")
    assert "--scales takes guidance scales of 0 to 1000" in told
    assert list(tmp_path.iterdir()) == []


def test_the_paper_is_one_report(unclip, toy_folder, tmp_path, monkeypatch):
    """As the page calls it: the suites write as they do alone, into one folder."""
    one = {"frechet_clip": Metric(1.0, None, None, 9)}
    monkeypatch.setattr(runner, "SUITES", dict.fromkeys(runner.SUITES, lambda *args: one))
    drawn = dict.fromkeys(runner.WITHOUT_METRICS, lambda folder, *args: ({"suite": "drawn"}, ""))
    monkeypatch.setattr(runner, "WITHOUT_METRICS", drawn)
    args = ("eval", "--suite", "paper", "--model", toy_folder, "--data", SETTINGS.data)
    code, out, err = unclip(*args, "--eval-clip", toy_folder, "--out", tmp_path / "report")
    assert code == 0, err
    written = {path.name for path in (tmp_path / "report").iterdir()}
    assert {"paper.json", "paper.md", "priors.json", "priors.png"} <= written
    assert written <= set(output_files("paper"))
    assert "| Figure 3 |" in out


def test_prompts_are_ranked_without_a_data_set(unclip, toy_folder, tmp_path, monkeypatch):
    """The data set does not exist and is not asked for."""
    monkeypatch.setattr("unclip_jax.evals.runner.write_suite", lambda *args: ({}, "table"))
    (tmp_path / "list.txt").write_text("a cat\n")
    args = ("eval", "--suite", "prompts", "--model", toy_folder, "--data", tmp_path / "nowhere")
    args += ("--prompts-file", tmp_path / "list.txt", "--out", tmp_path / "report")
    code, _, err = unclip(*args)
    assert code == 0, err
