"""Tables that the longer test programs write into the documentation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def write_table(page: Path, name: str, rows: Sequence[Sequence[Any]], align: str = "") -> None:
    """Puts a table between the markers of its name, or at the end of a page that has none.

    Args:
        rows: the first is the head.
        align: a character a column, "r" for numbers; empty = all to the left.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    rules = ["---:" if side == "r" else "---" for side in align or "l" * len(rows[0])]
    table = "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in [rows[0], rules, *rows[1:]])
    text = page.read_text(encoding="utf-8") if page.exists() else "# Reliability\n"
    head, _, rest = text.partition(begin)
    tail = rest.partition(end)[2] if rest else "\n"
    page.write_text(f"{head.rstrip()}\n\n{begin}\n{table}\n{end}{tail}", encoding="utf-8")
