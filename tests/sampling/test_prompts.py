"""Prompts as they are read: emoji by name, marks at the end, words that no caption has."""

import dataclasses
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw

import unclip_jax
from tests.toy import toy_bundle
from unclip_jax.core.errors import UserError
from unclip_jax.sampling import prompts
from unclip_jax.text.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
EMOJI = {"stages": {"clip": {"data": {"name": "emoji"}}}}


@pytest.fixture(scope="module")
def model():
    """Returns the toy bundle as if it had been trained on the emoji set."""
    return dataclasses.replace(toy_bundle(), provenance=EMOJI)


def tokens(model, *prompts):
    return np.asarray(unclip_jax.embed_text(model, list(prompts)).clip_tokens)


def test_an_emoji_is_read_as_its_name(model):
    typed = ["❤️", "a 🍎", "❤❤️❤️", "a red heart.", "A red  heart!", "the 🌞 …"]
    read = ["a red heart", "a red apple", "a red heart", "a red heart", "a red heart"]
    np.testing.assert_array_equal(tokens(model, *typed), tokens(model, *read, "the sun with face"))


def test_plain_prompts_and_other_vocabularies_are_read_as_ever(model):
    plain = ["a red heart", "the sun", "a dog, a cat", "St. Basil's", "no 5"]
    expected = model.tokenizer.encode(plain, context=12).tokens
    np.testing.assert_array_equal(tokens(model, *plain), expected)
    other = toy_bundle()  # its captions may well have ended in a full stop
    kept = ["a red heart.", "the sun!"]
    expected = other.tokenizer.encode(kept, context=12).tokens
    np.testing.assert_array_equal(tokens(other, *kept), expected)


def test_clips_own_vocabulary_gets_the_prompt_as_it_is(model, monkeypatch):
    typed = ["a 🍕.", "the sun!"]
    assert prompts.read_prompts(model, typed) == ["a pizza", "the sun"]
    monkeypatch.setattr(prompts, "CLIP_VOCAB_SIZE", model.tokenizer.vocab_size)
    assert prompts.read_prompts(model, typed) == typed


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("🍕 and a 🚀", "a pizza and a rocket"),
        ("👩🏽‍🚀", "a woman astronaut"),
        ("🇫🇷", "the flag of France"),
        ("3️⃣", "a keycap with 3"),
        ("🐶🍕", "a dog face, a pizza"),
        ("the 🐶, happy", "the dog face, happy"),
        ("☕️ please", "a hot beverage please"),
        ("un café", "un café"),
    ],
)
def test_names_stand_where_emoji_stood(typed, read):
    from unclip_jax.sampling.prompts import spell_emoji

    assert spell_emoji(typed) == read


def test_an_emoji_that_the_vocabulary_has_stays(model):
    from unclip_jax.sampling.prompts import read_prompts
    from unclip_jax.text.tokenizer import train_tokenizer

    own = dataclasses.replace(model, tokenizer=train_tokenizer(["a 🍕"] * 9, 540, 12))
    assert read_prompts(own, ["a 🍕"]) == ["a 🍕"]
    assert read_prompts(model, ["a 🍕"]) == ["a pizza"]


def test_words_that_no_caption_has_are_known():
    from unclip_jax.sampling.prompts import far_line, unknown_words

    tokenizer = Tokenizer.load(ROOT / "unclip_jax/bundles/emoji/tokenizer.json")
    shipped = dataclasses.replace(toy_bundle(), provenance=EMOJI, tokenizer=tokenizer)

    def found(prompt):
        return unknown_words(shipped, prompt)

    assert found("a red haert") == ["haert"]
    assert far_line("a red haert", ["haert"]).endswith("saw 'haert' (did you mean 'heart'?)")
    assert found("ein rotes Herz") == ["ein", "rotes", "herz"]
    for known in ("a photo of a cat riding a bicycle", "two cats", "🍕", "An Astronaut."):
        assert found(known) == []
    assert unknown_words(toy_bundle(), "ein rotes Herz") == []  # nothing is known of its captions


def test_a_prompt_of_a_megabyte_is_refused_in_a_line(model):
    for make in (unclip_jax.sample, unclip_jax.embed_text):
        with pytest.raises(UserError) as refused:
            make(model, ["x" * 1_000_000])
        assert "1,000,000 characters" in str(refused.value) and len(str(refused.value)) < 400


def test_photos_are_told_from_drawings():
    from unclip_jax.sampling.unlike import is_unlike_training

    model = dataclasses.replace(toy_bundle(), provenance=EMOJI)
    photo = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    with Image.open(photo) as image:
        photo = np.asarray(image.convert("RGB"))
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for strange in (photo, photo[100:400, 100:400], noise, noise // 8 + np.uint8(200)):
        assert is_unlike_training(model, strange)
    assert not is_unlike_training(toy_bundle(), photo)  # nothing is known of its images
    drawing = Image.new("RGB", (100, 80), "white")
    ImageDraw.Draw(drawing).ellipse((20, 10, 80, 70), "red", "black")
    assert not is_unlike_training(model, np.asarray(drawing))
    with Image.open(ROOT / "docs" / "emoji_prompts.png") as sheet:  # samples of the shipped model
        assert sheet.size == (1360, 576)
        tiles = [np.asarray(sheet.convert("RGB"))]
    assert not is_unlike_training(model, tiles[0])


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a\0b", r"the prompt has a control character, '\\x00'; remove it"),
        ("\u200b\u202e", "the prompt has nothing that can be seen"),
        ("\u200d\ufe0f", "nothing that can be seen"),
        ("x" * 2001, "the prompt has 2,001 characters"),
    ],
)
def test_prompts_that_cannot_be_seen_are_refused(model, prompt, words):
    with pytest.raises(UserError, match=words):
        unclip_jax.embed_text(model, [prompt])


def test_a_prompt_among_several_is_called_by_its_number():
    prompts.check_prompts(["", "a\tred\nheart", "👩\u200d🚀", "❤\ufe0f"])
    with pytest.raises(UserError, match="^prompt 2 has a control character"):
        prompts.check_prompts(["a", "\x1b[2J"])


def test_a_word_of_one_sign_may_be_unknown(model):
    assert prompts.unknown_words(model, "猫") == ["猫"]
    assert prompts.unknown_words(model, "a red heart x") == []


def test_a_long_word_is_shortened_in_the_warning(model):
    word = "z" * 1000
    line = prompts.far_line(word, prompts.unknown_words(model, word))
    assert "zzz ... zzz" in line and len(line) < 300
