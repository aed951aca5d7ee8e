"""The model card of an exported bundle: what it is, how it was trained, what was measured.

Everything in it is read from the runs' own records and from figures that were measured; what a
record lacks is said to be not recorded.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.checkpoint.runs import RunResult
from unclip_jax.core.errors import UserError
from unclip_jax.core.files import parse_json, read_json, read_mapping
from unclip_jax.core.renamed import without_old_keys
from unclip_jax.core.trees import count_params
from unclip_jax.data.sources import locate

CARD, CURVES = "README.md", "curves.png"
UNKNOWN = "not recorded"


def write_card(folder: Path, bundle: Bundle, runs: Sequence[RunResult], notes: str = "") -> None:
    """Writes README.md and curves.png into a bundle's folder.

    Args:
        notes: Markdown that stands at the top: what only a person can say.
    """
    has_curves = plot_curves(folder / CURVES, runs)
    text = model_card(bundle, runs, notes, curves=CURVES if has_curves else None)
    (folder / CARD).write_text(text, encoding="utf-8")


def model_card(
    bundle: Bundle, runs: Sequence[RunResult], notes: str = "", *, curves: str | None = None
) -> str:
    """Returns the card as Markdown."""
    by_stage = {run.spec.stage: run for run in runs}
    parts = [f"# {bundle.name}", notes.strip()]
    parts += ["## Stages", _stage_table(bundle, by_stage)]
    parts += ["## Training data", _data_list(runs)]
    if bundle.metrics:
        parts += ["## Figures", *_figure_tables(bundle.metrics)]
    if curves is not None:
        parts += ["## Curves", f"![loss over steps, training and held-out]({curves})"]
    license = bundle.license or "not stated"
    commit, date = (bundle.provenance.get(key) or UNKNOWN for key in ("git_commit", "date"))
    parts += [
        "## License and origin",
        f"Parameters: {license}. Exported {date} by unclip_jax at commit {commit}; full configs, "
        "hashes and environments are in bundle.json.",
    ]
    credits = _credits(runs)
    if credits:
        parts += ["Trained on the following works, which keep their own licenses:", credits]
    return "\n\n".join(part for part in parts if part) + "\n"


def training_seconds(run: RunResult) -> float | None:
    """Returns the time of all steps by timings.jsonl; what was trained twice counts once."""
    rows = read_jsonl(run.folder / "timings.jsonl")
    if not rows:
        return None
    batch, before, seconds = run.config["train"].get("batch_size", 0), 0, 0.0
    for row in rows:
        seconds += (row["step"] - before) * batch / row["images_per_second"]
        before = row["step"]
    return seconds


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Returns the records of a file, none where there is no such file."""
    if not path.exists():
        return []
    lines = enumerate(path.read_bytes().splitlines(), start=1)
    return [parse_json(line, f"{path}, line {number}") for number, line in lines]


def plot_curves(path: Path, runs: Sequence[RunResult]) -> bool:
    """Draws each stage's training and held-out loss; returns whether any run had a record."""
    curves = {}
    for run in runs:
        rows = read_jsonl(run.folder / "metrics.jsonl")
        found = {
            label: [(row["step"], row[key]) for row in rows if row.get(key) is not None]
            for label, key in (("training", "loss"), ("held out", "held_out/loss"))
        }
        if found["training"]:
            curves[run.spec.stage] = found
    if not curves:
        return False
    import matplotlib.figure  # slow to import, and only needed here

    figure = matplotlib.figure.Figure(figsize=(3.2 * len(curves), 2.6), layout="constrained")
    axes = figure.subplots(1, len(curves), squeeze=False)[0]
    for ax, (stage, lines) in zip(axes, curves.items(), strict=True):
        for label, points in lines.items():
            if points:
                ax.plot(*zip(*points, strict=True), label=label, linewidth=1)
        ax.set_title(stage, fontsize=9)
        ax.set_xlabel("step", fontsize=8)
        ax.set_yscale("log")
        ax.tick_params(labelsize=7, which="both")
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("loss", fontsize=8)
    axes[0].legend(fontsize=7)
    figure.savefig(path, dpi=110)
    return True


