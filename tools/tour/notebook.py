"""Runs docs/tour.ipynb and keeps its outputs: `python -m tools.tour.notebook`."""

import argparse
from pathlib import Path

import nbclient
import nbformat

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "tour.ipynb"
CELL_SECONDS = 1800
MOST_BYTES = 1_000_000
OUTPUTS = ("image/png", "text/plain")


def executed(path: Path) -> nbformat.NotebookNode:
    """Returns a notebook after running it from top to bottom in a kernel of its own."""
    notebook = nbformat.read(path, as_version=4)
    folder = {"metadata": {"path": str(path.parent)}}
    nbclient.NotebookClient(notebook, timeout=CELL_SECONDS, resources=folder).execute()
    return tidy(notebook)


def tidy(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drops times, progress and doubles of outputs, so that the same outputs are the same bytes."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = {"name": "python"}
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, start=1):
        cell.metadata.clear()
        cell.execution_count = number
        cell.outputs = [output for output in cell.outputs if output.output_type != "stream"]
        for output in cell.outputs:
            output.execution_count = number
            output.metadata.clear()
            kind = next(kind for kind in OUTPUTS if kind in output.data)
            output.data = {kind: output.data[kind]}
    return notebook


def main() -> None:
    """Runs the notebook and writes it back."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=NOTEBOOK, help="where to write it")
    out = parser.parse_args().out
    text = nbformat.writes(executed(NOTEBOOK)) + "\n"
    if len(text.encode()) > MOST_BYTES:
        raise SystemExit(f"{out} would have {len(text):,} bytes; the most is {MOST_BYTES:,}")
    out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
