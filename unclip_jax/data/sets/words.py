"""Procedural images of one word of 1 to 8 letters, drawn in a small bitmap font of our own.

Words are made of consonants and vowels in turn, so that they can be spoken; those of "test" never
occur in "train". Example i is a function of (split, i) alone. A word stands in two lines of up to
four letters each, in cells of one size, so that an image of 32 pixels holds eight legible letters.
"""

import functools

import numpy as np
from jaxtyping import Bool

from unclip_jax.core.errors import UserError
from unclip_jax.data.sets import shapes

LETTERS = "abcdefghijklmnopqrstuvwxyz"
LONGEST = 8
LINE = 4  # letters a line
SPLITS = {"train": 20_000, "test": 1_000}
_WORDS = {"train": 240, "test": 60}  # of each length, where there are so many
_VOWELS = "aeiou"
_GRID = 16  # blocks of the image's side; a letter has 3 x 5, and its cell 4 x 6
SHIFTS = tuple((x, y) for x in (-1, 0, 1) for y in (-2, -1, 0, 1, 2))  # in half blocks
_ROWS = {
    "a": "010 101 111 101 101",
    "b": "110 101 110 101 110",
    "c": "011 100 100 100 011",
    "d": "110 101 101 101 110",
    "e": "111 100 110 100 111",
    "f": "111 100 110 100 100",
    "g": "011 100 101 101 011",
    "h": "101 101 111 101 101",
    "i": "111 010 010 010 111",
    "j": "001 001 001 101 010",
    "k": "101 101 110 101 101",
    "l": "100 100 100 100 111",
    "m": "101 111 111 101 101",
    "n": "111 101 101 101 101",
    "o": "111 101 101 101 111",
    "p": "111 101 111 100 100",
    "q": "010 101 101 111 011",
    "r": "110 101 110 110 101",
    "s": "011 100 010 001 110",
    "t": "111 010 010 010 010",
    "u": "101 101 101 101 111",
    "v": "101 101 101 101 010",
    "w": "101 101 111 111 101",
    "x": "101 101 010 101 101",
    "y": "101 101 010 010 010",
    "z": "111 001 010 100 111",
}


class WordsSource:
    """A word in one color on white."""

    def __init__(self, split: str = "train", *, size: int = 32, count: int | None = None):
        """Sets the split, the image size in pixels, a multiple of 32, and the number of examples.

        A size of 16 draws too, without the smallest shifts.
        """
        if split not in SPLITS:
            raise UserError(f"words has no split {split!r}; it has train, test")
        if size % _GRID:
            raise UserError(f"words are drawn at multiples of {_GRID} pixels, not {size}")
        self.split, self.size, self.count = split, size, count or SPLITS[split]
        self._words = words(split)

    def __len__(self) -> int:
        """Returns the number of examples."""
        return self.count

    def __getitem__(self, index: int) -> dict:
        """Renders example `index`."""
        word, color, shift = self._drawn(index)
        ink = np.asarray(shapes.COLORS[color], np.uint8)
        mask = stencil(word, self.size, shift)[..., None]
        return {"image": np.where(mask, ink, np.uint8(255)), **self.info(index)}

    def info(self, index: int) -> dict:
        """Returns the metadata of example `index`."""
        word, _, _ = self._drawn(index)
        key = f"words/{self.split}/{index}"
        return dict(
            captions=(caption(word),), concept=word, style="words", category=str(len(word)), key=key
        )

    def _drawn(self, index: int) -> tuple[str, str, tuple[int, int]]:
        """Returns word, color and shift; the lengths are equally frequent."""
        if not 0 <= index < self.count:
            raise IndexError(f"{index=} outside of 0..{self.count - 1}")
        key = [shapes.split_id(f"words/{self.split}"), int(index)]
        rng = np.random.Generator(np.random.Philox(key=key))
        known = self._words[int(rng.integers(LONGEST))]
        word, color = known[rng.integers(len(known))], list(shapes.COLORS)[rng.integers(8)]
        return word, color, (int(rng.integers(-1, 2)), int(rng.integers(-2, 3)))


def from_name(name: str, split: str) -> WordsSource:
    """Builds the source of "words" or "words:size=32,count=500"."""
    return WordsSource(split, **shapes.options(name, ("size", "count")))


def caption(word: str) -> str:
    """Returns the caption of a word's image."""
    return f'the word "{word}"'


@functools.cache
def words(split: str) -> tuple[tuple[str, ...], ...]:
    """Lists the words of a split by length, from 1; no word is in both splits.

    Of one letter there are 26, and 210 of two: an eighth of these is held out.
    """
    lists = []
    for length in range(1, LONGEST + 1):
        rng = np.random.default_rng([7, length])
        found = list(LETTERS) if length == 1 else _pairs() if length == 2 else []
        while length > 2 and len(found) < sum(_WORDS.values()):
            word = _spoken(length, rng)
            found += [] if word in found else [word]
        order = [found[i] for i in rng.permutation(len(found))]
        held_out = min(_WORDS["test"], len(order) // 8) if length < 3 else _WORDS["test"]
        lists.append(tuple(order[:held_out] if split == "test" else order[held_out:]))
    return tuple(lists)


def _pairs() -> list[str]:
    consonants = [letter for letter in LETTERS if letter not in _VOWELS]
    return [pair for c in consonants for v in _VOWELS for pair in (c + v, v + c)]


def _spoken(length: int, rng: np.random.Generator) -> str:
    """Draws a word of consonants and vowels in turn."""
    kinds = ([c for c in LETTERS if c not in _VOWELS], list(_VOWELS))
    start = int(rng.integers(2))
    return "".join(str(rng.choice(kinds[(start + i) % 2])) for i in range(length))


def stencil(word: str, size: int, shift: tuple[int, int] = (0, 0)) -> Bool[np.ndarray, "s s"]:
    """Returns where a word has ink.

    Args:
        size: of the image in pixels, a multiple of 16.
        shift: of the word along x and y, in half blocks of size / 32 pixels.
    """
    mask = np.zeros((size, size), bool)
    for number, letter in enumerate(word):
        top, left = corner(number, size, shift)
        drawn = glyph(letter, size)
        mask[top : top + drawn.shape[0], left : left + drawn.shape[1]] = drawn
    return mask


def corner(number: int, size: int, shift: tuple[int, int]) -> tuple[int, int]:
    """Returns top and left of a letter in pixels, by its place in the word from 0."""
    line, column = divmod(number, LINE)
    return (
        (5 + 12 * line + shift[1]) * size // 32,
        (1 + 8 * column + shift[0]) * size // 32,
    )


def glyph(letter: str, size: int) -> Bool[np.ndarray, "h w"]:
    """Returns a letter's 3 x 5 blocks, each of size / 16 pixels."""
    rows = [[bit == "1" for bit in row] for row in _ROWS[letter].split()]
    return np.kron(np.asarray(rows), np.ones((size // _GRID,) * 2, bool))
