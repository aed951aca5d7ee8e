"""The fuzz framework: what a target is, and how its cases are run and judged.

A case passes if the parser returns or raises a UserError of one short printable line. Any other
exception, more than 5 s of work, or 1 GiB more of peak memory is a failure.
"""

import atexit
import contextlib
import dataclasses
import functools
import importlib
import os
import resource
import shutil
import signal
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis.strategies import SearchStrategy

from unclip_jax.core.errors import UserError
from unclip_jax.core.renamed import RenamedWarning

HANG_SECONDS = 5.0  # of the process's own CPU time: a loaded machine is no hang
WALL_SECONDS = 60.0  # against waiting for something that never comes
GROWTH = 1 << 30  # bytes of peak memory over what was used before the case
HEADROOM = 4 << 30  # bytes of address space a case may ask for; beyond it Python gets a MemoryError
MESSAGE = 1000  # characters of a UserError
FOLDER = Path(__file__).parent / "targets"


@dataclasses.dataclass(frozen=True)
class Target:
    """One parser under attack.

    Attributes:
        name: of the parser, as it stands in the table of docs/reliability.md.
        inputs: makes one hostile input.
        feed: feeds one input to the parser; the folder is empty, and emptied again afterwards.
        ms: rough cost of a case in milliseconds; dear parsers get fewer cases.
    """

    name: str
    inputs: SearchStrategy[Any]
    feed: Callable[[Any, Path], Any]
    ms: float = 1.0


@dataclasses.dataclass
class Result:
    """What became of a target's cases; `failures` maps a place in the code to one example."""

    parser: str
    cases: int = 0
    refused: int = 0
    accepted: int = 0
    tracebacks: int = 0
    hangs: int = 0
    peak_mib: float = 0.0
    seconds: float = 0.0
    failures: dict[str, str] = dataclasses.field(default_factory=dict)


class Hang(BaseException):
    """A case that took too long; no parser's `except Exception` catches it."""


def all_targets() -> list[Target]:
    """Collects TARGETS of every module in tests/fuzz/targets."""
    names = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")
    modules = [importlib.import_module(f"tests.fuzz.targets.{name}") for name in names]
    return [target for module in modules for target in module.TARGETS]


