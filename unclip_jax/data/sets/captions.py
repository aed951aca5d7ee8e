"""English captions for named images: articles, synonyms, tags and style words in templates.

A *name* is emojibase's label of a concept ("red heart"), a *phrase* is the name with its article
("a red heart", "the sun", "fire", "grapes"). Every caption remains true under crops and mild zoom.
Captions are deterministic: one concept has one list.
"""

import re
from collections.abc import Iterable, Sequence
from importlib import resources

STYLE_WORDS = {
    "3d": ("a 3d emoji of", "3d icon", "in 3d"),
    "flat": ("a flat emoji of", "flat icon", "in a flat style"),
    "noto": ("a noto emoji of", "noto icon", "in the noto style"),
    "twemoji": ("a twemoji of", "twemoji icon", "in the twemoji style"),
    "blob": ("a blob emoji of", "blob icon", "in the blob style"),
    "mozilla": ("a mozilla emoji of", "mozilla icon", "in the mozilla style"),
    "emojione": ("an emojione of", "emojione icon", "in the emojione style"),
    "streamline": ("a streamline emoji of", "streamline icon", "in the streamline style"),
}
RECOLORED = "recolored"
"""Category of a drawing in another color; its concept is "blue automobile"."""
PAIR = "pair"
"""Category of an image of two things; its concept is "cat face and dog face"."""
PLAIN_WORDS = ("a picture of", "icon", "on white")

# Names without an article: uncountable nouns, actions, proper names.
_NO_ARTICLE = frozenset(
    """fire rice bread popcorn butter salt cheese sushi spaghetti broccoli garlic bacon dna ice
    curry fog money wood custard oden mate falafel sake confetti badminton
    bowling tennis lacrosse hockey camping cooking soap customs yarn thread
    aries taurus gemini cancer leo virgo libra scorpio sagittarius capricorn aquarius pisces
    ophiuchus zzz love wireless om radioactive information
    """.split()
)
_PHRASES = {
    "sun": "the sun",
    "milky way": "the milky way",
    "Statue of Liberty": "the Statue of Liberty",
    "Tokyo tower": "the Tokyo tower",
    "kaaba": "the Kaaba",
    "multiply": "a multiply sign",
    "plus": "a plus sign",
    "minus": "a minus sign",
    "divide": "a divide sign",
    "locked": "a closed lock",
    "unlocked": "an open lock",
    "hundred points": "a hundred points symbol",
    "mount fuji": "mount fuji",
    "Santa Claus": "Santa Claus",
    "Mrs. Claus": "Mrs. Claus",
    "Mx Claus": "Mx Claus",
}
_SINGULAR_S = frozenset(
    """gas lens canvas atlas chess tennis rhinoceros albatross christmas dress glass cross compass
    bus cactus octopus hippopotamus hibiscus lotus walrus x-rays yo-yos seven Claus news
    """.split()
)
_PLURAL = frozenset("people men women teeth mice geese feet children".split())
_CONSONANT_SOUND = re.compile(r"(?i)^(uni|use|ewe|ufo|euro|u-|one\b|once|ukulele|ute)")
_VOWEL_SOUND = re.compile(r"(?i)^([aeio]|u|hour|honest|x-ray|sos\b|ng\b|mri\b|8\b|11\b|18\b)")
_HEAD_END = re.compile(
    r" (?:with|of|on|in|and|over|behind|at|from|wearing|showing|holding|playing|getting|gesturing|"
    r"facing|lifting|bouncing|taking|to|by|without|falling|fluttering|under|exhaling|for) |[:,(]"
)


def is_plural(name: str) -> bool:
    """Whether the head noun of `name` is plural: "socks" is, "nest with eggs" is not."""
    head = _HEAD_END.split(name)[0].strip().split(" ")
    if head[0] in _PLURAL or head[-1] in _PLURAL:
        return True
    last = head[-1].lower()
    return last.endswith("s") and not last.endswith(("ss", "us", "is")) and last not in _SINGULAR_S


def phrase(name: str) -> str:
    """Returns `name` with the right article: "an owl", "the sun", "fire", "grapes".

    A name that begins with "the " is returned unchanged, one that begins with "~" has no article.
    """
    if name.startswith("~"):
        return name[1:]
    if name in _PHRASES:
        return _PHRASES[name]
    name = readable(name)
    words = name.lower().split(" ")
    if words[0] == "the":
        return name
    head = _HEAD_END.split(name.lower())[0].split(" ")
    if head[-1] in _NO_ARTICLE or head[0] in ("rolling", "thumbs") or is_plural(name):
        return name
    vowel = _VOWEL_SOUND.match(name) and not _CONSONANT_SOUND.match(name)
    return f"{'an' if vowel else 'a'} {name}"


def readable(name: str) -> str:
    """Spells out CLDR's colon notation: "flag: France" -> "the flag of France"."""
    name = name.replace("“", "").replace("”", "").replace("’", "'")
    head, colon, rest = name.partition(": ")
    if not colon:
        return name
    if head == "flag":
        return f"the flag of {rest}"
    if head == "keycap":
        return f"keycap with {rest}"
    if rest in ("bald",):
        return f"bald {head}"
    if rest.endswith("hair"):
        return f"{head} with {rest}"
    if rest == "beard":
        return f"{head} with a beard"
    if rest.startswith("facing"):
        return f"{head}, {rest}"
    return f"{head} of {rest}" if head == "family" else f"{head}, {rest}"


