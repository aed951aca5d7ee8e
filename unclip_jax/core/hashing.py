"""Choices that depend on a name alone, whatever else there is."""

import hashlib


def hash_share(text: str) -> float:
    """Returns a number in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
