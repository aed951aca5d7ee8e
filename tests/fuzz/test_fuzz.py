"""A few thousand hostile inputs, the same ones each time; `make fuzz` tries many more."""

import os

import pytest
from hypothesis import strategies as st

from tests.fuzz import framework
from tests.fuzz.framework import Target, all_targets, run, shares
from unclip_jax.core.errors import UserError

TARGETS = all_targets()
CASES = shares(TARGETS, int(os.environ.get("UNCLIP_FUZZ_CASES", 3000)))


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_hostile_input_is_read_or_refused_in_one_line(target):
    run(target, CASES[target.name])


def test_names_are_unique():
    names = [target.name for target in TARGETS]
    assert len(set(names)) == len(names)


def test_a_hundred_thousand_cases_are_two_thousand_a_parser_at_least():
    counts = shares(TARGETS, 100_000)
    assert min(counts.values()) >= 2000
    assert sum(counts.values()) >= 100_000 - len(TARGETS)


def crash(case, folder):
    if case > 5:
        raise ValueError("no")


def refuse(case, folder):
    (folder / "left").mkdir()
    if case > 5:
        raise UserError("five is the most")


def loop(case, folder):
    while case > 5:
        pass


def chatter(case, folder):
    error = UserError("x")
    error.args = ("two\nlines",)
    raise error


def swell(case, folder):
    if case > 5:
        assert len(bytearray(300 << 20))


def ask_for_too_much(case, folder):
    if case > 5:
        bytearray(1 << 40)


def found(feed):
    return run(Target("toy", st.integers(0, 10), feed), 11, stop=False)


def test_refusals_and_acceptances_are_counted():
    result = found(refuse)
    assert (result.refused, result.accepted, result.tracebacks) == (5, 6, 0)


@pytest.mark.parametrize("feed", [crash, ask_for_too_much])
def test_another_exception_is_a_failure(feed):
    assert found(feed).tracebacks == 5
    with pytest.raises((ValueError, MemoryError)):
        run(Target("toy", st.integers(0, 10), feed), 11)


def test_more_than_one_line_is_a_failure():
    assert found(chatter).tracebacks == 11


def test_a_loop_is_a_hang(monkeypatch):
    monkeypatch.setattr(framework, "HANG_SECONDS", 0.05)
    result = found(loop)
    assert (result.hangs, result.accepted) == (5, 6)


def test_a_swollen_case_is_a_failure(monkeypatch):
    monkeypatch.setattr(framework, "GROWTH", 200 << 20)
    result = found(swell)
    assert (result.tracebacks, result.peak_mib > 250) == (5, True)
