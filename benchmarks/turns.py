"""Times two implementations in alternation on the same cores, each in its own process."""

import contextlib
import multiprocessing
import os
import platform
import resource
import statistics
import time
import traceback
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

Maker = tuple[Callable[..., Callable[[], None]], tuple[Any, ...]]
"""A function that returns the step to time, and its arguments; both can be pickled."""

LATE = "no time left"
MEMORY_WORDS = ("resource_exhausted", "out of memory", "outofmemory")


def work(maker: Maker, pipe: Any) -> None:
    """Runs in a side's process: builds its step, then takes and times one for each request."""
    try:
        make, arguments = maker
        step = make(*arguments)
        clear_peak()
        while pipe.recv() == "step":
            wall, cpu = time.perf_counter(), time.process_time()
            step()
            pipe.send({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu})
        pipe.send(peaks() | getattr(step, "facts", {}))
    except Exception as error:  # noqa: BLE001 - whatever it is, the other sides go on
        traceback.print_exc()
        pipe.send({"failed": reason(error)})


def reason(error: Exception) -> str:
    """Says in one line why a side cannot run."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    if isinstance(error, ImportError):
        return f"missing package: {error.name or error}"
    if isinstance(error, MemoryError) and str(error):
        return str(error)
    is_memory = any(word in text.lower() for word in MEMORY_WORDS)
    return "out of memory" if is_memory else text[:200]


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
    name, gpu = "cpu", None
    if "torch" in sys.modules:
        import torch

        on_gpu = torch.cuda.is_available()
        name = torch.cuda.get_device_name() if on_gpu else "cpu"
        gpu = torch.cuda.max_memory_allocated() if on_gpu else None
    elif "jax" in sys.modules:
        import jax

        device = jax.local_devices()[0]
        stats = device.memory_stats() or {}
        name, gpu = device.device_kind, stats.get("peak_bytes_in_use")
    gpu = None if gpu is None else gpu / 2**30
    return {"device": name, "rss_gib": peak / 2**30, "gpu_gib": gpu}


class Process:
    """A side in a process of its own; once it has failed, it says so to every request."""

    def __init__(self, maker: Maker):
        """Starts it."""
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=work, args=(maker, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self.failed: str | None = None

    def ask(self, what: str) -> None:
        """Sends a request."""
        with contextlib.suppress(OSError):  # its end is read as the answer
            self._pipe.send(what)

    def answer(self, deadline: float | None) -> dict[str, Any]:
        """Returns the answer to the request; {} once the side has failed."""
        found: dict[str, Any] = {"failed": self.failed}
        if self.failed is None:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                found = self._pipe.recv() if self._pipe.poll(left) else {"failed": LATE}
            except (EOFError, OSError):
                self._process.join()
                found = {"failed": f"its process ended with code {self._process.exitcode}"}
        self.failed = found.get("failed")
        return found if self.failed is None else {}

    def end(self) -> None:
        """Ends the process, which frees its memory."""
        if self.failed is not None:
            self._process.kill()
        self._process.join()


def measure(
    makers: Mapping[str, Maker],
    repeats: int,
    *,
    together: bool = False,
    deadline: float | None = None,
) -> dict[str, Any]:
    """Runs the sides in alternation; returns the first and median seconds of each, wall and CPU.

    A side that cannot run has {"failed": why} in place of seconds.

    Args:
        together: builds the sides, and takes their first steps, at the same time: those seconds
            then say little.
        deadline: on the monotonic clock, after which sides that have not finished are ended.
    """
    sides: dict[str, Process] = {}
    times: dict[str, list[dict[str, Any]]] = {}
    for name, maker in makers.items():
        sides[name] = Process(maker)
        sides[name].ask("step")  # the first call, which compiles
        if not together:  # one process after the other
            times[name] = [sides[name].answer(deadline)]
    if together:
        times = {name: [side.answer(deadline)] for name, side in sides.items()}
    for _ in range(repeats):
        for name, side in sides.items():
            side.ask("step")
            times[name].append(side.answer(deadline))
    result = {}
    for name, side in sides.items():
        side.ask("end")
        result[name] = summary(times[name], side.answer(deadline))
        if side.failed is not None:
            result[name] = {"failed": side.failed}
        side.end()
    return result


def summary(times: list[dict[str, Any]], told: dict[str, Any]) -> dict[str, Any]:
    """Returns the first seconds and the medians of the later ones, with what the side told."""
    first, *later = times
    medians = {
        kind: statistics.median(run[kind] for run in later)
        for kind in ("wall", "cpu")
        if all(kind in run for run in later)
    }
    return {"first": first.get("wall"), "all": later} | medians | told


def compare(makers: Mapping[str, Maker], repeats: int) -> dict[str, Any]:
    """Measures sides that all have to run.

    Raises:
        RuntimeError: one of them does not.
    """
    found = measure(makers, repeats)
    for side, got in found.items():
        if "failed" in got:
            raise RuntimeError(f"{side}: {got['failed']}")
    return found


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
