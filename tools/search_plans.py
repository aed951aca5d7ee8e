"""Searches for the fastest way to train every stage of the paper on pods, and writes the tables.

    python -m tools.search_plans                  at most 4 compilations a stage and topology
    python -m tools.search_plans --compiles 0     estimates alone, minutes

Needs libtpu (`pip install '.[plan]'`) and, for the decoder, 14 GB of memory. Compilations are
cached and finished searches are in docs/plan_search.json, so that the same command goes on where it
was stopped. `--tables` only writes the tables in docs/scale.md anew.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from unclip_jax.core.files import read_json, whole_file

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "plan_search.json"
PAGE = ROOT / "docs" / "scale.md"

STAGES = ("clip", "prior_diffusion", "prior_ar", "decoder", "upsampler_256", "upsampler_1024")
RUNS = [("v5p:4x4x4", stage) for stage in STAGES]
RUNS += [("v6e:8x8", stage) for stage in ("prior_diffusion", "prior_ar", "decoder")]

BEGIN, END = "<!-- searched: begin -->", "<!-- searched: end -->"

COLUMNS = "| | remat | micro-batches | mesh | GiB a chip | step, s | MFU | figures |"
SLOWEST = 1.35
"""Rows that take so many times as long as the fastest are left out, but not the first LEAST."""

LEAST = 4

RULE = "|---|---|---|---|---|---|---|---|"


def main() -> None:
    """Runs the searches that are missing, then writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--compiles", type=int, default=4, help="at most, of a stage and topology")
    parser.add_argument("--only", default="", help="stages or topologies, separated by commas")
    parser.add_argument("--tables", action="store_true", help="write the tables alone")
    options = parser.parse_args()
    results = load()
    for topology, stage in () if options.tables else RUNS:
        wanted = options.only.split(",")
        if options.only and stage not in wanted and topology not in wanted:
            continue
        done = results.get(f"{stage} {topology}")
        if done is None or done["compiles"] < options.compiles:
            sys.stderr.write(f"{stage} on {topology}\n")
            found = search(stage, topology, options.compiles)
            results[f"{stage} {topology}"] = {"compiles": options.compiles, **found}
            save(results)
    write_tables(results)


def load() -> dict[str, Any]:
    """Reads the finished searches."""
    return read_json(RESULTS) if RESULTS.exists() else {}


def save(results: dict[str, Any]) -> None:
    """Writes the finished searches."""
    with whole_file(RESULTS) as part:
        part.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def search(stage: str, topology: str, compiles: int) -> dict[str, Any]:
    """Runs `unclip plan --search` in a process of its own, which frees the compiler's memory."""
    command = [sys.executable, "-m", "unclip_jax", "plan", "--search", "--json"]
    command += ["--config", f"configs/paper/{stage}.py", "--topology", topology]
    command += ["--compiles", str(compiles)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout)


def write_tables(results: dict[str, Any]) -> None:
    """Writes the tables between the marks of docs/scale.md."""
    text, made = PAGE.read_text(encoding="utf-8"), tables(results)
    marks = re.compile(f"{BEGIN}.*{END}", re.DOTALL)
    if not marks.search(text):
        raise SystemExit(f"{PAGE} has no {BEGIN}")
    text = marks.sub(lambda _: f"{BEGIN}\n\n{made}\n{END}", text)
    with whole_file(PAGE) as part:
        part.write_text(text, encoding="utf-8")


def tables(results: dict[str, Any]) -> str:
    """Returns the tables of all finished searches."""
    return "\n".join(table(results[f"{s} {t}"]) for t, s in RUNS if f"{s} {t}" in results)


def table(found: dict[str, Any]) -> str:
    """Returns the table of a search: the front to SLOWEST or LEAST, and what was compiled."""
    limit = found["hbm_limit_bytes"] / 2**30
    title = f"**{found['stage']}**, {found['topology']}, batch {found['batch_size']:,}, "
    title += f"{found['tried']} candidates, {limit:.0f} GiB a chip"
    marks = ("on_front", "is_current")
    limit_s = SLOWEST * min(row["step_seconds"] for row in found["rows"])
    rows = [r for r in found["rows"] if any(r[m] for m in marks) or "compiled" in r["source"]]
    rows = [
        row
        for number, row in enumerate(rows)
        if number < LEAST or row["step_seconds"] <= limit_s or row["is_current"]
    ]
    ends = [parts(row) for row in rows if row["is_chosen"]] or ["Nothing fits."]
    return "\n".join([title, "", COLUMNS, RULE, *map(line, rows), "", *ends, ""])


def parts(row: dict[str, Any]) -> str:
    """Says what the time of a row consists of."""
    names = ("arithmetic", "padding", "traffic", "collective")
    text = ", ".join(f"{name} {row[f'{name}_seconds']:.3g} s" for name in names)
    return f"Of the chosen row, each alone at peak rate: {text}."


def line(row: dict[str, Any]) -> str:
    """Returns a row of a table."""
    mark = "**chosen**" if row["is_chosen"] else "front" if row["on_front"] else ""
    mark += " (the config)" if row["is_current"] else ""
    cells = [
        mark.strip(),
        row["remat"],
        str(row["accumulation"]),
        " x ".join(map(str, row["mesh"])),
    ]
    cells.append(f"{row['memory_bytes'] / 2**30:.1f}")
    cells += [f"{row['step_seconds']:.4g}", f"{row['mfu']:.0%}"]
    cells.append(row["source"] + ("" if row["fits"] else ", does not fit"))
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