def _stage_table(bundle: Bundle, runs: Mapping[str, RunResult]) -> str:
    head = [
        "stage",
        "parameters",
        "stored as",
        "steps x batch",
        "time",
        "hardware",
        "held-out loss",
    ]
    rows = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for name, stage in bundle.stages.items():
        cells = [name, f"{count_params(stage.params):,}", stage.dtype]
        cells += _training_cells(runs[name]) if name in runs else [UNKNOWN] * 4
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _training_cells(run: RunResult) -> list[str]:
    batch = run.config["train"].get("batch_size")
    seconds = training_seconds(run)
    rows = read_jsonl(run.folder / "metrics.jsonl")
    held_out = [row["held_out/loss"] for row in rows if row.get("held_out/loss") is not None]
    return [
        f"{run.step:,} x {batch}" if batch else f"{run.step:,}",
        UNKNOWN if seconds is None else f"{seconds / 60:.0f} min",
        _hardware(run),
        f"{held_out[-1]:.4g}" if held_out else UNKNOWN,
    ]


def _hardware(run: RunResult) -> str:
    if not run.environment:
        return UNKNOWN
    held = run.environment[-1]
    kind, count = held.get("device_kind", UNKNOWN), held.get("devices", 1)
    if kind == "cpu":
        return f"{held['cpu_cores']} CPU cores" if "cpu_cores" in held else "CPU"
    return f"{count} x {kind}"


def _data_list(runs: Sequence[RunResult]) -> str:
    lines = []
    for run in runs:
        data = run.config["data"]
        styles = ", ".join(data.get("styles") or ()) or "all"
        lines.append(
            f"- {run.spec.stage}: {data['name']}, split {data.get('split', 'train')}, "
            f"concepts {data.get('concepts', 'all')}, styles {styles}"
        )
    return "\n".join(lines)


def _figure_tables(metrics: Mapping[str, Any]) -> list[str]:
    """Returns a table for each suite's report, and one of the plain numbers."""
    parts, plain = [], []
    for name, value in metrics.items():
        if not isinstance(value, Mapping):
            plain.append(f"| {name} | {value} |")
            continue
        parts += [f"### {name}", _suite_table(value)]
    if plain:
        parts.append("\n".join(["| figure | value |", "|---|---|", *plain]))
    return parts


def _suite_table(figures: Mapping[str, Any]) -> str:
    rows = ["| figure | value | 95% interval | floor | n |", "|---|---|---|---|---|"]
    for name, figure in figures.items():
        if not isinstance(figure, Mapping):
            rows.append(f"| {name} | {figure} | – | – | – |")
            continue
        low, high, floor = (figure.get(key) for key in ("low", "high", "floor"))
        interval = "–" if low is None else f"{low:.3f} to {high:.3f}"
        floor = "–" if floor is None else f"{floor:.3f}"
        rows.append(f"| {name} | {figure['value']:.3f} | {interval} | {floor} | {figure['n']} |")
    return "\n".join(rows)


def read_metrics(paths: Sequence[Path]) -> dict[str, Any]:
    """Joins files of figures; a report of `unclip eval` goes under its suite's name."""
    metrics: dict[str, Any] = {}
    for path in paths:
        found = read_mapping(path, remedy="--metrics takes what unclip eval wrote")
        is_report = {"suite", "metrics"} <= set(found)
        if is_report and not isinstance(found["suite"], str):
            raise UserError(f"{path}: suite is not a name; --metrics takes what unclip eval wrote")
        found = {found["suite"]: found["metrics"]} if is_report else found
        for suite, figures in found.items():
            for name, figure in figures.items() if isinstance(figures, dict) else ():
                if isinstance(figure, dict) and not _is_figure(figure):
                    raise UserError(
                        f"{path}: {suite}.{name} has no numbers value and n; --metrics takes what "
                        "unclip eval wrote"
                    )
        metrics |= found
    return metrics


def _is_figure(figure: Mapping[str, Any]) -> bool:
    """Whether the model card can print a figure; its interval has two ends or none."""
    bounds = [figure.get(key) for key in ("low", "high")]
    given = [figure.get("value"), *(b for b in (*bounds, figure.get("floor")) if b is not None)]
    is_pair = (bounds[0] is None) == (bounds[1] is None)
    return is_pair and "n" in figure and all(type(part) in (int, float) for part in given)


def _credits(runs: Sequence[RunResult]) -> str:
    """Lists licenses and credits that prepared sets keep beside their pictures."""
    entries: dict[str, None] = {}
    for name in dict.fromkeys(run.config["data"]["name"] for run in runs):
        try:
            path = locate(name) / "LICENSES.json"
        except UserError:
            continue
        for held in read_json(path) if path.exists() else ():
            held = without_old_keys(held)
            entries[f"- {held['part']}: {held['credit']} ({held['license']}). {held['url']}"] = None
    return "\n".join(entries)
