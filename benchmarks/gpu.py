"""Measures sampling and training on one NVIDIA GPU beside diffusers, dalle2-pytorch and open_clip.

    python benchmarks/gpu.py --out runs/gpu                       # all cells; rerun to go on
    python benchmarks/gpu.py --out runs/gpu --time-limit 9 --only "sample*"
    python benchmarks/gpu.py --tiny --out runs/gpu_tiny           # on a CPU: does all of it run?

Each cell compares sides that do the same work, each in a process of its own. What is measured is
in gpu_cells.py, the most telling first. A finished side is written to OUT/gpu.json at once, and a
rerun takes the others only. A side that cannot run says why and stops nothing. For a machine
without a network, `--pack FOLDER` downloads what it lacks, and `--wheels FOLDER` uses it there.
"""

import contextlib
import dataclasses
import datetime
import fnmatch
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(1, str(ROOT))  # where the package is not installed

from turns import LATE, environment, measure  # noqa: E402

PACKAGES = ("jax", "jaxlib", "flax", "torch", "diffusers", "dalle2-pytorch", "open_clip_torch")
RESULTS, TABLE = "gpu.json", "gpu.md"
NO_MEMORY = "out of memory"
NVIDIA = ("/dev/nvidia0", "/dev/nvidiactl", "/proc/driver/nvidia")
WHEELS = (
    "absl-py clu etils flax ftfy importlib_resources jaxtyping ml_collections optax simplejson "
    "diffusers dalle2-pytorch open_clip_torch clip-anytorch CoCa-pytorch ema-pytorch einops "
    "einops-exts embedding-reader kornia kornia_rs pydantic pydantic_core annotated-types "
    "typing-inspection pytorch-warmup resize-right rotary-embedding-torch x-clip webdataset "
    "vector-quantize-pytorch==1.12.0 braceexpand beartype wcwidth"
).split()
"""Packages that a machine with jax, torch, torchvision and transformers lacks."""

EXISTING = click.Path(path_type=Path, exists=True, resolve_path=True)
FOLDER = click.Path(path_type=Path, resolve_path=True)

