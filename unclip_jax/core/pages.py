"""Self-contained HTML pages: one file without fonts or anything else to fetch.

Whatever comes from a user is escaped: the functions take plain text and return HTML.
"""

import base64
import html
import io
from collections.abc import Iterable, Sequence

from PIL import Image

STYLE = """
:root { --ink: #1f2328; --paper: #fff; --soft: #656d76; --rule: #d8dee4; --box: #f6f8fa;
  --c0: #1f6feb; --c1: #d1242f; --c2: #1a7f37; --c3: #bf8700; --c4: #8250df; --c5: #0a8a8a;
  --c6: #8c959f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --paper: #0d1117; --soft: #9198a1;
  --rule: #30363d; --box: #161b22; --c0: #58a6ff; --c1: #ff7b72; --c2: #56d364; --c3: #e3b341;
  --c4: #bc8cff; --c5: #39c5cf; --c6: #8b949e; } }
body { margin: 2rem auto; max-width: 1180px; padding: 0 1rem; color: var(--ink);
  background: var(--paper); font: 15px/1.5 system-ui, sans-serif; }
h1 { margin-bottom: 0.2rem; overflow-wrap: anywhere; } h2 { margin-top: 2rem; font-size: 1.15rem; }
p, figcaption, summary { color: var(--soft); } summary { cursor: pointer; }
.charts, .images { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 440px), 1fr)); }
.images { grid-template-columns: repeat(auto-fill, minmax(240px, 1fr)); }
svg { width: 100%; height: auto; background: var(--box); border-radius: 6px; }
svg text { fill: var(--soft); font-size: 11px; } svg .name { fill: var(--ink); font-weight: 600;
  font-size: 12.5px; } svg .grid { stroke: var(--rule); stroke-width: 1; }
figure { margin: 0; } img { max-width: 100%; border-radius: 6px; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
td, th { padding: 0.2rem 0.9rem 0.2rem 0; text-align: left; border-bottom: 1px solid var(--rule);
  vertical-align: top; } td.number { text-align: right; font-variant-numeric: tabular-nums; }
pre { background: var(--box); padding: 0.8rem; overflow-x: auto; border-radius: 6px; }
"""


def page(title: str, parts: Iterable[str], *, head: str = "") -> str:
    """Returns a whole page; `parts` and `head` are HTML, `title` is text."""
    name = html.escape(title)
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{name}</title><style>{STYLE}</style>{head}</head><body>",
            f"<h1>{name}</h1>",
            *parts,
            "</body></html>\n",
        ]
    )


def heading(text: str) -> str:
    """Returns a section's heading."""
    return f"<h2>{html.escape(text)}</h2>"


def paragraph(text: str) -> str:
    """Returns a paragraph."""
    return f"<p>{html.escape(text)}</p>"


def table(rows: Sequence[Sequence[object]], head: Sequence[str] = ()) -> str:
    """Returns a table; under a head, numbers, also written as text, are aligned to the right."""
    parts = ["<table>"]
    if head:
        parts.append("<tr>" + "".join(f"<th>{html.escape(text)}</th>" for text in head) + "</tr>")
    for row in rows:
        cells = (_cell(value, aligned=bool(head)) for value in row)
        parts.append("<tr>" + "".join(cells) + "</tr>")
    return "\n".join([*parts, "</table>"])


def folded(title: str, text: str) -> str:
    """Returns a preformatted text that is shown when its title is clicked."""
    shown = f"<pre>{html.escape(text)}</pre>"
    return f"<details><summary>{html.escape(title)}</summary>{shown}</details>"


def charts(drawings: Iterable[str]) -> str:
    """Returns SVG elements side by side, as many as fit."""
    return "\n".join(['<div class="charts">', *drawings, "</div>"])


def images(figures: Iterable[str]) -> str:
    """Returns figures side by side, as many as fit."""
    return "\n".join(['<div class="images">', *figures, "</div>"])


def figure(image: Image.Image, caption: str, width: int) -> str:
    """Returns an image, inlined as WebP at most `width` pixels wide, with a caption."""
    if image.width > width:
        height = max(1, round(image.height * width / image.width))
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    image.convert("RGB").save(data, "WEBP", quality=80)
    source = f"data:image/webp;base64,{base64.b64encode(data.getvalue()).decode()}"
    name = html.escape(caption)
    img = f'<img src="{source}" alt="{name}" width="{image.width}" height="{image.height}">'
    return f"<figure>{img}<figcaption>{name}</figcaption></figure>"


def _cell(value: object, aligned: bool) -> str:
    text = str(value)
    is_number = aligned and text.replace(",", "").replace(".", "", 1).lstrip("-").isdigit()
    return f'<td class="number">{text}</td>' if is_number else f"<td>{html.escape(text)}</td>"
