"""The card of a bundle, from its manifest and its README.md: for a terminal and as an HTML page.

A bundle may come from anybody: control characters are escaped in a terminal, markup on the page.
"""

import dataclasses
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from unclip_jax.checkpoint.manifest import Manifest
from unclip_jax.core import pages
from unclip_jax.core.errors import one_line, shorten
from unclip_jax.core.files import whole_file
from unclip_jax.core.renamed import without_old_keys

README = "README.md"
README_BYTES = 1 << 20
LONGEST_CELL = 60
MOST_METRICS = 4  # of a suite, in a terminal
MOST_PROMPTS = 8
MOST_IMAGES, IMAGE_WIDTH = 4, 1000
ABOUT = re.compile(r"^(?:\*\*What it draws\.\*\*|[A-Za-z]).*?(?=\n\s*\n|\Z)", re.M | re.S)
PARAGRAPH = re.compile(r"^\S.*?(?=\n\s*\n|\Z)", re.M | re.S)
PROMPT = re.compile(r"\bunclip sample((?:\s+\\?\s*\"[^\"\n]{1,200}\")+)")
SAMPLING_KEYS = (
    *("sampler", "steps", "guidance", "guidance_interval", "distilled_guidance"),
    *("temperature", "top_p", "num_candidates"),
)
LEAST_COLUMN, WIDE_COLUMN = 8, 24


@dataclasses.dataclass(frozen=True)
class Table:
    """A section: a title, column heads (none for plain pairs), and rows of text."""

    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class Card:
    """What a card shows.

    Attributes:
        about: paragraphs that say what the model draws.
        metrics: tables of all metrics, one a suite.
        images: files in the bundle's folder.
    """

    name: str
    about: tuple[str, ...]
    prompts: tuple[str, ...]
    tables: tuple[Table, ...]
    metrics: tuple[Table, ...]
    images: tuple[Path, ...]


def make_card(folder: Path, manifest: Manifest) -> Card:
    """Returns the card of a bundle in a folder."""
    text = _readme(folder)
    tables = (
        _stages(manifest),
        _sampling(manifest),
        _provenance(manifest),
        _files(manifest),
    )
    return Card(
        name=one_line(manifest.name),
        about=_about(text),
        prompts=_prompts(text),
        tables=tuple(table for table in tables if table.rows),
        metrics=tuple(_metrics(manifest.metrics)),
        images=tuple(sorted(folder.glob("*.png"), reverse=True)[:MOST_IMAGES]),
    )


def terminal_lines(card: Card, width: int) -> list[str]:
    """Returns the card as lines of at most `width` characters where the tables allow it."""
    lines = [card.name, "=" * min(width, len(card.name))]
    for paragraph in card.about:
        lines += ["", *textwrap.wrap(paragraph, width)]
    if card.prompts:
        lines += ["", "Example prompts", *(f"  {prompt}" for prompt in card.prompts)]
    for table in card.tables:
        lines += ["", *_aligned(table, width)]
    for table in card.metrics:
        hidden = len(table.rows) - MOST_METRICS
        shown = dataclasses.replace(table, rows=table.rows[:MOST_METRICS])
        lines += ["", *_aligned(shown, width)]
        if hidden > 0:
            lines.append(f"  and {hidden} more, with --json or --html FILE")
    return lines


def write_page(card: Card, path: Path) -> None:
    """Writes the card as one self-contained HTML page, with the images of the bundle."""
    parts = [pages.paragraph(text) for text in card.about]
    figures = [_figure(image) for image in card.images]
    parts += [figure for figure in figures if figure]
    if card.prompts:
        parts += [pages.heading("Example prompts"), pages.table([(p,) for p in card.prompts])]
    for table in (*card.tables, *card.metrics):
        parts += [pages.heading(table.title), pages.table(table.rows, table.head)]
    with whole_file(path) as part:
        part.write_text(pages.page(card.name, parts), encoding="utf-8")


def _figure(path: Path) -> str:
    """Returns an image of the bundle; nothing for one that cannot be read."""
    try:
        with Image.open(path) as image:
            return pages.figure(image, path.stem, IMAGE_WIDTH)
    except (OSError, ValueError, Image.DecompressionBombError):
        return ""


