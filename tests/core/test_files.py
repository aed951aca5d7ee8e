"""JSON from outside is read strictly: what it cannot mean, or nobody means, is one line."""

import json

import pytest

from unclip_jax.core.errors import UserError
from unclip_jax.core.files import read_json, read_mapping


def complaint(tmp_path, data: bytes, read=read_json) -> str:
    path = tmp_path / "x.json"
    path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    return str(caught.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"[" * 100_000 + b"]" * 100_000, "64 levels"),
        (b"[" * 65 + b"]" * 65, "64 levels"),
        (b'{"x":' * 65 + b"1" + b"}" * 65, "64 levels"),
        (b'{"key": 1, "key": 1}', "'key' occurs twice"),
        (b'[{"a": {"key": 1, "key": 2}}]', "'key' occurs twice"),
        (b"[NaN]", "NaN"),
        (b"[-Infinity]", "-Infinity"),
        (b"[1e999]", "1e999"),
        (b"9" * 5000, "5000 digits"),
        (b'["\\ud800"]', "surrogate"),
        (b'{"\\uDC00": 1}', "surrogate"),
        (b"\xff\xfe[1]", "utf-8"),
        (b"", "char 0"),
        (b'{"a": 1', "char 7"),
    ],
    ids=range(14),
)
def test_bad_json_is_one_line_that_names_file_and_reason(tmp_path, data, words):
    assert words in complaint(tmp_path, data)


def test_a_file_too_large_to_be_json_of_ours_is_not_read(tmp_path):
    path = tmp_path / "x.json"
    with open(path, "wb") as file:
        file.truncate(65 << 20)  # takes no room on the disk
    with pytest.raises(UserError, match="64 MiB"):
        read_json(path)


def test_what_is_no_object_is_refused_where_one_is_needed(tmp_path):
    assert "not a JSON object but a list" in complaint(tmp_path, b"[]", read_mapping)


def test_good_json_comes_back(tmp_path):
    path = tmp_path / "x.json"
    value = {"a": [1, 10**30, 2.5, None, True, "é 🚀"], "": {"a": 1}, "deep": [[[[0]]]]}
    for data in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        path.write_text(data, encoding="utf-8")
        assert read_json(path) == value
    path.write_bytes(b"\xef\xbb\xbf[1]")  # editors on Windows put a mark in front
    assert read_json(path) == [1]
