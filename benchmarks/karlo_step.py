"""Times one denoising step of Karlo's networks: ours against diffusers, taking turns in one run.

    python benchmarks/karlo_step.py --stages prior,decoder --threads 2 --repeats 3
    python benchmarks/karlo_step.py --tiny            # checks that everything runs, in a minute

A step is what sampling does between two noise levels: the network on the guidance pair (the
upsampler has none), guidance, clipping and the sampler's update. Both sides have random weights and
one process each, so that each has its own peak of memory; only one of them works at a time. Needs
torch and diffusers, the `parity` extra.
"""

import json
import multiprocessing
import os
import platform
import resource
import statistics
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from karlo_sides import Setup, our_step, their_step

STAGES = ("prior", "decoder", "super_res_first")
SIDES = {"ours": "unclip_jax", "eager": "diffusers", "compiled": "diffusers, torch.compile"}


def work(side: str, setup: Setup, pipe: Any) -> None:
    """A side's process: makes its step, then takes one whenever it is told to, and times it."""
    step = our_step(setup) if side == "ours" else their_step(setup, compiled=side == "compiled")
    clear_peak()
    while pipe.recv() == "step":
        wall, cpu = time.perf_counter(), time.process_time()
        step()
        pipe.send({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu})
    pipe.send(peaks(side))


def clear_peak() -> None:
    """Forgets the peak of memory that loading took, where the system can."""
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")


def peaks(side: str) -> dict[str, Any]:
    """Returns the device, and the process's peaks of resident and of GPU memory in GiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        peak = int(line.split()[1]) * 1024
    if side == "ours":
        import jax

        device = jax.local_devices()[0]
        stats = device.memory_stats() or {}
        name, gpu = device.device_kind, stats.get("peak_bytes_in_use")
    else:
        import torch

        on_gpu = torch.cuda.is_available()
        name = torch.cuda.get_device_name() if on_gpu else "cpu"
        gpu = torch.cuda.max_memory_allocated() if on_gpu else None
    gpu = None if gpu is None else gpu / 2**30
    return {"device": name, "rss_gib": peak / 2**30, "gpu_gib": gpu}


def compare(setup: Setup, sides: tuple[str, ...], repeats: int) -> dict[str, Any]:
    """Runs a stage's sides in turns; for each, the first and the median seconds, wall and CPU."""
    spawn = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    for side in sides:
        pipes[side], theirs = spawn.Pipe()
        processes.append(spawn.Process(target=work, args=(side, setup, theirs), daemon=True))
        processes[-1].start()
        theirs.close()
        pipes[side].send("step")  # the first call, which compiles; one process after the other
        first = pipes[side].recv()
        pipes[side] = (pipes[side], [first])
    for _ in range(repeats):
        for pipe, seconds in pipes.values():
            pipe.send("step")
            seconds.append(pipe.recv())
    result = {}
    for side, (pipe, (first, *later)) in pipes.items():
        pipe.send("end")
        result[side] = {"first": first["wall"], "all": later}
        result[side] |= {kind: statistics.median(run[kind] for run in later) for kind in first}
        result[side] |= pipe.recv()
    for process in processes:
        process.join()
    return result


def environment(threads: int) -> dict[str, Any]:
    """Returns what the numbers depend on."""
    packages = ("jax", "flax", "torch", "diffusers")
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "threads": threads,
        "load": round(os.getloadavg()[0], 2),
    }


def limit_threads(threads: int) -> int:
    """Confines this process and its children to so many of its cores; returns how many it got."""
    if not hasattr(os, "sched_setaffinity"):
        return threads
    cores = sorted(os.sched_getaffinity(0))[-threads:]
    os.sched_setaffinity(0, cores)
    os.environ["OMP_NUM_THREADS"] = str(len(cores))
    return len(cores)


@click.command()
@click.option("--stages", default=",".join(STAGES), show_default=True)
@click.option("--batch", default=2, show_default=True, help="Rows of a guided call: a pair each.")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32")
@click.option("--threads", default=os.cpu_count(), show_default=True, help="Cores for each side.")
@click.option("--repeats", default=3, show_default=True, help="Steps after the first; the median.")
@click.option("--tiny", is_flag=True, help="Toy sizes, to check that it runs.")
@click.option("--compile", "compiled", is_flag=True, help="Adds diffusers under torch.compile.")
@click.option("--json", "as_json", is_flag=True)
def main(
    stages: str, batch: int, threads: int, repeats: int, as_json: bool, **options: Any
) -> None:
    """Prints seconds a denoising step for each stage and side, with their ratio and memory."""
    names = stages.split(",")
    if batch < 2 or batch % 2 or not set(names) <= set(STAGES):
        raise click.UsageError(f"--batch is even, --stages some of {','.join(STAGES)}")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    threads = limit_threads(threads)
    sides = tuple(side for side in SIDES if side != "compiled" or options["compiled"])
    report = {"environment": environment(threads), "dtype": options["dtype"], "stages": {}}
    for name in names:
        setup = Setup(name, options["tiny"], batch // 2, options["dtype"], threads)
        report["stages"][name] = compare(setup, sides, repeats)
        report["environment"]["load after"] = round(os.getloadavg()[0], 2)
        if not as_json:
            click.echo(f"{name} done", err=True)
    click.echo(json.dumps(report) if as_json else table(report, batch, repeats))


def table(report: dict[str, Any], batch: int, repeats: int) -> str:
    """Returns the report as Markdown; a ratio above 1 means that ours is faster."""
    lines = [f"{report['environment']}, {report['dtype']}", ""]
    lines += [
        f"| stage | rows | side | device | first call, s | median of {repeats}, s | to ours "
        "| CPU, s | to ours | peak RSS, GiB | GPU, GiB |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, sides in report["stages"].items():
        rows = batch // 2 if name == "super_res_first" else batch
        for side, got in sides.items():
            wall, cpu = (got[kind] / sides["ours"][kind] for kind in ("wall", "cpu"))
            gpu = "-" if got["gpu_gib"] is None else f"{got['gpu_gib']:.2f}"
            lines.append(
                f"| {name} | {rows} | {SIDES[side]} | {got['device']} | {got['first']:.2f} "
                f"| {got['wall']:.3f} | {wall:.2f} | {got['cpu']:.3f} | {cpu:.2f} "
                f"| {got['rss_gib']:.2f} | {gpu} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
