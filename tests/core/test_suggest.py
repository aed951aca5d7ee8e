"""Suggestions for misspelled names."""

import pytest

from unclip_jax.core.suggest import closest, did_you_mean

KNOWN = ["width", "layers", "heads", "head_channels"]


@pytest.mark.parametrize(
    ("word", "name"), [("widht", "width"), ("head", "heads"), ("xyz", ""), ("", "")]
)
def test_the_closest_name_or_none(word, name):
    assert closest(word, KNOWN) == name


def test_the_cutoff_is_a_similarity_in_0_to_1():
    assert closest("layrs", KNOWN, cutoff=0.9) == "layers"  # 2 * 5 / 11 letters in common
    assert closest("layrs", KNOWN, cutoff=0.92) == ""


def test_the_suggestion_is_a_question_and_has_a_fallback():
    assert did_you_mean("haeds", iter(KNOWN)) == "did you mean heads?"
    assert did_you_mean("xyz", KNOWN) == ""
    assert did_you_mean("xyz", KNOWN, otherwise="see --help") == "see --help"
