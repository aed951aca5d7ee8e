"""`unclip eval --suite preference --answers`: the table, and one line for a malformed file."""

import json

import pytest

from tests.evals.preference_files import STUDY, write_answers, write_key


def test_command_gives_the_table(unclip, tmp_path):
    out = tmp_path / "study"
    out.mkdir()
    write_key(out)
    answers = write_answers(out / "a.json", {"1": "first", "2": "first", "3": "not sure"})
    args = ("eval", "--suite", "preference", "--answers", answers, "--out", out)
    code, text, err = unclip(*args)
    assert code == 0, err
    assert "| ours | 50.0% ± 46.2% | – | – |" in text  # 1.96 * sqrt(1 / 6 / 3)
    report = json.loads((out / "preference.json").read_text(encoding="utf-8"))
    assert report["metrics"]["photorealism"]["n"] == 3
    assert report["settings"]["raters"] == 1
    assert (out / "preference.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not readable as JSON"),
        ("[]", "not a JSON object"),
        ('{"answers": {}}', "is no file of answers"),
        (json.dumps({"study": "x", "rater": "r", "answers": {"1": "first"}}), "another page"),
        (json.dumps({"study": STUDY, "rater": "r", "answers": {}}), "no answer yet"),
        (json.dumps({"study": STUDY, "rater": "r", "answers": {"1": "left"}}), "none of first"),
        (json.dumps({"study": STUDY, "rater": "r", "answers": {"9": "first"}}), "does not ask"),
        (json.dumps({"study": STUDY, "rater": "r", "answers": {"1": ["first"]}}), "none of first"),
    ],
)
def test_malformed_answers_are_one_line(refused, tmp_path, text, message):
    write_key(tmp_path)
    (tmp_path / "a.json").write_text(text)
    args = ("eval", "--suite", "preference", "--answers", tmp_path / "a.json")
    assert message in refused(*args, "--out", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"preference_key.json", "a.json"}


def test_the_key_is_looked_for_in_out_and_beside_the_answers(refused, unclip, tmp_path):
    (tmp_path / "answers").mkdir()
    one = write_answers(tmp_path / "answers" / "a.json", {"1": "first"})
    args = ("eval", "--suite", "preference", "--answers", one, "--out", tmp_path / "study")
    assert "no preference_key.json" in refused(*args)
    write_key(tmp_path / "answers")
    code, text, err = unclip(*args)
    assert code == 0, err
    assert "| ours | 100.0% ± 0.0% |" in text
