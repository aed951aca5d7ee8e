import numpy as np
import pytest

from unclip_jax.core.errors import UserError
from unclip_jax.data.sets import words
from unclip_jax.data.sources import load_source
from unclip_jax.evals.word_reader import read_word

VOWELS = set("aeiou")


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("split", ["train", "test"])
def test_every_word_can_be_read_back(split, size):
    source = load_source(f"words:size={size}", split)
    for index in range(100):
        example = source[index]
        assert read_word(example["image"]) == example["concept"], index


def test_every_letter_is_read_at_every_place_and_shift():
    for letter in words.LETTERS:
        for shift in ((-1, -2), (0, 0), (1, 2)):
            mask = words.stencil(letter * 8, 32, shift)
            image = np.where(mask, 40, 255).astype(np.uint8)[..., None].repeat(3, 2)
            assert read_word(image) == letter * 8


def test_letters_differ():
    drawn = {words.glyph(letter, 16).tobytes() for letter in words.LETTERS}
    assert len(drawn) == 26


def test_the_splits_share_no_word_and_their_words_can_be_spoken():
    seen, unseen = words.words("train"), words.words("test")
    assert [len(known) for known in seen][2:] == [240] * 6
    assert [len(known) for known in unseen] == [3, 26] + [60] * 6
    for length, (train, test) in enumerate(zip(seen, unseen, strict=True), 1):
        assert not set(train) & set(test)
        assert {len(word) for word in (*train, *test)} == {length}
        for word in (*train, *test):
            kinds = [letter in VOWELS for letter in word]
            assert all(a != b for a, b in zip(kinds, kinds[1:], strict=False))


def test_example_i_depends_on_nothing_but_i():
    few, many = load_source("words:count=20"), load_source("words:count=300")
    assert few.info(3) == {k: v for k, v in few[3].items() if k != "image"}
    np.testing.assert_array_equal(few[7]["image"], many[7]["image"])
    assert few.info(0)["captions"] == (f'the word "{few.info(0)["concept"]}"',)
    lengths = {len(many.info(i)["concept"]) for i in range(300)}
    assert lengths == set(range(1, 9))


def test_bad_options_are_named():
    with pytest.raises(UserError, match="multiples of 16 pixels, not 20"):
        load_source("words:size=20")
    with pytest.raises(UserError, match="no split 'dev'"):
        load_source("words", "dev")
    with pytest.raises(IndexError):
        load_source("words:count=5")[5]
