"""The matrix counts what pytest reports, and does not run again what has passed."""

import dataclasses
import sys

import pytest

from tests.matrix import run as matrix
from tests.tables import write_table

TESTS = """
import pytest

def test_good(): pass
def test_bad(): assert open("answer").read() == "42"
def test_left_out(): pytest.skip("not here")
"""


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A project of one folder of tests, of which one fails until `answer` holds 42."""
    for name in ("requirements.txt", "setup.py", "answer"):
        (tmp_path / name).write_text("")
    (tmp_path / "tests" / "room").mkdir(parents=True)
    (tmp_path / "tests" / "room" / "test_room.py").write_text(TESTS)
    (tmp_path / "work" / "3.11").mkdir(parents=True)
    monkeypatch.setattr(matrix, "ROOT", tmp_path)
    monkeypatch.setattr(matrix, "WORK", tmp_path / "work")
    return tmp_path


def outcomes(tests=("tests/room",), fresh=False):
    return list(matrix.run_all("3.11", sys.executable, tests, 1, fresh))


def test_counts_and_resuming(tree, monkeypatch):
    (first,) = outcomes()
    assert (first.passed, first.failed, first.skipped) == (1, 1, 1)
    assert [name.endswith("::test_bad") for name in first.failures] == [True]
    (tree / "answer").write_text("42")
    (second,) = outcomes()  # what has failed is run again
    assert (second.passed, second.failed, second.skipped) == (2, 0, 1)
    with monkeypatch.context() as patch:
        patch.setattr(matrix, "run", None)  # what has passed is not
        assert outcomes() == [dataclasses.replace(second, failures=[])]
    (tree / "setup.py").write_text("# changed")
    assert [outcome.digest for outcome in outcomes()] != [second.digest]


def test_tests_that_cannot_run_have_failed(tree):
    (tree / "tests" / "room" / "test_room.py").write_text("import no_such_module")
    (outcome,) = outcomes()
    assert (outcome.passed, outcome.failed) == (0, 1)
    (outcome,) = outcomes(["tests/nowhere"])
    assert outcome.failed == 1 and "pytest ended with" in outcome.failures[0]


def test_the_parts_of_the_suite_are_folders_and_files(tree):
    (tree / "tests" / "parity").mkdir()
    for name in ("parity/test_torch.py", "test_alone.py", "tables.py"):
        (tree / "tests" / name).write_text("")
    assert matrix.rooms() == ["tests/room", "tests/test_alone.py"]


def test_a_python_is_found_by_running_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    version = ".".join(map(str, sys.version_info[:2]))
    assert matrix.find_python(version) is None
    shim = tmp_path / f"python{version}"  # as pyenv's of a version that is not selected
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    assert matrix.find_python(version) is None
    folder = tmp_path / "versions" / f"{version}.9" / "bin"
    folder.mkdir(parents=True)
    (folder / "python").symlink_to(sys.executable)
    assert matrix.find_python(version) == folder / "python"


def test_a_table_takes_the_place_of_the_one_before(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n<!-- x: begin -->\nold\n<!-- x: end -->\n\nThe rest.\n")
    write_table(page, "x", [["name", "count"], ["a", 1]], "lr")
    assert page.read_text() == (
        "# Page\n\n<!-- x: begin -->\n| name | count |\n| --- | ---: |\n| a | 1 |\n"
        "<!-- x: end -->\n\nThe rest.\n"
    )
    write_table(page, "y", [["name"], ["b"]])
    assert page.read_text().endswith(
        "<!-- y: begin -->\n| name |\n| --- |\n| b |\n<!-- y: end -->\n"
    )
