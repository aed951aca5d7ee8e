"""Options by their old names: read, hidden from the help, with one line that names the new one."""

import json

import pytest
from PIL import Image


@pytest.mark.parametrize(
    ("command", "new", "old"),
    [
        (("eval",), "--eval-clip", "--judge"),
        (("export",), "--license", "--licence"),
        (("import",), "--license", "--licence"),
        (("data", "ingest"), "--license", "--licence"),
    ],
)
def test_the_help_shows_the_new_name_alone(unclip, command, new, old):
    code, out, _ = unclip(*command, "--help")
    assert code == 0 and f"{new} TEXT" in out and old not in out


@pytest.mark.parametrize(
    ("flags", "recorded"),
    [
        (("--licence", "CC0-1.0"), "CC0-1.0"),
        (("--license", "MIT"), "MIT"),
        ((), "unknown"),
    ],
)
def test_an_old_name_counts(unclip, tmp_path, flags, recorded):
    images = tmp_path / "images"
    images.mkdir()
    for i in range(3):
        Image.new("RGB", (16, 16), (30 * i, 0, 0)).save(images / f"{i}.png")
        (images / f"{i}.txt").write_text(f"number {i}")
    code, _, err = unclip("data", "ingest", images, "--out", tmp_path / "set", *flags)
    lines = ["unclip: --licence is now called --license"] if "--licence" in flags else []
    assert (code, err.splitlines()) == (0, lines)
    [part] = json.loads((tmp_path / "set" / "LICENSES.json").read_text())
    assert part["license"] == recorded


def test_both_names_at_once_are_refused(unclip, tmp_path):
    flags = ("--licence", "CC0-1.0", "--license", "MIT")
    code, _, err = unclip("data", "ingest", tmp_path, "--out", tmp_path / "set", *flags)
    line = "unclip: error: --licence is the old name of --license; give only one"
    assert (code, err.splitlines()[-1]) == (2, line)


def test_the_old_name_of_the_evaluation_clip_is_read(unclip, refused, tmp_path):
    """The bundle does not exist, so that the error shows that the option was read."""
    args = ("eval", "--data", "shapes", "--out", tmp_path / "r")
    _, _, err = unclip(*args, "--judge", "no_such_clip")
    assert err.splitlines()[0] == "unclip: --judge is now called --eval-clip"
    assert "no_such_clip" in err.splitlines()[-1]
    assert "no_such_clip" in refused(*args, "--eval-clip", "no_such_clip")
