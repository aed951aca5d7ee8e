"""The nearest known name to a misspelled one, for error messages."""

import difflib
from collections.abc import Iterable

CUTOFF = 0.6
"""Similarity (difflib's ratio) below which two names are not taken for each other."""


def closest(word: str, known: Iterable[str], cutoff: float = CUTOFF) -> str:
    """Returns the known name that is most similar to `word`, or "" if none is similar enough."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)), "")


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """Returns "did you mean NAME?" for the known name closest to `word`, else `otherwise`."""
    name = closest(word, known)
    return f"did you mean {name}?" if name else otherwise
