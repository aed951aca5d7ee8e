"""What a bundle offers, and that nothing else gets through."""

import dataclasses
import json
import math

import pytest

from tests.toy import toy_bundle
from unclip_jax.core.errors import UserError
from unclip_jax.demo import choices
from unclip_jax.demo.choices import Choices, number, optional, pick, seed_of, text


def test_the_bundles_own_come_first(toy):
    offered = Choices.of(toy)
    assert offered.sizes == (32, 16)
    assert offered.priors == ("diffusion", "ar", "text")
    assert offered.steps[0] == 4 and set(offered.steps) == {4, 10, 20, 40, 80}
    assert (offered.guidance, offered.prior_guidance) == (3.0, {"diffusion": 2.0, "ar": 2.0})
    assert offered.dims == (16,)  # all that an embedding of 16 numbers has
    assert offered.prompts == ()


def test_what_a_bundle_lacks_is_not_offered():
    stages = {n: s for n, s in toy_bundle().stages.items() if n != "prior_diffusion"}
    bare = dataclasses.replace(toy_bundle(), stages=stages, cascade=(), pca=None)
    bare = dataclasses.replace(bare, sampling=dataclasses.replace(bare.sampling, size=None))
    offered = Choices.of(bare)
    assert (offered.sizes, offered.priors, offered.dims) == ((16,), ("text",), ())
    with pytest.raises(UserError, match="no stage 'decoder'"):
        Choices.of(dataclasses.replace(bare, stages={"clip": bare.stages["clip"]}))
    with pytest.raises(UserError, match="no vocabulary"):
        Choices.of(dataclasses.replace(bare, tokenizer=None))


def test_the_examples_are_drawn_right_by_eye_and_by_a_second_clip():
    from tests.docs.blocks import ROOT

    verdicts = json.loads((ROOT / "docs" / "prompts_verdicts.json").read_text(encoding="utf-8"))
    right = {v["prompt"] for v in verdicts if v["eye"] and v["rank"] <= 5}
    assert len(choices.PROMPTS) >= 8 and set(choices.PROMPTS) <= right


@pytest.mark.parametrize("value", [3, 0, -1, None, True, "4", 4.5, math.nan, math.inf, [4], {}])
def test_a_choice_is_one_of_a_few(value):
    with pytest.raises(UserError, match=r"^num must be one of 1, 2, 4, 8, not "):
        pick("num", value, (1, 2, 4, 8))


def test_a_choice_keeps_its_type():
    assert type(pick("num", 4.0, (1, 2, 4))) is int and type(pick("eta", 1, (0.0, 1.0))) is float


@pytest.mark.parametrize("value", [-0.1, 20.1, math.nan, math.inf, "1", True, [1]])
def test_numbers_are_bounded(value):
    with pytest.raises(UserError, match=r"^guidance must be a number in 0\.\.20, not "):
        number("guidance", value, 20.0)
    assert number("guidance", None, 20.0) is None
    assert number("guidance", 20, 20.0) == 20.0


@pytest.mark.parametrize("value", [-1, 2**31, 1.5, "a", "1e3", True, "-0", [1], "²"])
def test_seeds_are_whole_numbers(value):
    with pytest.raises(UserError, match=r"^seed must be a whole number in 0\.\.2147483647, not "):
        seed_of(value)


def test_a_seed_that_is_left_out_is_new_each_time():
    assert seed_of("7") == seed_of(7) == seed_of(" 7 ") == 7
    assert len({seed_of(None), seed_of(""), seed_of("")}) == 3


@pytest.mark.parametrize("value", [None, "", "  ", 7, ["a"], "\0", "\u200b\u202e \ufeff", "\u200d"])
def test_a_text_has_words(value):
    with pytest.raises(UserError, match="^the prompt is empty"):
        text("the prompt", value)


def test_what_cannot_be_seen_is_left_out_of_a_text():
    assert text("the prompt", " a\0 \u202ered\u200b heart ") == "a red heart"
    assert text("the prompt", "👩\u200d🚀") == "👩\u200d🚀"
    assert optional("from", "\u200b") is None and optional("from", None) is None
    assert optional("from", "a sun") == "a sun"


def test_a_text_is_called_by_its_name_when_it_is_too_long():
    with pytest.raises(UserError, match="^the prompt has 2,001 characters"):
        text("the prompt", "x" * 2001)
