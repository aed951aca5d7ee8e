"""Times sampling in two trees of this repository, in turns: whole warm commands, and in process.

    git worktree add PEER fb41589
    python benchmarks/latency.py --peer-tree PEER --repeats 5

Each tree uses its own bundle and a compile cache of its own, which a first run fills. The process
of each side that samples in process makes its devices as that tree's `unclip sample` does.
"""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from commands import COUNT, Benchmark

ROOT = Path(__file__).resolve().parents[1]
WORKER = """
import json, sys, time
model, num, prompt, settings = json.loads(sys.argv[1])
from unclip_jax.cli import common
common.use_compile_cache()
try:
    common.use_cores([model], None, num)
except (AttributeError, TypeError):
    pass  # a tree whose command samples on one device
import jax, unclip_jax
loaded = unclip_jax.load(model)
for line in sys.stdin:
    wall, cpu = time.perf_counter(), time.process_time()
    unclip_jax.sample(loaded, [prompt], key=jax.random.key(0), num=num, **settings)
    found = [time.perf_counter() - wall, time.process_time() - cpu, jax.local_device_count()]
    print(json.dumps(found), flush=True)
"""


class Side:
    """A tree, its bundle and its caches."""

    def __init__(self, tree: Path, model: str, num: int, prompt: str, settings: dict[str, int]):
        self._tree, self._model, self._num = tree, model, num
        self._prompt, self._settings = prompt, settings
        self._scratch = tempfile.TemporaryDirectory(prefix="latency-")
        self._worker: subprocess.Popen[str] | None = None

    def command(self) -> list[float]:
        """Runs `unclip sample` in a process of its own; returns wall and CPU seconds."""
        out = str(Path(self._scratch.name) / "out")
        options = [f"--{name.replace('_', '-')}={value}" for name, value in self._settings.items()]
        line = [*("sample", self._prompt, "--model", self._model, f"--num={self._num}")]
        line += ["--out", out, "--overwrite", *options]
        before, start = _children(), time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "unclip_jax", *line],
            **self._process,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # progress; older trees have no --quiet
        )
        return [time.perf_counter() - start, _children() - before]

    def in_process(self) -> list[float]:
        """Samples in a process that stays; returns wall and CPU seconds, and devices."""
        if self._worker is None:
            told = json.dumps([self._model, self._num, self._prompt, self._settings])
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            self._worker = subprocess.Popen(
                [sys.executable, "-c", WORKER, told], **self._process, **pipes
            )
        self._worker.stdin.write("step\n")
        self._worker.stdin.flush()
        line = self._worker.stdout.readline()
        if not line:
            raise click.ClickException(f"sampling failed in {self._tree}")
        return json.loads(line)

    def close(self) -> None:
        """Ends the process and removes the caches."""
        if self._worker is not None:
            self._worker.stdin.close()
            self._worker.wait()
        self._scratch.cleanup()

    @property
    def _process(self) -> dict[str, Any]:
        cache = str(Path(self._scratch.name) / "cache")
        chosen = {"PYTHONPATH": str(self._tree), "XDG_CACHE_HOME": cache}
        env = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
        return {"cwd": self._tree, "env": env | chosen}


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(
    sides: dict[str, Side], take: Callable[[Side], list[float]], repeats: int
) -> dict[str, dict[str, Any]]:
    """Takes a first time of each side, then `repeats` in turns; returns medians of the latter."""
    first = {name: take(side) for name, side in sides.items()}
    later: dict[str, list[list[float]]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            later[name].append(take(side))
    found = {}
    for name, runs in later.items():
        wall, cpu, *devices = map(statistics.median, zip(*runs, strict=True))
        found[name] = {"first": first[name][0], "wall": wall, "cpu": cpu, "all": runs}
        found[name] |= {"devices": int(devices[0])} if devices else {}
    return found


def load() -> float:
    """Returns the machine's load."""
    return round(os.getloadavg()[0], 2)


@click.command(cls=Benchmark)
@click.option("--peer-tree", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--model", default="emoji", show_default=True, help="Bundle of this tree.")
@click.option("--peer-model", default="emoji", show_default=True, help="Bundle of the other tree.")
@click.option("--prompt", default="a cat", show_default=True)
@click.option("--num", default=4, show_default=True, type=COUNT, help="Images a call.")
@click.option("--steps", type=int, help="Decoder steps of this tree; default: the bundle's.")
@click.option("--prior-steps", type=int, help="Prior steps of this tree; default: the bundle's.")
@click.option("--repeats", default=5, show_default=True, type=COUNT)
@click.option("--json", "as_json", is_flag=True)
def main(
    peer_tree: Path,
    model: str,
    peer_model: str,
    prompt: str,
    num: int,
    repeats: int,
    as_json: bool,
    **steps: int | None,
) -> None:
    """Prints medians of both trees and their ratios, with the load and the versions."""
    settings = {name: value for name, value in steps.items() if value is not None}
    local = Path(model).resolve() if Path(model).is_dir() else model
    sides = {
        "peer": Side(peer_tree.resolve(), peer_model, num, prompt, {}),
        "this": Side(ROOT, str(local), num, prompt, settings),
    }
    before = load()
    try:
        found = {
            "whole command": measure(sides, Side.command, repeats),
            "in process": measure(sides, Side.in_process, repeats),
        }
    finally:
        for side in sides.values():
            side.close()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    told = {"num": num, "settings": settings, "repeats": repeats, "cores": cores}
    told |= {"load before": before, "load after": load(), "python": platform.python_version()}
    told |= {name: version(name) for name in ("jax", "flax")}
    if as_json:
        click.echo(json.dumps({"environment": told, **found}))
        return
    click.echo(f"{told}\n")
    click.echo(
        "| what | side | first, s | wall, s | to the peer | CPU, s | to the peer | devices |"
    )
    click.echo("|---|---|---|---|---|---|---|---|")
    for what, both in found.items():
        peer = both["peer"]
        for name, one in both.items():
            ratios = [one[kind] / peer[kind] for kind in ("wall", "cpu")]
            cells = [f"{one['first']:.2f}", f"{one['wall']:.2f}", f"{ratios[0]:.2f}"]
            cells += [f"{one['cpu']:.2f}", f"{ratios[1]:.2f}", str(one.get("devices", "–"))]
            click.echo(f"| {what} | {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
