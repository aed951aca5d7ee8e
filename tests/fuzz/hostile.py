"""Strategies of hostile input: damaged bytes, hostile JSON, hostile names.

They draw few numbers each, for hypothesis takes about ten microseconds a draw: damage is described
by numbers (operation, place, value) and done by plain Python.
"""

import json
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
BIG = st.integers(0, 2**32 - 1)


def damaged(sample: bytes | SearchStrategy[bytes], most: int = 5) -> SearchStrategy[bytes]:
    """Makes a valid file with 1 to `most` pieces of damage, half of them near its start or end.

    Args:
        sample: the valid file, or a strategy of several.
    """
    source = st.just(sample) if isinstance(sample, bytes) else sample
    damage = st.tuples(st.integers(0, 9), st.integers(0, 3), BIG, BIG)
    return st.builds(_damage, source, st.lists(damage, min_size=1, max_size=most))


def _damage(sample: bytes, steps: list[tuple[int, int, int, int]]) -> bytes:
    data = bytearray(sample)
    for operation, region, where, value in steps:
        size = len(data)
        spot = min(64 << region % 2 * 3, size) if region < 2 else size
        at = size - 1 - where % spot if size and region == 1 else where % max(1, spot)
        length = 1 + value % 64
        match operation:
            case 0 | 1:
                data[at : at + 1] = bytes([(data[at] if size else 0) ^ (1 << value % 8)])
            case 2:
                data[at : at + 1] = bytes([value % 256])
            case 3:
                del data[at:]
            case 4:
                del data[at : at + length]
            case 5:
                data[at:at] = data[at : at + length]
            case 6:
                data[at:at] = value.to_bytes(4, "little") * (1 + length % 4)
            case 7:
                data[at : at + 4] = NUMBERS[value % len(NUMBERS)].to_bytes(4, "little")
            case 8:
                data[at : at + 8] = NUMBERS[value % len(NUMBERS)].to_bytes(8, "little")
            case 9:
                data[at : at + length] = bytes(length)
    return bytes(data)


class Text(str):
    """JSON that stands in the file as it is."""


SCALARS = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    3,
    1000,
    100_000,
    2**31,
    2**63,
    10**30,
    -(2**31) - 1,
    0.0,
    -0.5,
    0.1,
    1.0,
    1e-320,
    1e308,
    float("nan"),
    float("inf"),
    -float("inf"),
    Text("1e999"),
    Text("9" * 5000),
    Text("01"),
    "",
    "x",
    "0",
    "None",
    "\x00",
    "a\nb",
    "\ud800",
    "\u202e\x1b[31m",
    "../../etc/hostname",
    "/etc/hostname",
    "x" * 5000,
    "float32",
)
CONTAINERS = (
    [],
    {},
    [[]],
    [None],
    [0, 0],
    [1, 2, 3],
    ["x"],
    {"": None},
    {"x": {"x": {"x": 1}}},
    [float("nan")] * 3,
    list(range(2000)),
    {str(i): i for i in range(500)},
    Text("[" * 200 + "]" * 200),
    Text("[" * 100_000 + "]" * 100_000),
    Text('{"x":' * 2000 + "1" + "}" * 2000),
)
VALUES = SCALARS + CONTAINERS
KEYS = ("", "x", "\ud800", "a\nb", "../x", "__class__", "x" * 2000)
MARK = "\ue000"


def hostile_json(sample: Any, most: int = 3) -> SearchStrategy[bytes]:
    """Makes JSON files like `sample` with 1 to `most` hostile changes; some with damaged bytes.

    Values of wrong types and depths, huge numbers, NaN, missing, unknown and duplicate keys, lone
    surrogates. A place is found by walking down, so that what lies near the top is hit most.
    """
    change = st.tuples(st.integers(0, 9), st.lists(st.integers(0, 2**16), max_size=6), BIG)
    texts = st.builds(_changed, st.just(sample), st.lists(change, min_size=1, max_size=most))
    return st.one_of(texts, texts, texts, damaged(texts, 2))


def json_bytes(value: Any) -> bytes:
    """Writes JSON with its `Text` as it stands and its marked keys as duplicates."""
    raw: list[str] = []
    text = json.dumps(_marked(value, raw), ensure_ascii=True)
    for number, piece in enumerate(raw):
        text = text.replace(f'"\\ue000{number}\\ue000"', piece)
    return text.replace("\\ue000", "").encode()


def _marked(value: Any, raw: list[str]) -> Any:
    if isinstance(value, Text):
        raw.append(value)
        return f"{MARK}{len(raw) - 1}{MARK}"
    if isinstance(value, dict):
        return {key: _marked(item, raw) for key, item in value.items()}
    if isinstance(value, list):
        return [_marked(item, raw) for item in value]
    return value


def _changed(sample: Any, changes: list[tuple[int, list[int], int]]) -> bytes:
    value = sample
    for operation, walk, number in changes:
        value = _change(value, operation, walk, number)
    return json_bytes(value)


def _change(value: Any, operation: int, walk: list[int], number: int) -> Any:
    """Returns a copy of `value` that differs in one place; what is not on the way is shared."""
    if walk and isinstance(value, dict | list) and value:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = keys[walk[0] % len(keys)]
        copy = value.copy()
        copy[key] = _change(value[key], operation, walk[1:], number)
        return copy
    hostile = VALUES[number % len(VALUES)]
    if operation < 6 or not isinstance(value, dict | list) or not value:
        return hostile
    copy, at = value.copy(), number % len(value)
    key = list(value)[at] if isinstance(value, dict) else at
    if operation == 6:
        del copy[key]
    elif isinstance(value, list):
        copy[at:at] = [hostile] if operation == 7 else copy
    elif operation == 7:
        copy[KEYS[number % len(KEYS)]] = hostile
    elif operation == 8:
        copy[f"{key}{MARK}"] = hostile  # the same key once more
    else:
        copy[f"{KEYS[number % len(KEYS)]}"] = copy.pop(key)
    return copy


def hostile_names() -> SearchStrategy[str]:
    """Makes names of files or keys that a program must not trust."""
    picked = st.sampled_from(
        [
            *("", ".", "..", "/", "a/b", "../x", "../../etc/hostname", "/etc/hostname", "~/x"),
            *("\x00", "a\x00b", "a\nb", " ", "\ud800", "\udcff.png", "\u202egnp.exe", "x" * 300),
            *("-rf", "con", "%s%n", "${HOME}", "*", "\x1b[2J", "a" * 5000, "é" * 200, "🚀.json"),
        ]
    )
    return st.one_of(picked, st.text(max_size=20))
