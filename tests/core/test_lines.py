"""Files with an entry a line, as --prompts takes them."""

import pytest

from unclip_jax.core import lines
from unclip_jax.core.errors import UserError


def test_blank_lines_and_spaces_are_left_out(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbf a cat \r\n\n\ta dog\n")  # as Windows writes it
    assert lines.read_lines(path) == ["a cat", "a dog"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xff\xfe", "not UTF-8 text"),
        (b" \n\n", "contains no prompt"),
        (b"x" * 11, "is larger than 0 MiB"),
        (None, "No such file"),
    ],
)
def test_another_file_is_one_line(tmp_path, monkeypatch, data, words):
    monkeypatch.setattr(lines, "FILE_LIMIT", 10)
    path = tmp_path / "list.txt"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UserError, match=words) as error:
        lines.read_lines(path, what="--prompts", entry="prompt")
    assert f"--prompts {path}" in str(error.value)


def test_a_name_that_no_file_can_have_is_one_line():
    with pytest.raises(UserError, match="cannot read"):
        lines.read_lines("a\0b")
