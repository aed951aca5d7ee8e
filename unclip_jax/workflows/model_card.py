"""The model card of an exported bundle: stages, training data, metrics, loss curves.

Everything in it comes from the records of the runs and from measured metrics; what a record lacks
is given as "not recorded".
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
        notes: Markdown for the top of the card.
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
        parts += ["## Metrics", *_metric_tables(bundle.metrics)]
    if curves is not None:
        parts += ["## Curves", f"![loss over steps, training and held-out]({curves})"]
    license = bundle.license or "not stated"
    commit, date = (bundle.provenance.get(key) or UNKNOWN for key in ("git_commit", "date"))
    parts += [
        "## License and origin",
        f"Parameters: {license}. Exported {date} by unclip_jax at commit {commit}; full configs, "
        "hashes and environments are in bundle.json.",
    ]
    parts.append(_taken_stages(bundle))
    credits = _credits(runs)
    if credits:
        parts += ["Trained on the following works, which keep their own licenses:", credits]
    return "\n\n".join(part for part in parts if part) + "\n"


def training_seconds(run: RunResult) -> float | None:
    """Returns the time of all steps by timings.jsonl; repeated steps count once."""
    rows = read_jsonl(run.folder / "timings.jsonl")
    if not rows:
        return None
    batch, before, seconds = run.config["train"].get("batch_size", 0), 0, 0.0
    for row in rows:
        seconds += (row["step"] - before) * batch / row["images_per_second"]
        before = row["step"]
    return seconds


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Returns the records of a file; none if it does not exist."""
    if not path.exists():
        return []
    lines = enumerate(path.read_bytes().splitlines(), start=1)
    return [parse_json(line, f"{path}, line {number}") for number, line in lines]


def plot_curves(path: Path, runs: Sequence[RunResult]) -> bool:
    """Plots each stage's training and held-out loss; returns whether any run has a record."""
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
    latest = run.environment[-1]
    kind, count = latest.get("device_kind", UNKNOWN), latest.get("devices", 1)
    if kind == "cpu":
        return f"{latest['cpu_cores']} CPU cores" if "cpu_cores" in latest else "CPU"
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


def _taken_stages(bundle: Bundle) -> str:
    """Lists the stages of other bundles, with the license of each."""
    lines = []
    for stage, origin in bundle.provenance.get("taken_from", {}).items():
        source = f", imported ({origin['imported_from']})" if "imported_from" in origin else ""
        license = origin["license"] or "license not stated"
        lines.append(f"- {stage}: from the bundle {origin['bundle']}{source}; {license}")
    return "\n".join(lines)


def _metric_tables(metrics: Mapping[str, Any]) -> list[str]:
    """Returns a table for each suite's report, and one of the plain numbers."""
    parts, plain = [], []
    for name, value in metrics.items():
        if not isinstance(value, Mapping):
            plain.append(f"| {name} | {value} |")
            continue
        parts += [f"### {name}", _suite_table(value)]
    if plain:
        parts.append("\n".join(["| metric | value |", "|---|---|", *plain]))
    return parts


def _suite_table(metrics: Mapping[str, Any]) -> str:
    rows = ["| metric | value | 95% interval | baseline | n |", "|---|---|---|---|---|"]
    for name, metric in metrics.items():
        if not isinstance(metric, Mapping):
            rows.append(f"| {name} | {metric} | – | – | – |")
            continue
        metric = without_old_keys(metric)
        low, high, baseline = (metric.get(key) for key in ("low", "high", "baseline"))
        interval = "–" if low is None else f"{low:.3f} to {high:.3f}"
        baseline = "–" if baseline is None else f"{baseline:.3f}"
        rows.append(f"| {name} | {metric['value']:.3f} | {interval} | {baseline} | {metric['n']} |")
    return "\n".join(rows)


def read_metrics(paths: Sequence[Path]) -> dict[str, Any]:
    """Joins files of metrics; a report of `unclip eval` goes under its suite's name."""
    metrics: dict[str, Any] = {}
    for path in paths:
        found = read_mapping(path, remedy="--metrics takes a report of unclip eval")
        is_report = {"suite", "metrics"} <= set(found)
        if is_report and not isinstance(found["suite"], str):
            raise UserError(f"{path}: suite is not a name; --metrics takes a report of unclip eval")
        found = {found["suite"]: found["metrics"]} if is_report else found
        for suite, group in found.items():
            for name, metric in group.items() if isinstance(group, dict) else ():
                if isinstance(metric, dict) and not _is_metric(metric):
                    raise UserError(
                        f"{path}: {suite}.{name} lacks the numbers value and n; --metrics takes a "
                        "report of unclip eval"
                    )
        metrics |= found
    return metrics


def _is_metric(metric: Mapping[str, Any]) -> bool:
    """Whether the card can print a metric; its interval has two ends or none."""
    metric = without_old_keys(metric)
    bounds = [metric.get(key) for key in ("low", "high")]
    given = [b for b in (*bounds, metric.get("baseline")) if b is not None]
    is_pair = (bounds[0] is None) == (bounds[1] is None)
    numbers = [metric.get("value"), *given]
    return is_pair and "n" in metric and all(type(part) in (int, float) for part in numbers)


def _credits(runs: Sequence[RunResult]) -> str:
    """Lists the licenses and credits of prepared data sets."""
    entries: dict[str, None] = {}
    for name in dict.fromkeys(run.config["data"]["name"] for run in runs):
        try:
            path = locate(name) / "LICENSES.json"
        except UserError:
            continue
        for entry in read_json(path) if path.exists() else ():
            part = without_old_keys(entry)
            entries[f"- {part['part']}: {part['credit']} ({part['license']}). {part['url']}"] = None
    return "\n".join(entries)