def bare(name: str) -> str:
    """Returns the name without an article, as before a comma: "red heart"."""
    name = readable(name.removeprefix("~"))
    return name.removeprefix("the ")


def synonyms() -> dict[str, tuple[str, ...]]:
    """Returns the packaged everyday names: label -> further names."""
    return {k: tuple(v.split("; ")) for k, v in _table("emoji_synonyms.txt")}


def kinds() -> dict[str, tuple[str, ...]]:
    """Returns the packaged plain nouns of each concept: label -> "cat", "flower", ..."""
    found: dict[str, list[str]] = {}
    for noun, labels in _table("emoji_kinds.txt"):
        for label in labels.split("; "):
            found.setdefault(label, []).append(noun)
    return {label: tuple(nouns) for label, nouns in found.items()}


def recolored_things() -> dict[str, str]:
    """Returns the concepts that are drawn in further colors: label -> noun of the caption."""
    return dict(_table("emoji_recolored.txt"))


def everyday_concepts() -> tuple[str, ...]:
    """Returns the packaged list of everyday things (emojibase labels)."""
    return tuple(_lines("emoji_everyday.txt"))


def pinned_prompts() -> dict[str, str]:
    """Returns the concepts that stay in the training split: label -> its fixed prompt."""
    return dict(_table("emoji_pinned.txt"))


def held_pairs() -> tuple[tuple[str, str], ...]:
    """Returns the packaged pairs of things that are never trained on: ("cat", "dog"), ..."""
    return tuple(_table("emoji_held_pairs.txt"))


def common_concepts() -> tuple[str, ...]:
    """Returns the packaged list of common, visually distinct concepts (emojibase labels)."""
    return tuple(_lines("emoji_common.txt"))


def emoji_names() -> dict[str, str]:
    """Returns the packaged names of emoji: code points "2764-200d-1f525" -> emojibase's label."""
    return dict(_table("emoji_names.txt"))


def emoji_words() -> tuple[str, ...]:
    """Returns the packaged words of the emoji data set's training captions, lower case."""
    return tuple(_lines("emoji_words.txt"))


def make_captions(
    name: str, *, style: str = "", other_names: Sequence[str] = (), tags: Iterable[str] = ()
) -> tuple[str, ...]:
    """Returns the distinct captions of one image, the plainest first.

    Args:
        name: label of the concept.
        style: a key of STYLE_WORDS, or "" for none.
        other_names: synonyms of the name.
        tags: related words, which appear only together with a name.
    """
    emoji_of, icon, manner = STYLE_WORDS.get(style, PLAIN_WORDS)
    first, plain = phrase(name), bare(name)
    captions = [first, f"{emoji_of} {first}", f"{plain}, {icon}", f"{first} {manner}"]
    captions += [f"an emoji of {first}", f"{plain} emoji"]
    for other in other_names:
        captions += [phrase(other), f"{emoji_of} {phrase(other)}", f"{bare(other)}, {icon}"]
    words = [t for t in dict.fromkeys(tags) if t not in plain.split(" ") and t != plain]
    for pair in zip(words[0:6:2], words[1:6:2], strict=False):
        captions.append(f"{plain}, {', '.join(pair)}, {icon}")
    if words:
        captions.append(f"{plain}, {words[-1]}")
    return tuple(dict.fromkeys(captions))


def color_captions(noun: str, color: str, *, style: str = "") -> tuple[str, ...]:
    """Returns the captions of a drawing whose main color is `color`: "a blue car", ..."""
    emoji_of, icon, manner = STYLE_WORDS.get(style, PLAIN_WORDS)
    colored = phrase(f"{color} {noun}")
    plain = f"{color} {noun}"
    captions = [colored, f"{emoji_of} {colored}", f"{plain}, {icon}", f"{colored} {manner}"]
    captions += [f"{phrase(noun)} in {color}", f"{plain} emoji", f"{phrase(noun)} that is {color}"]
    return tuple(captions)


def pair_captions(left: Sequence[str], right: Sequence[str], *, style: str = "") -> tuple[str, ...]:
    """Returns the captions of an image of two things: "a cat and a dog", "a dog and a cat", ...

    Args:
        left: names of the one, the plainest first.
        right: those of the other.
    """
    emoji_of, icon, manner = STYLE_WORDS.get(style, PLAIN_WORDS)
    captions: list[str] = []
    for index in range(min(3, max(len(left), len(right)))):
        names = (left[index % len(left)], right[index % len(right)])
        for one, other in (names, names[::-1]):
            two = f"{phrase(one)} and {phrase(other)}"
            captions += [two, f"{emoji_of} {two}", f"{bare(one)} and {bare(other)}, {icon}"]
            captions += [f"{two} {manner}", f"{phrase(one)} next to {phrase(other)}"]
    return tuple(dict.fromkeys(captions))


def _lines(filename: str) -> list[str]:
    text = resources.files("unclip_jax.data.sets").joinpath(filename).read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if line.strip() and line[0] != "#"]


def _table(filename: str) -> list[tuple[str, str]]:
    pairs = [line.partition(" = ") for line in _lines(filename)]
    return [(key, value) for key, _, value in pairs]
