"""The error lines that the page on troubleshooting quotes are those of the code."""

import ast
import re

import pytest

from tests.docs.blocks import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
QUOTED = re.findall(r"^\| `(.+?)` \|", PAGE, re.M)


def literals():
    """Returns the texts in the code, each place where a value is put in as one mark."""
    found = []
    for path in sorted((ROOT / "unclip_jax").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [v.value if isinstance(v, ast.Constant) else "…" for v in node.values]
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


TEXTS = literals()


def test_there_are_rows():
    assert len(QUOTED) > 25


@pytest.mark.parametrize("message", QUOTED)
def test_a_quoted_message_is_one_of_the_code(message):
    fragments = [part.strip(" :,;'") for part in message.split("…")]
    fragments = [part for part in fragments if part]
    assert max(len(part) for part in fragments) > 8
    assert [part for part in fragments if part not in TEXTS] == []
