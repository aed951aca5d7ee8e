"""The tour as a page of the site: its texts, its code and the outputs that it is kept with."""

import base64
import json
from pathlib import Path
from typing import Any


def notebook_page(path: Path) -> tuple[str, dict[str, bytes]]:
    """Returns a notebook as Markdown, and the images of its outputs by file name."""
    parts: list[str] = []
    images: dict[str, bytes] = {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for data in (output["data"] for output in cell["outputs"]):
            parts.append(_output(data, f"{path.stem}_{len(images) + 1}.png", images))
    return "\n\n".join(parts) + "\n", images


def _output(data: dict[str, Any], name: str, images: dict[str, bytes]) -> str:
    if "image/png" not in data:
        return "```text\n" + "".join(data["text/plain"]) + "\n```"
    images[name] = base64.b64decode("".join(data["image/png"]))
    return f"![what the cell shows]({name})"
