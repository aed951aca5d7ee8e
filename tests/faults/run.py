"""Plants each fault of faults.py alone in a copy of the tree and runs the tests meant for it.

    make faults                                all of them; goes on where a former run ended
    make faults ARGS="--only guidance_*"       those whose names match
    make faults ARGS="--sample 10 --commit H"  ten of them, chosen by a commit's hash (CI)

A fault is caught if its tests pass on the clean copy and fail on the faulted one. Tests that cannot
run at all (a syntax error, a test that is gone, no end in time) prove nothing: that is an error.
Each run is a process of its own, forked from a server that has imported third-party packages only.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import fnmatch
import hashlib
import importlib.abc
import importlib.machinery
import json
import multiprocessing
import os
import queue
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.faults.faults import FAULTS, Fault

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / ".cache" / "faults_results.jsonl"
LEFT_OUT = (".git", ".venv", ".cache", "build", "dist", "*.egg-info", "runs")
# What most tests import; whatever is missing here is imported by the test itself.
PRELOADED = (
    "beartype click clu.metrics flax.linen ftfy grain.python hypothesis jax jaxtyping "
    "matplotlib.pyplot ml_collections.config_flags numpy optax orbax.checkpoint PIL.Image pytest "
    "safetensors.numpy scipy.stats tensorboardX tensorflow_datasets "
    "transformers.models.clip.tokenization_clip"
).split()
PASSED, FAILED = 0, 1  # pytest's exit codes
CODE_OFFSET = 100  # sets pytest's codes apart from those of a process that never got so far


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one run of tests.

    Attributes:
        kind: "passed", "failed", or "error" if they could not run.
        how: the first test that failed and its message, or what went wrong.
    """

    kind: str
    how: str
    seconds: float


