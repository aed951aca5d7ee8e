"""Code blocks of Markdown pages, and how each of them is tested.

A comment on the line above a block says how:

    <!-- not run: REASON -->          nobody runs it
    <!-- run by: tests/FILE::TEST -->  that test runs it, or the same commands
    <!-- new file: PATH -->            the file of a step in docs/extending.md

A block without one is run by test_blocks.py, or by test_extending.py on its page. Only bash and
python are code; output, tables and fragments are `text`, `json` and so on.
"""

import dataclasses
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = ("bash", "python")
FENCE = re.compile(r"^(?P<indent> *)(?P<fence>```+)(?P<language>[\w+-]*)(?P<rest>.*)$")
MARK = re.compile(r"^ *<!-- (?P<kind>not run|run by|new file): (?P<text>.+) -->$")


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block: where it is, what it holds and who runs it.

    Attributes:
        page: path in the repository.
        line: number of the line of its opening fence.
        kind: "run", "not run", "run by" or "new file".
        note: the reason, the test's id or the path.
    """

    page: str
    line: int
    language: str
    text: str
    kind: str
    note: str = ""


def pages() -> list[str]:
    """Returns README and the pages that people write, in the order in which they are run."""
    written = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))
    written.remove("docs/emoji_notes.md")  # the upper part of the model card
    others = ["CONTRIBUTING.md", "SECURITY.md", "launch/README.md", "benchmarks/README.md"]
    others.append("unclip_jax/bundles/emoji/README.md")
    return ["README.md", *others, *written]


def blocks(page: str) -> list[Block]:
    """Returns all fenced blocks of a page.

    Raises:
        ValueError: for a fence that is not closed.
    """
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    found, i = [], 0
    while i < len(lines):
        opening = FENCE.match(lines[i])
        if not opening:
            i += 1
            continue
        start, indent = i, len(opening["indent"])
        closing = opening["indent"] + opening["fence"]
        i += 1
        while i < len(lines) and lines[i].rstrip() != closing:
            i += 1
        if i == len(lines):
            raise ValueError(f"{page}:{start + 1}: the block does not end")
        text = "\n".join(line[indent:] for line in lines[start + 1 : i]) + "\n"
        mark = MARK.match(lines[start - 1]) if start else None
        kind, note = (mark["kind"], mark["text"]) if mark else ("run", "")
        found.append(Block(page, start + 1, opening["language"], text, kind, note))
        i += 1
    return found


def code(page: str) -> list[Block]:
    """Returns the blocks of a page that hold code."""
    return [block for block in blocks(page) if block.language in CODE]


def to_run(page: str) -> list[Block]:
    """Returns the blocks of a page that test_blocks.py runs."""
    return [block for block in code(page) if block.kind == "run"]


def commands(text: str) -> list[str]:
    """Returns the commands of a bash block: lines, continued ones joined, without comments."""
    joined = re.sub(r"\\\n\s*", "", text)
    lines = [re.sub(r"\s+#.*$", "", line).strip() for line in joined.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]
