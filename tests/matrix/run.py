"""`make test-matrix`: the suite on every supported Python, each with the jax that is pinned for it.

python -m tests.matrix.run [TESTS ...] [--python 3.12 ...] [--docs docs/reliability.md]

Every Python has a virtual environment of its own in .cache/matrix. The suite runs a folder of tests
at a time; what has passed on the same files is not run again, so that an interrupted run resumes.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

from tests.tables import write_table

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / ".cache" / "matrix"
PINS = {
    "3.11": "requirements.txt",
    "3.12": "requirements-py312.txt",
    "3.13": "requirements-py313.txt",
}
COLUMNS = ("Python", "jax", "tests", "passed", "failed", "skipped", "seconds")
SOURCES = ("unclip_jax", "configs", "tests", "launch", "setup.py", "pyproject.toml")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Counts of one folder of tests; `failures` names what failed."""

    tests: str
    digest: str
    passed: int
    failed: int
    skipped: int
    seconds: float
    failures: tuple[str, ...] = ()


def main() -> int:
    """Runs what has not passed yet, and returns 1 if anything failed or no Python was found."""
    parser = argparse.ArgumentParser(prog="make test-matrix", description=__doc__)
    parser.add_argument("tests", nargs="*", help="folders or files [the whole suite, but parity]")
    parser.add_argument("--python", nargs="*", default=list(PINS), choices=list(PINS))
    parser.add_argument("--workers", type=int, default=2, help="test processes")
    parser.add_argument("--fresh", action="store_true", help="forget earlier results")
    parser.add_argument("--docs", type=Path, help="page whose table is replaced")
    args = parser.parse_args()
    rows, failed = [], False
    for version in args.python:
        python = find_python(version)
        if python is None:
            say(f"Python {version} was not found: install it, with pyenv for one")
            continue
        binary = environment(version, python)
        found = list(run_all(version, binary, args.tests or rooms(), args.workers, args.fresh))
        failed |= any(outcome.failed for outcome in found)
        rows.append(row(version, jax_version(binary), found, whole=not args.tests))
        say("  ".join(map(str, rows[-1])))
    if args.docs is not None and rows:
        write_table(args.docs, "versions", [COLUMNS, *rows], "lllrrrr")
    return 1 if failed or not rows else 0


def say(line: str) -> None:
    """Writes a line of the report."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def rooms() -> list[str]:
    """Lists the parts of the suite: each folder that holds tests, and the files beside them."""
    tests = ROOT / "tests"
    folders = {path.parent for path in tests.glob("*/test_*.py")} - {tests / "parity"}
    files = sorted(tests.glob("test_*.py"))
    return [str(path.relative_to(ROOT)) for path in (*sorted(folders), *files)]


def find_python(version: str) -> Path | None:
    """Returns an interpreter of a version that can make environments, on the path or pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    known = [shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}.*/bin/python"))]
    code = "import sys, venv, ensurepip; print(*sys.version_info[:2], sep='.')"
    for python in filter(None, known):
        answer = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
        if answer.stdout.strip() == version:
            return Path(python)
    return None


def environment(version: str, python: Path) -> Path:
    """Returns the interpreter of the version's environment, installed if its pins have changed."""
    folder, pins = WORK / version, ROOT / PINS[version]
    binary, stamp = folder / "bin" / "python", folder / "installed"
    digest = hashlib.sha256((ROOT / "setup.py").read_bytes() + pins.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return binary
    say(f"Python {version}: installing with {pins.name}")
    subprocess.run([python, "-m", "venv", folder], check=True)
    pip = [binary, "-m", "pip", "--disable-pip-version-check", "install", "-qq", "-c", pins]
    subprocess.run([*pip, "-e", ".[test]"], cwd=ROOT, check=True)
    stamp.write_text(digest)
    return binary


def jax_version(binary: Path) -> str:
    """Returns the version of jax in an environment."""
    code = "from importlib.metadata import version; print(version('jax'))"
    return subprocess.run(
        [binary, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def digest_of(version: str) -> str:
    """Hashes all files that a result depends on."""
    digest = hashlib.sha256((ROOT / PINS[version]).read_bytes())
    for source in SOURCES:
        path = ROOT / source
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(f"{file.relative_to(ROOT)}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def run_all(
    version: str, binary: Path, tests: Sequence[str], workers: int, fresh: bool
) -> Iterator[Outcome]:
    """Yields the outcome of every part, from the results of an earlier run if it has passed."""
    record, digest = WORK / version / "results.jsonl", digest_of(version)
    lines = record.read_text().splitlines() if record.exists() and not fresh else []
    known = [Outcome(**json.loads(line)) for line in lines]
    passed = {found.tests: found for found in known if not found.failed and found.digest == digest}
    record.write_text("".join(json.dumps(dataclasses.asdict(o)) + "\n" for o in passed.values()))
    for part in tests:
        if part in passed:
            yield passed[part]
            continue
        outcome = run(version, binary, part, workers, digest)
        with record.open("a") as file:
            file.write(json.dumps(dataclasses.asdict(outcome)) + "\n")
        say(f"Python {version}: {part}: {outcome.passed} passed, {outcome.failed} failed")
        for name in outcome.failures:
            say(f"    {name}")
        yield outcome


def run(version: str, binary: Path, tests: str, workers: int, digest: str) -> Outcome:
    """Runs a part of the suite; what pytest says is kept in a log beside the results."""
    name = tests.replace("/", "_")
    report, log = WORK / version / f"{name}.xml", WORK / version / f"{name}.log"
    report.unlink(missing_ok=True)
    command = [binary, "-m", "pytest", tests, "--ignore=tests/parity", "-q", f"--junitxml={report}"]
    command += (
        ["-n", str(workers), "--dist", "loadfile", "--no-loadscope-reorder"] if workers > 1 else []
    )
    start = time.monotonic()
    with log.open("w") as file:
        code = subprocess.run(
            command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, check=False
        ).returncode
    seconds = round(time.monotonic() - start, 1)
    cases = list(ElementTree.parse(report).iter("testcase")) if report.exists() else []
    bad = [c for c in cases if c.find("failure") is not None or c.find("error") is not None]
    skipped = sum(case.find("skipped") is not None for case in cases)
    names = [f"{case.get('classname')}::{case.get('name')}" for case in bad]
    if code and not names:
        names.append(f"pytest ended with {code}: {log}")
    passed = len(cases) - len(bad) - skipped
    return Outcome(tests, digest, passed, len(names), skipped, seconds, tuple(names))


def row(version: str, jax: str, found: Sequence[Outcome], *, whole: bool) -> list[str]:
    """Returns the cells of a version's row."""
    counts = [sum(getattr(o, name) for o in found) for name in ("passed", "failed", "skipped")]
    tests = "all" if whole else " ".join(outcome.tests for outcome in found)
    seconds = sum(outcome.seconds for outcome in found)
    return [version, jax, tests, *(f"{count:,}" for count in counts), f"{seconds:,.0f}"]


if __name__ == "__main__":
    sys.exit(main())
