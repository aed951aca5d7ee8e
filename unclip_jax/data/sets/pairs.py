"""Images of two things side by side, "a cat and a dog", made of two drawings of one style.

Each thing is half as large as by itself. Which pairs there are, which thing is on the left and how
far they are shifted depend on their names alone. A share of the pairs is held out in all styles,
and so are those of emoji_held_pairs.txt, on which prompts are tried.
"""

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from unclip_jax.core.errors import UserError
from unclip_jax.core.hashing import hash_share
from unclip_jax.data import images
from unclip_jax.data.sets import captions as captions_lib
from unclip_jax.data.sets.emoji import HELD_OUT, Drawing

CATEGORIES = (
    *("animal", "plant", "food", "drink", "dishware", "transport", "place", "sky", "event"),
    *("award", "sport", "game", "arts", "clothing", "musical", "phone", "computer", "light"),
    *("book", "mail", "writing", "office", "lock", "tool", "household", "other-object", "heart"),
)
"""Beginnings of emojibase's categories whose members are things that can stand side by side."""

SIDE = 0.54  # of a thing's square, in sides of the image; two of them overlap a little
SHIFT = 0.06  # up or down, at most


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two drawings, not yet rendered; its fields are those of a `Drawing`.

    Attributes:
        key: style and code points: "flat/1f431+1f436", that of the left one first.
        concept: the labels in the order of the alphabet: "cat face and dog face".
    """

    left: Drawing
    right: Drawing
    key: str
    concept: str
    style: str
    captions: tuple[str, ...]
    category: str = captions_lib.PAIR

    def render(self, size: int) -> bytes:
        """Renders a square PNG on white, `size` pixels wide."""
        canvas = np.full((size, size, 3), 255, np.uint8)
        side = round(SIDE * size)
        for place, drawing in enumerate((self.left, self.right)):
            lift = (2 * hash_share(f"shift:{place}:{self.key}") - 1) * SHIFT
            top = round((size - side) / 2 + lift * size)
            start = place * (size - side)
            window = canvas[top : top + side, start : start + side]
            pixels = images.to_square(images.decode(drawing.render(side)), side)
            # Both grounds are white, so that the darker of two pixels is never a ground.
            np.minimum(window, pixels, out=window)
        return images.encode_png(canvas)


def with_pairs(
    splits: Mapping[str, Sequence[Drawing]], num: int
) -> dict[str, list[Drawing | Pair]]:
    """Returns the drawings of each split and, for each style, `num` pairs of training drawings.

    Raises:
        UserError: a style has too few things for so many pairs.
    """
    out: dict[str, list[Drawing | Pair]] = {name: list(one) for name, one in splits.items()}
    things: dict[str, list[Drawing]] = {}
    for drawing in splits.get("train", ()):
        things.setdefault(drawing.style, [])
        if is_thing(drawing):
            things[drawing.style].append(drawing)
    for style, drawings in things.items():
        found = sorted(
            itertools.combinations(sorted(drawings, key=lambda d: d.name.label), 2),
            key=lambda two: hash_share(f"pair:{style}:{_concept(*two)}"),
        )
        if num > len(found):
            raise UserError(f"--pairs {num}: style {style} has things for {len(found)} pairs only")
        for two in found[:num]:
            split = "test_combinations" if is_held_out(*two) else "train"
            out.setdefault(split, []).append(make_pair(*two))
    return out


def is_thing(drawing: Drawing) -> bool:
    """Whether a drawing takes part in pairs: everyday things in their own colors do."""
    everyday = drawing.name.label in _everyday()
    return everyday and not drawing.color and drawing.name.category.startswith(CATEGORIES)


def is_held_out(one: Drawing, other: Drawing) -> bool:
    """Whether two things are kept out of training together, in every style."""
    names = itertools.product(names_of(one.name.label), names_of(other.name.label))
    listed = any(frozenset(two) in _held_pairs() for two in names)
    return listed or hash_share(f"two things:{_concept(one, other)}") < HELD_OUT


def make_pair(one: Drawing, other: Drawing) -> Pair:
    """Returns two drawings of one style side by side; their names decide which is on the left."""
    concept, ordered = _concept(one, other), sorted((one, other), key=lambda d: d.name.label)
    left, right = ordered if hash_share(f"side:{one.style}:{concept}") < 0.5 else ordered[::-1]
    names = (names_of(left.name.label), names_of(right.name.label))
    return Pair(
        left=left,
        right=right,
        key=f"{left.key}+{right.name.code}",
        concept=concept,
        style=one.style,
        captions=captions_lib.pair_captions(*names, style=one.style),
    )


def names_of(label: str) -> tuple[str, ...]:
    """Returns what captions of pairs call a thing: "cat"; "flower" and "tulip"; the kind first."""
    short = (name for name in captions_lib.synonyms().get(label, ()) if name.count(" ") <= 2)
    own = label.removesuffix(" face")
    return tuple(dict.fromkeys((*captions_lib.kinds().get(label, ()), *short, own)))


def _concept(one: Drawing, other: Drawing) -> str:
    """Returns the two labels in the order of the alphabet."""
    return " and ".join(sorted((one.name.label, other.name.label)))


@functools.cache
def _everyday() -> frozenset[str]:
    return frozenset(captions_lib.everyday_concepts())


@functools.cache
def _held_pairs() -> frozenset[frozenset[str]]:
    return frozenset(map(frozenset, captions_lib.held_pairs()))