def _readme(folder: Path) -> str:
    """Returns the card's Markdown without its tables and code; nothing if there is none."""
    try:
        with (folder / README).open("rb") as file:
            return file.read(README_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def _about(text: str) -> tuple[str, ...]:
    """Returns the first paragraph of a README and the one on what the model draws."""
    found = [match[0] for match in ABOUT.finditer(text.split("\n## ")[0])]
    chosen = found[:1] + [part for part in found[1:] if part.startswith("**What it draws")]
    return tuple(shorten(one_line(part.replace("**", "")), 600).rstrip(":") for part in chosen)


def in_short(folder: Path) -> str:
    """Returns what a bundle's README says that it draws, and the first sentence on what not.

    A README without such a paragraph gives its first one; none at all gives "".
    """
    found = [one_line(m[0]) for m in PARAGRAPH.finditer(_readme(folder).split("\n## ")[0])]
    drawn = [part for part in found if part.startswith("**What it draws.**")]
    lacks = [part for part in found if part.startswith("**What it cannot draw.**")]
    parts = drawn[:1] or [part for part in found if part[:1].isalpha()][:1]
    parts += [re.match(r"\*\*.*?\*\*.*?(?:\.(?= |$)|$)", part)[0] for part in lacks[:1]]
    sentences = [part.replace(".** ", ": ").replace("**", "").rstrip(":.") + "." for part in parts]
    return shorten(" ".join(sentences), 600)


def _prompts(text: str) -> tuple[str, ...]:
    """Returns the prompts of the `unclip sample` commands of a README."""
    quoted = [re.findall(r'"([^"]+)"', match[1]) for match in PROMPT.finditer(text)]
    every = dict.fromkeys(one_line(prompt) for prompts in quoted for prompt in prompts)
    return tuple(every)[:MOST_PROMPTS]


def _stages(manifest: Manifest) -> Table:
    trainings = _mapping(manifest.provenance, "stages")
    rows = []
    for name, stage in manifest.stages.items():
        training = _mapping(trainings, name)
        file = manifest.files.get(f"{name}.safetensors")
        size = "" if file is None else f"{file.bytes / 2**20:.2f}"
        batch = _mapping(training, "train").get("batch_size")
        steps = _number(training.get("steps"))
        trained = f"{steps} x {batch}" if steps and batch else steps
        data = _mapping(training, "data").get("name") or ""
        cells = (name, f"{stage.params:,}", stage.dtype, size, trained, str(data))
        rows.append(tuple(map(_cell, cells)))
    total = sum(stage.params for stage in manifest.stages.values())
    size = sum(entry.bytes for entry in manifest.files.values())
    rows.append(("all", f"{total:,}", "", f"{size / 2**20:.2f}", "", ""))
    head = ("stage", "parameters", "dtype", "MiB", "steps x batch", "data")
    return Table("Stages", head, rows)


def _sampling(manifest: Manifest) -> Table:
    defaults = manifest.sampling
    sizes = [f"{s.input_size} -> {s.output_size} pixels: {' + '.join(n.stage for n in s.nets)}"
             for s in manifest.cascade]  # fmt: skip
    rows = [("prior", defaults.prior), *(("upsampling", size) for size in sizes)]
    if defaults.size is not None:
        rows.append(("size", f"{defaults.size} pixels"))
    rows = [tuple(map(_cell, row)) for row in rows]
    for name, stage in manifest.stages.items():
        found = _mapping(stage.spec, "sampling")
        given = [key for key in SAMPLING_KEYS if found.get(key) is not None]
        if given:
            rows.append((_cell(name), ", ".join(_cell(f"{key} {found[key]}") for key in given)))
    return Table("Sampling defaults", (), rows)


def _provenance(manifest: Manifest) -> Table:
    rows = [("license", manifest.license or "not stated")]
    for key in ("imported_from", "git_commit", "date", "unclip_jax"):
        if manifest.provenance.get(key):
            rows.append((key, str(manifest.provenance[key])))
    return Table("License and origin", (), [tuple(map(_cell, row)) for row in rows])


def _files(manifest: Manifest) -> Table:
    rows = [(_cell(n), f"{entry.bytes / 2**20:.2f}") for n, entry in manifest.files.items()]
    return Table("Files", ("file", "MiB"), rows)


def _metrics(metrics: Mapping[str, Any]) -> list[Table]:
    """Returns a table for each suite's report, and one of the plain numbers."""
    head = ("metric", "value", "95% interval", "baseline", "n")
    tables, plain = [], []
    for name, group in metrics.items():
        if not isinstance(group, Mapping):
            plain.append((_cell(name), _cell(group)))
            continue
        rows = [_metric_row(key, value) for key, value in group.items()]
        tables.append(Table(f"Metrics: {_cell(name)}", head, rows))
    return [*tables, Table("Metrics", ("metric", "value"), plain)] if plain else tables


def _metric_row(name: str, metric: Any) -> tuple[str, ...]:
    if not isinstance(metric, Mapping):
        return _cell(name), _cell(metric), "", "", ""
    metric = without_old_keys(metric)
    value, low, high, baseline = (
        _number(metric.get(k)) for k in ("value", "low", "high", "baseline")
    )
    interval = f"{low} to {high}" if low and high else ""
    return _cell(name), value, interval, baseline, _number(metric.get("n"))


def _number(value: Any) -> str:
    """Returns a number as text; nothing for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _mapping(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = values.get(key)
    return found if isinstance(found, Mapping) else {}


def _cell(value: Any) -> str:
    return shorten(one_line(str(value)), LONGEST_CELL)


def _aligned(table: Table, width: int) -> list[str]:
    """Returns a table in columns; where it is too wide, its last column is wrapped."""
    rows = [table.head, *table.rows] if table.head else list(table.rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numeric = [
        all(re.fullmatch(r"[\d,.e+-]*", row[i]) for row in table.rows) for i in range(len(widths))
    ]
    indent = sum(widths[:-1]) + 2 * len(widths)
    room = width - indent  # where it is too little, the table is wider than the terminal anyway
    column = room if room >= LEAST_COLUMN else WIDE_COLUMN
    lines = [table.title]
    for row in rows:
        cells = [
            cell.rjust(space) if right else cell.ljust(space)
            for cell, space, right in zip(row, widths, numeric, strict=True)
        ]
        first = "  " + "  ".join([*cells[:-1], ""])
        last = textwrap.wrap(cells[-1].rstrip(), column, drop_whitespace=False)
        lines.append((first + (last[0] if last else "")).rstrip())
        lines += [" " * indent + more.strip() for more in last[1:] if more.strip()]
    return lines
