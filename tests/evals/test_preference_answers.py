"""Win rates of answers: against the intervals of the paper's table 1, and counted by hand."""

import json

import numpy as np
import pytest

from tests.evals.preference_files import STUDY, write_answers, write_key
from unclip_jax.core.errors import UserError
from unclip_jax.evals.preference_answers import (
    Answer,
    normal_interval,
    read_answers,
    read_key,
    win_rates,
)


@pytest.mark.parametrize(
    ("wins", "margin"),
    [(471, 3.1), (411, 3.0), (626, 3.0), (489, 3.1), (453, 3.1), (705, 2.8)],
)
def test_intervals_are_those_of_the_papers_table_1(wins, margin):
    """Its rates and margins in percent, of 1000 answers each."""
    scores = np.array([1.0] * wins + [0.0] * (1000 - wins))
    low, high = normal_interval(scores, np.arange(1000))
    assert round(50 * (high - low), 1) == margin
    assert (low + high) / 2 == pytest.approx(wins / 1000)


def test_raters_of_one_question_are_not_independent():
    """Copies of all answers tell nothing new, and leave the interval."""
    scores = np.array([1.0, 0.0, 1.0, 1.0, 0.5])
    once = normal_interval(scores, np.arange(5))
    assert normal_interval(np.tile(scores, 3), np.tile(np.arange(5), 3)) == pytest.approx(once)
    assert normal_interval(np.ones(4), np.arange(4)) == (1.0, 1.0)


def test_answers_are_turned_to_the_model(tmp_path):
    key = read_key(write_key(tmp_path))
    one = write_answers(
        tmp_path / "1.json", {"1": "first", "2": "first", "3": "second", "4": "second"}
    )
    two = write_answers(tmp_path / "2.json", {"1": "not sure", "2": "second"}, rater="r2")
    scores = [answer.score for answer in read_answers([one, two], key)]
    assert scores == [1.0, 0.0, 0.0, 1.0, 0.5, 1.0]


def test_not_sure_is_half_a_win():
    answers = [Answer(str(i), "caption", score) for i, score in enumerate((1.0, 1.0, 0.5, 0.0))]
    results = win_rates(answers, "theirs")
    assert list(results) == ["caption", "caption/not_sure"]
    assert (results["caption"].value, results["caption"].baseline) == (0.625, 0.5)
    assert results["caption/not_sure"].value == 0.25
    assert results["caption"].reference == "theirs"
    deviation = np.std([1.0, 1.0, 0.5, 0.0]) / 2
    assert results["caption"].low == pytest.approx(0.625 - 1.96 * deviation, abs=1e-4)


def test_a_rater_counts_once(tmp_path):
    key = read_key(write_key(tmp_path))
    one = write_answers(tmp_path / "a.json", {"1": "first"})
    with pytest.raises(UserError, match="of one rater"):
        read_answers([one, one], key)


def test_a_key_has_its_form(tmp_path):
    path = write_key(tmp_path, first=("model", "left"))
    with pytest.raises(UserError, match="question '2' is malformed"):
        read_key(path)
    path.write_text(json.dumps({"study": STUDY}))
    with pytest.raises(UserError, match="no key of a page"):
        read_key(path)
