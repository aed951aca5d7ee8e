"""Times two implementations in alternation on the same cores, each in its own process."""

import multiprocessing
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

Maker = tuple[Callable[..., Callable[[], None]], tuple[Any, ...]]
"""A function that returns the step to time, and its arguments; both can be pickled."""


def work(maker: Maker, pipe: Any) -> None:
    """Runs in a side's process: builds its step, then takes and times one for each request."""
    make, arguments = maker
    step = make(*arguments)
    clear_peak()
    while pipe.recv() == "step":
        wall, cpu = time.perf_counter(), time.process_time()
        step()
        pipe.send({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu})
    pipe.send(peaks())


def clear_peak() -> None:
    """Resets the peak of resident memory after loading, if the system supports it."""
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")


def peaks() -> dict[str, Any]:
    """Returns the device, and the process's peaks of resident and of GPU memory in GiB."""
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        peak = int(line.split()[1]) * 1024
    if "torch" in sys.modules:
        import torch

        on_gpu = torch.cuda.is_available()
        name = torch.cuda.get_device_name() if on_gpu else "cpu"
        gpu = torch.cuda.max_memory_allocated() if on_gpu else None
    else:
        import jax

        device = jax.local_devices()[0]
        stats = device.memory_stats() or {}
        name, gpu = device.device_kind, stats.get("peak_bytes_in_use")
    gpu = None if gpu is None else gpu / 2**30
    return {"device": name, "rss_gib": peak / 2**30, "gpu_gib": gpu}


def compare(makers: Mapping[str, Maker], repeats: int) -> dict[str, Any]:
    """Runs the sides in alternation; returns the first and median seconds of each, wall and CPU."""
    spawn = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    for side, maker in makers.items():
        pipe, theirs = spawn.Pipe()
        processes.append(spawn.Process(target=work, args=(maker, theirs), daemon=True))
        processes[-1].start()
        theirs.close()
        pipe.send("step")  # the first call, which compiles; one process after the other
        pipes[side] = (pipe, [pipe.recv()])
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


def environment(threads: int, packages: tuple[str, ...]) -> dict[str, Any]:
    """Returns the machine, its load and the versions."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    load = round(os.getloadavg()[0], 2)
    return {"python": platform.python_version(), **found, "threads": threads, "load": load}


def limit_threads(threads: int) -> int:
    """Restricts this process and its children to `threads` cores; returns the actual number."""
    if not hasattr(os, "sched_setaffinity"):
        return threads
    cores = sorted(os.sched_getaffinity(0))[-threads:]
    os.sched_setaffinity(0, cores)
    os.environ["OMP_NUM_THREADS"] = str(len(cores))
    return len(cores)
