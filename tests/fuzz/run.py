"""`make fuzz`: every target in a process of its own, with a table of what became of the cases.

python -m tests.fuzz.run --cases 100000 [--target NAME ...] [--docs docs/reliability.md]
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

from tests.tables import write_table

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = ("parser", "cases", "refused", "accepted", "tracebacks", "hangs", "peak MiB", "seconds")


def main() -> int:
    """Runs the targets and returns 1 if any case failed."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000, help="over all targets")
    parser.add_argument("--each", type=int, default=0, help="cases of each target instead")
    parser.add_argument("--target", action="append", default=[], help="only these")
    parser.add_argument("--json", type=Path, default=ROOT / ".cache" / "fuzz.json")
    parser.add_argument("--docs", type=Path, help="page whose table is replaced")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return run_child(args.target[0], args.each)

    from tests.fuzz.framework import Result, all_targets, shares, total

    found = all_targets()
    for name in args.target:
        if name not in [target.name for target in found]:
            parser.error(f"no target {name!r}: {', '.join(t.name for t in found)}")
    found = [target for target in found if not args.target or target.name in args.target]
    counts = shares(found, args.cases)
    results = []
    for target in found:
        count = args.each or counts[target.name]
        result = Result(**run_alone(target.name, count))
        results.append(result)
        print("  ".join(row(result)), flush=True)  # noqa: T201
        for key, example in result.failures.items():
            print(f"    {key}\n      {example}", flush=True)  # noqa: T201
    summed = total(results)
    print("  ".join(row(summed)))  # noqa: T201
    if args.target and args.json.exists():  # these rows take the place of a former run's
        former = [Result(**r) for r in json.loads(args.json.read_text(encoding="utf-8"))]
        new = {result.parser: result for result in results}
        results = [new.pop(result.parser, result) for result in former] + list(new.values())
    args.json.parent.mkdir(parents=True, exist_ok=True)
    records = [dataclasses.asdict(result) for result in results]
    args.json.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    if args.docs is not None:
        rows = [COLUMNS, *map(row, [*results, total(results)])]
        write_table(args.docs, "fuzz", rows, "l" + "r" * (len(COLUMNS) - 1))
    return 1 if summed.tracebacks or summed.hangs else 0


def run_alone(name: str, cases: int) -> dict:
    """Runs one target in a process of its own, whose peak memory and death are its own."""
    command = [sys.executable, "-m", "tests.fuzz.run", "--child", "--target", name]
    command += ["--each", str(cases)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        reason = f"the process ended with {done.returncode}: a crash or a hang in native code"
        return {"parser": name, "cases": cases, "hangs": 1, "failures": {"process": reason}}
    return json.loads(lines[-1])


def run_child(name: str, cases: int) -> int:
    """Runs one target here, with a line of progress on stderr, and prints its result as JSON."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", DeprecationWarning)
    import faulthandler

    from tests.fuzz import framework

    target = next(t for t in framework.all_targets() if t.name == name)
    done = 0

    def seen() -> None:
        nonlocal done
        done += 1
        if done % 100 == 1:  # no hundred cases take so long unless one hangs in native code
            faulthandler.dump_traceback_later(600, exit=True)
            sys.stderr.write(f"\r{name}: {done} of {cases} ")

    result = framework.run(target, cases, stop=False, seen=seen)
    sys.stderr.write("\r" + " " * 60 + "\r")
    print(json.dumps(dataclasses.asdict(result)))  # noqa: T201
    return 0


def row(result: object) -> list[str]:
    """Returns a result's cells."""
    cells = [getattr(result, name.replace(" ", "_").lower()) for name in COLUMNS]
    return [f"{round(cell, 1):,}" if isinstance(cell, int | float) else str(cell) for cell in cells]


if __name__ == "__main__":
    sys.exit(main())
