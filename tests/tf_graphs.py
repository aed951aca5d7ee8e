"""Frozen graphs, written byte by byte after protobuf's wire format and TensorFlow's fields."""

import numpy as np


def varint(number: int) -> bytes:
    """Encodes a number in groups of seven bits, the lowest first."""
    found = b""
    while number > 127:
        found, number = found + bytes([number & 127 | 128]), number >> 7
    return found + bytes([number])


def field(number: int, value: int | bytes) -> bytes:
    """Encodes a number, or bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def constant(name: str, shape: tuple[int, ...], body: bytes, dtype: int = 1) -> bytes:
    """Encodes a node of kind Const, with an attribute of its type before the value."""
    dims = b"".join(field(2, field(1, size)) for size in shape)
    tensor = field(1, dtype) + field(2, dims) + body
    attrs = [(b"dtype", field(6, dtype)), (b"value", field(8, tensor))]
    entries = [field(5, field(1, key) + field(2, value)) for key, value in attrs]
    node = field(1, name.encode()) + field(2, b"Const") + b"".join(entries)
    return field(1, node)


def content(values: np.ndarray) -> bytes:
    return field(4, values.astype("<f4").tobytes())