def shares(targets: list[Target], cases: int) -> dict[str, int]:
    """Divides `cases`: a fiftieth to each target, the rest so that cheap ones get more."""
    least = -(-cases // 50)
    rest = max(0, cases - least * len(targets))
    weights = {target.name: target.ms**-0.5 for target in targets}
    whole = sum(weights.values())
    counts = {name: least + int(rest * weight / whole) for name, weight in weights.items()}
    counts[max(weights, key=weights.__getitem__)] += max(0, cases - sum(counts.values()))
    return counts


def run(target: Target, cases: int, *, stop: bool = True, seen: Callable[[], None] = int) -> Result:
    """Runs `cases` cases, the same ones each time.

    Args:
        stop: raise at the first failure, which hypothesis makes small; else count and go on.
        seen: is called after each case, for progress.
    """
    result = Result(target.name)
    start = time.monotonic()
    phases = [hypothesis.Phase.generate, *([hypothesis.Phase.shrink] if stop else [])]

    with tempfile.TemporaryDirectory(prefix="unclip-fuzz-") as scratch:
        folder = Path(scratch) / "case"
        folder.mkdir()

        @hypothesis.settings(
            max_examples=cases,
            derandomize=True,
            database=None,
            deadline=None,
            phases=phases,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(target.inputs)
        def attack(case: Any) -> None:
            try:
                refused = judged(target, case, folder, result)
            except (Exception, Hang) as error:
                if stop:
                    raise
                note_failure(result, error, case)
            else:
                result.refused += refused
                result.accepted += not refused
            finally:
                result.cases += 1
                empty(folder)
                seen()

        attack()
    result.seconds = round(time.monotonic() - start, 1)
    return result


def judged(target: Target, case: Any, folder: Path, result: Result) -> bool:
    """Feeds one case; returns whether it was refused, raises if that is not as it should be."""
    reset_peak()
    before = peak_bytes()
    try:
        with limits(), warnings.catch_warnings():
            warnings.simplefilter("ignore", RenamedWarning)  # an old name is read, with a line
            target.feed(case, folder)
        refused = False
    except UserError as error:
        message = str(error)
        refused = True
        assert message, "a UserError without a message"
        assert len(message) < MESSAGE, f"a message of {len(message)} characters"
        assert message.isprintable() or set(filter(unprintable, message)) <= {"\u200d"}, message
    growth = peak_bytes() - before
    result.peak_mib = max(result.peak_mib, round(growth / 2**20, 1))
    assert growth < GROWTH, f"{growth / 2**20:.0f} MiB more of peak memory"
    return refused


def unprintable(character: str) -> bool:
    """Whether a terminal would not show the character as it stands."""
    return not character.isprintable()


@contextlib.contextmanager
def limits() -> Iterator[None]:
    """Bounds the time and the address space of the block."""

    def expire(signum: int, frame: Any) -> None:
        raise Hang(f"more than {HANG_SECONDS} s of CPU time or {WALL_SECONDS} s in all")

    handlers = {
        number: signal.signal(number, expire) for number in (signal.SIGPROF, signal.SIGALRM)
    }
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = status_bytes("VmSize")
    start = time.process_time()
    try:
        signal.setitimer(signal.ITIMER_PROF, HANG_SECONDS)
        signal.setitimer(signal.ITIMER_REAL, WALL_SECONDS)
        if used:
            resource.setrlimit(resource.RLIMIT_AS, (used + HEADROOM, hard))
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if time.process_time() - start > HANG_SECONDS:  # in native code no handler ran
        raise Hang(f"{time.process_time() - start:.1f} s of CPU time")


def note_failure(result: Result, error: BaseException, case: Any) -> None:
    """Counts a failure, and keeps the first case of each place in the code."""
    if isinstance(error, Hang):
        result.hangs += 1
    else:
        result.tracebacks += 1
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "unclip_jax/" in f.filename]
    where = (
        "/".join(Path(frames[-1].filename).parts[-2:]) + f":{frames[-1].lineno}" if frames else ""
    )
    what = f"{type(error).__name__} {where}: {str(error)[:200]!r}"
    key = f"{type(error).__name__} {where}"
    if key not in result.failures:
        shown = repr(case)
        cut = shown if len(shown) <= 2000 else f"{shown[:1000]} ... {shown[-1000:]}"
        result.failures[key] = f"{what} for {cut}"


def empty(folder: Path) -> None:
    """Removes whatever a case left in its folder."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def status_bytes(key: str) -> int:
    """Reads a size of this process from Linux's /proc; 0 elsewhere."""
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    start = text.find(f"{key}:")
    return int(text[start:].split(maxsplit=2)[1]) << 10 if start >= 0 else 0


def reset_peak() -> None:
    """Lets the kernel measure the peak memory anew."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """Returns the peak of resident memory since `reset_peak`, or since the start elsewhere."""
    return status_bytes("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def total(results: list[Result]) -> Result:
    """Sums results up."""
    counts = Counter()
    for found in results:
        for key in ("cases", "refused", "accepted", "tracebacks", "hangs", "seconds"):
            counts[key] += getattr(found, key)
    peak = max((found.peak_mib for found in results), default=0.0)
    return Result("all", **counts, peak_mib=peak)


@functools.cache
def kept_folder(name: str) -> Path:
    """Returns a folder for a target's valid samples, removed when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix=f"unclip-fuzz-{name}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def link_all(source: Path, folder: Path, but: str) -> None:
    """Links the files of a sample into a case's folder, all but the one under attack."""
    for path in source.iterdir():
        if path.name != but:
            os.link(path, folder / path.name)
