"""`unclip eval` by two processes: the report of one, and nothing but its files left."""

import json

import pytest

from tests.hosts import Job


@pytest.mark.hosts
def test_two_processes_give_the_figures_of_one(toy_folder, tmp_path, unclip):
    one, two = tmp_path / "one", tmp_path / "two"
    args = ["eval", "--model", toy_folder, "--data", "shapes:size=16,count=40", "--prompts", 70]
    args += ["--suite", "fidelity", "--size", 16, "--json", "--out"]  # two chunks of samples
    with Job(tmp_path / "log", [*args, two], processes=2) as job:
        code, shared = job.end()
        assert code == 0, job.told()
    code, printed, _ = unclip(*args, one)
    assert code == 0
    found, expected = (json.loads(text)["metrics"] for text in (shared, printed))
    assert list(found) == list(expected) and found["frechet_clip"]["n"] == 70
    for name, metric in expected.items():
        for key in ("value", "low", "high", "baseline"):
            near = metric[key] and pytest.approx(metric[key], rel=1e-3, abs=1e-3)
            assert found[name][key] == near, (name, key)
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two", "log"}


def test_other_suites_run_in_one_process(toy_folder, tmp_path, refused):
    args = ("eval", "--model", toy_folder, "--suite", "pca", "--out", tmp_path / "a")
    assert "suite pca runs in one process" in refused(*args, "--num-processes", 2)