def say(line: str) -> None:
    """Writes a line of the report."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def test_files(tests: str) -> list[str]:
    """Lists the files of a selection of tests."""
    return sorted({node.split("::")[0] for node in tests.split()})


def digest_of(fault: Fault, *, clean: bool) -> str:
    """Hashes all that a result depends on, as far as it is looked at: file, tests and fault."""
    hashed = hashlib.sha256()
    for path in (fault.file, *test_files(fault.tests)):
        path = ROOT / path
        hashed.update(path.read_bytes() if path.is_file() else b"")
    change = () if clean else (fault.old, fault.new)
    hashed.update(json.dumps([fault.file, fault.tests, *change]).encode())
    return hashed.hexdigest()


class _ConfigsOf(importlib.abc.MetaPathFinder):
    """Finds `unclip_jax.configs` in a tree, before that of an installed checkout."""

    def __init__(self, root: str):
        self.root = root

    def find_spec(self, name, path, target=None):
        """Returns the spec of that package; others find the rest."""
        if name != "unclip_jax.configs":
            return None
        return importlib.machinery.PathFinder.find_spec(name, [self.root])


def run_in_process(root: str, tests: str, log: str) -> None:
    """Runs pytest in this new process, in a copy of the tree, with its output in a file."""
    os.setsid()  # so that its children end with it
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.chdir(root)
    # What the server imported of this tree goes; everything else comes from the copy.
    sys.path[:] = [root] + [path for path in sys.path if Path(path or ".").resolve() != ROOT]
    sys.meta_path.insert(0, _ConfigsOf(root))
    for name in [name for name in sys.modules if name.split(".")[0] == "tests"]:
        del sys.modules[name]
    os.environ["PYTHONPATH"] = root
    import pytest

    quiet = "ignore::pytest.PytestAssertRewriteWarning"  # plugins that the server has imported
    code = int(pytest.main([*tests.split(), "-x", "-q", "-p", "no:cacheprovider", "-W", quiet]))
    package = sys.modules.get("unclip_jax")
    if package is None or not str(package.__file__).startswith(root):
        raise RuntimeError(f"the tests ran on {package}, not on the copy in {root}")
    sys.exit(CODE_OFFSET + code)


class Results:
    """The file of results: a run that was cut off goes on where it ended."""

    def __init__(self, path: Path, fresh: bool):
        """Reads what is known, unless everything shall be run anew."""
        self.path, self.lock, self.known = path, threading.Lock(), {}
        path.parent.mkdir(parents=True, exist_ok=True)
        if fresh:
            path.unlink(missing_ok=True)
        lines = path.read_text().splitlines() if path.exists() else []
        for line in lines:
            try:
                row = json.loads(line)
                self.known[row["digest"]] = Outcome(row["kind"], row["how"], row["seconds"])
            except (ValueError, KeyError, TypeError):
                continue  # the last line of a run that was killed

    def add(self, digest: str, name: str, outcome: Outcome) -> None:
        """Remembers an outcome; errors are tried again the next time."""
        self.known[digest] = outcome
        if outcome.kind != "error":
            row = {"digest": digest, "name": name, **dataclasses.asdict(outcome)}
            with self.lock, self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")


def planted(root: Path, fault: Fault, text: str) -> None:
    """Writes a source file of the copy, and forgets its compiled form."""
    path = root / fault.file
    path.write_text(text, encoding="utf-8")
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
        compiled.unlink()


class Planter:
    """Plants faults in copies of the tree and runs their tests, in processes that end with it."""

    def __init__(self, results: Results, timeout: float):
        """Starts the server that all processes are forked from at the first of them."""
        self.results, self.timeout = results, timeout
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOADED)
        self._running: set[int] = set()

    def judge(self, root: Path, fault: Fault) -> tuple[str, str]:
        """Returns "caught", "NOT CAUGHT" or "ERROR" for one fault, and how."""
        source = (ROOT / fault.file).read_text(encoding="utf-8")
        if source.count(fault.old) != 1:
            return "ERROR", f"its text occurs {source.count(fault.old)} times, not once"
        clean = self._outcome(root, fault, digest_of(fault, clean=True))
        if clean.kind != "passed":
            return "ERROR", f"without the fault: {clean.how}"
        try:
            planted(root, fault, source.replace(fault.old, fault.new))
            outcome = self._outcome(root, fault, digest_of(fault, clean=False))
        finally:
            planted(root, fault, source)
        word = {"failed": "caught", "passed": "NOT CAUGHT", "error": "ERROR"}[outcome.kind]
        return word, f"{outcome.how[:160]} ({outcome.seconds:.0f} s)"

    def stop(self) -> None:
        """Ends the processes that are still running."""
        for pid in list(self._running):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)

    def _outcome(self, root: Path, fault: Fault, digest: str) -> Outcome:
        """Returns a known outcome, or runs the tests on the copy as it is."""
        if digest not in self.results.known:
            self.results.add(digest, fault.name, self._run(root, fault.tests))
        return self.results.known[digest]

    def _run(self, root: Path, tests: str) -> Outcome:
        log = root.with_suffix(".log")
        log.write_text("")
        start = time.monotonic()
        process = self._context.Process(target=run_in_process, args=(str(root), tests, str(log)))
        process.start()
        self._running.add(process.pid)
        process.join(self.timeout)
        if process.is_alive():
            os.killpg(process.pid, signal.SIGKILL)
            process.join()
        self._running.discard(process.pid)
        seconds = time.monotonic() - start
        lines = log.read_text(errors="replace").splitlines()
        failures = [line for line in lines if line.startswith(("FAILED ", "ERROR "))]
        code = process.exitcode - CODE_OFFSET
        if code == PASSED:
            return Outcome("passed", "", seconds)
        if code == FAILED:
            return Outcome("failed", failures[0].split(maxsplit=1)[1], seconds)
        why = f"no end in {self.timeout:.0f} s" if seconds >= self.timeout else f"exit {code}"
        return Outcome("error", " | ".join([why, *(failures or lines[-4:])]), seconds)


def chosen(args: argparse.Namespace) -> list[Fault]:
    """Returns the faults that were asked for."""
    faults = [f for f in FAULTS if any(fnmatch.fnmatch(f.name, pattern) for pattern in args.only)]
    if args.sample is not None:
        faults = random.Random(args.commit).sample(faults, min(args.sample, len(faults)))
    return faults


def run_all(faults: list[Fault], args: argparse.Namespace, folder: Path) -> dict[str, str]:
    """Judges all faults, a few at a time; returns the word about each."""
    planter, roots = Planter(Results(RESULTS, args.fresh), args.timeout), queue.Queue()
    for i in range(args.jobs):
        root = folder / f"copy_{i}"
        shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns(*LEFT_OUT))
        roots.put(root)

    def work(fault: Fault) -> tuple[str, str]:
        root = roots.get()
        try:
            return planter.judge(root, fault)
        finally:
            roots.put(root)

    words = {}
    pool = concurrent.futures.ThreadPoolExecutor(args.jobs)
    try:
        running = {pool.submit(work, fault): fault for fault in faults}
        for future in concurrent.futures.as_completed(running):
            fault, (word, how) = running[future], future.result()
            words[fault.name] = word
            say(f"{len(words):3}/{len(faults)} {word:10} {fault.name:44} {fault.file}: {how}")
    finally:  # also where the run is told to end
        pool.shutdown(wait=False, cancel_futures=True)
        planter.stop()
        pool.shutdown()
    return words


def read_args(words: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="plant faults, see that tests catch them")
    parser.add_argument("--only", nargs="+", default=["*"], help="names or patterns of names")
    parser.add_argument("--sample", type=int, help="only so many, drawn at random")
    parser.add_argument("--commit", default="", help="what the draw depends on")
    parser.add_argument("--jobs", type=int, default=2, help="copies of the tree that work at once")
    parser.add_argument("--timeout", type=float, default=600, help="seconds of one run of tests")
    parser.add_argument("--fresh", action="store_true", help="forget the results of former runs")
    return parser.parse_args(words)


def main() -> int:
    """Runs the command; returns its exit code."""
    args = read_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
    faults = chosen(args)
    if not faults:
        say(f"no fault is named {' or '.join(args.only)}")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults_") as folder:
        words = run_all(faults, args, Path(folder))
    caught = sum(word == "caught" for word in words.values())
    say(f"faults: {caught} of {len(faults)} caught in {time.monotonic() - start:.0f} s")
    for name in sorted(name for name, word in words.items() if word != "caught"):
        say(f"  {words[name]}: {name}")
    return 0 if caught == len(faults) else 1


if __name__ == "__main__":
    sys.exit(main())