Records = dict[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
        deadline: on the monotonic clock; what would end later is not begun.
        patience: minutes for a side, or for sides that take turns.
        retry: also measures sides that failed.
        stated: what the records say of the machine.
    """

    repeats: int
    deadline: float | None = None
    patience: float = 5.0
    retry: bool = False
    stated: dict[str, Any] = dataclasses.field(default_factory=dict)


def read_records(path: Path) -> Records:
    """Returns the results of a file by cell; none of a file that is not there."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def write(path: Path, text: str) -> None:
    """Writes a file as a whole or not at all."""
    from unclip_jax.core.files import whole_file

    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


def is_open(side: Mapping[str, Any] | None, retry: bool) -> bool:
    """Whether a side is still to be measured: never run, out of time, or failed and to retry."""
    failed = {"failed": LATE} if side is None else side
    return "failed" in failed and (retry or failed["failed"] == LATE)


def open_sides(cell: Any, record: Mapping[str, Any] | None, retry: bool) -> list[str]:
    """Lists the sides of a cell to measure; sides that take turns are measured together."""
    known = {} if record is None else record["sides"]
    found = [name for name in cell.sides if is_open(known.get(name), retry)]
    return list(cell.sides) if found and not cell.alone else found


def measure_alone(
    name: str, ways: Sequence[Any], repeats: int, deadline: float | None
) -> dict[str, Any]:
    """Measures one side at the first of its sizes that fits into memory."""
    found: dict[str, Any] = {"failed": NO_MEMORY}
    for maker in ways:
        found = measure({name: maker}, repeats, deadline=deadline)[name]
        if not found.get("failed", "").startswith(NO_MEMORY):
            break
    return found


def is_late(seconds: float, deadline: float | None) -> bool:
    """Whether what takes so long would end after the deadline."""
    return deadline is not None and time.monotonic() + seconds > deadline


def run_cell(
    cell: Any, names: Sequence[str], settings: Settings, keep: Callable[[dict[str, Any]], None]
) -> None:
    """Measures sides of a cell; hands on what is known after each, or after all that take turns.

    One that has not finished within the patience has failed, and is not begun again by a rerun.
    """
    seconds = 60 * cell.minutes / (len(cell.sides) if cell.alone else 1)
    for group in [[name] for name in names] if cell.alone else [names]:
        if is_late(seconds, settings.deadline):
            click.echo(f"{cell.name}: {', '.join(group)}: too little time is left", err=True)
            continue
        end = time.monotonic() + 60 * settings.patience
        until = end if settings.deadline is None else min(end, settings.deadline)
        if cell.alone:
            ways = cell.sides[group[0]]
            found = {group[0]: measure_alone(group[0], ways, settings.repeats, until)}
        else:
            makers = {name: cell.sides[name][0] for name in group}
            found = measure(makers, settings.repeats, together=True, deadline=until)
        for side in found.values():
            side["date"] = datetime.date.today().isoformat()
            if side.get("failed") == LATE and until == end:
                side["failed"] = f"not ready after {settings.patience:g} minutes"
        keep(found)


def run(cells: Sequence[Any], out: Path, settings: Settings) -> Records:
    """Measures what is still open of all cells; returns all records."""
    out.mkdir(parents=True, exist_ok=True)
    records = read_records(out / RESULTS)
    for cell in cells:
        names = open_sides(cell, records.get(cell.name), settings.retry)
        if not names:
            continue

        def keep(found: dict[str, Any], cell: Any = cell) -> None:
            before = records.get(cell.name, {"sides": {}})["sides"]
            about = {"what": cell.what, "dtype": cell.dtype, "environment": settings.stated}
            records[cell.name] = {**about, "sides": before | found}
            write(out / RESULTS, json.dumps(records, indent=1) + "\n")
            for name, side in found.items():
                said = side.get("failed") or f"{side['wall']:.4g} s, {side['rows']} rows"
                click.echo(f"{cell.name}: {name}: {said}", err=True)

        run_cell(cell, names, settings, keep)
    return records


def describe(repeats: int) -> dict[str, Any]:
    """Returns the versions, the load, and what the driver says of the card."""
    stated = environment(os.cpu_count() or 1, PACKAGES) | {"repeats": repeats}
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        told = subprocess.run(query, capture_output=True, text=True, check=True, timeout=60)
        stated["card"] = told.stdout.strip()
    return stated


def use_wheels(folder: Path) -> None:
    """Unpacks the wheels of a folder, and puts them before what is installed."""
    from tools.turns import wheels

    site = Path(tempfile.gettempdir()) / "gpu_site"
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    wheels.unpack(folder, site, version)
    sys.path.insert(0, str(site))


def pack(folder: Path) -> None:
    """Downloads the wheels for Python 3.12 on Linux, x86-64."""
    from tools.turns import wheels

    wheels.download(WHEELS, "3.12", folder)
    size = sum(path.stat().st_size for path in folder.glob("*.whl"))
    click.echo(f"{len(list(folder.glob('*.whl')))} wheels, {size / 2**20:.1f} MiB in {folder}")


@click.command()
@click.option("--out", type=FOLDER, help="Folder of gpu.json and gpu.md.")
@click.option("--earlier", type=EXISTING, help="A gpu.json to go on from.")
@click.option("--time-limit", type=click.FloatRange(min=0), help="Minutes.")
@click.option("--patience", default=5.0, show_default=True, help="Minutes for a side to finish.")
@click.option("--only", default="*", show_default=True, help="Cells by name, such as 'train*'.")
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(min=1))
@click.option("--retry", is_flag=True, help="Also sides that failed.")
@click.option("--tiny", is_flag=True, help="Toy sizes, to check that it runs.")
@click.option("--page", type=EXISTING, help="Page that takes the table in.")
@click.option("--pack", "packed", type=FOLDER, help="Only download wheels.")
@click.option("--wheels", type=EXISTING, help="Folder of wheels to use.")
@click.option("--table", "only_table", is_flag=True, help="Measure nothing.")
def main(out: Path | None, only: str, tiny: bool, repeats: int, **options: Any) -> None:
    """Measures what is not yet in OUT/gpu.json, and prints all of it as a table."""
    limit = options["time_limit"]
    if limit is not None and not math.isfinite(limit):
        raise click.UsageError("--time-limit is a number of minutes")
    deadline = None if limit is None else time.monotonic() + 60 * limit
    if options["packed"]:
        pack(options["packed"])
        return
    if out is None:
        raise click.UsageError("--out FOLDER is missing")
    on_gpu = shutil.which("nvidia-smi") or any(map(os.path.exists, NVIDIA))
    if not (tiny or options["only_table"] or on_gpu):
        raise click.UsageError("no NVIDIA GPU here; --tiny shows on a CPU that all of it runs")
    if options["wheels"]:
        use_wheels(options["wheels"])
    from gpu_cells import all_cells
    from gpu_report import put_into, table

    out.mkdir(parents=True, exist_ok=True)
    if options["earlier"] and not (out / RESULTS).exists():
        shutil.copy(options["earlier"], out / RESULTS)
    cells = all_cells(tiny)
    chosen = [cell for cell in cells if fnmatch.fnmatch(cell.name, only)]
    if not chosen:
        names = ", ".join(cell.name for cell in cells)
        raise click.UsageError(f"no cell is named {only!r}; there are {names}")
    if not options["only_table"]:
        os.chdir(ROOT)  # where the configs are
        cache = Path(tempfile.gettempdir()) / "gpu_compile_cache"
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
        told = {name: options[name] for name in ("patience", "retry")}
        run(chosen, out, Settings(repeats, deadline, stated=describe(repeats), **told))
    text = table(cells, read_records(out / RESULTS))
    write(out / TABLE, text + "\n")
    if options["page"]:
        put_into(options["page"], text)
    click.echo(text)


if __name__ == "__main__":
    main()
