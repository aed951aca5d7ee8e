"""`make kill-test`: kills every command at random moments, plays the scenarios, writes the tables.

python -m tests.kill.run [--kills 20] [--only NAME ...] [--fresh] [--docs docs/reliability.md]
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.kill.jobs import JOBS, ROOT, WORK, Job, check
from tests.kill.scenarios import SCENARIOS
from tests.tables import write_table

RESULTS = ROOT / ".cache" / "kill_results.jsonl"
KILLS_A_CHAIN = 5
# What unfinished work looks like on disk.
UNFINISHED = ("checkpoints/*.orbax-checkpoint-tmp", ".*.part", "*.part", "../.{name}.*.part")


def main() -> int:
    """Runs what is missing in the results and returns 1 if anything was lost."""
    parser = argparse.ArgumentParser(prog="make kill-test", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="of each command")
    parser.add_argument("--only", nargs="*", default=[], help="these commands or scenarios")
    parser.add_argument("--fresh", action="store_true", help="forget earlier results")
    parser.add_argument("--docs", type=Path, help="page whose tables are replaced")
    args = parser.parse_args()
    names = [job.name for job in JOBS] + list(SCENARIOS)
    unknown = sorted(set(args.only) - set(names))
    if unknown:
        parser.error(f"no {', '.join(unknown)}; there are {', '.join(names)}")
    wanted = args.only or names
    if args.fresh:
        RESULTS.unlink(missing_ok=True)
        shutil.rmtree(WORK, ignore_errors=True)
    for job in JOBS:
        if job.name in wanted:
            kill_job(job, args.kills)
    for name, scenario in SCENARIOS.items():
        if name in wanted and name not in {r.get("scenario") for r in results()}:
            keep(play(name, scenario))
    found = list(results())
    if args.docs is not None:
        write_table(args.docs, "kills", kill_rows(found))
        write_table(args.docs, "scenarios", scenario_rows(found))
    return 0 if all(result["ok"] for result in found) else 1


def results() -> Iterator[dict[str, Any]]:
    """Yields the results so far."""
    if RESULTS.exists():
        yield from map(json.loads, RESULTS.read_text(encoding="utf-8").splitlines())


def keep(result: dict[str, Any]) -> None:
    """Appends a result, and says it."""
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(result) + "\n")
    print(json.dumps(result), flush=True)  # noqa: T201


def kill_job(job: Job, kills: int) -> None:
    """Runs chains of kills until a command has had its number."""
    done = sum(len(r["kills"]) for r in results() if r.get("command") == job.name)
    whole = WORK / "whole" / job.name
    if done >= kills:
        return
    if not (WORK / "whole" / f"{job.name}.seconds").exists():
        shutil.rmtree(whole, ignore_errors=True)
        check(job.run(whole))  # fills the compile cache
        shutil.rmtree(whole)
        start = time.monotonic()
        check(job.run(whole))
        (WORK / "whole" / f"{job.name}.seconds").write_text(str(time.monotonic() - start))
    seconds = float((WORK / "whole" / f"{job.name}.seconds").read_text())
    while done < kills:
        count = min(KILLS_A_CHAIN, kills - done)
        keep(chain(job, whole, seconds, count))
        done += count


def chain(job: Job, whole: Path, seconds: float, count: int) -> dict[str, Any]:
    """Kills a command `count` times in one folder, lets it finish, and compares."""
    seed = time.time_ns() % 2**32
    rng, kills = random.Random(seed), []
    folder = WORK / "killed" / job.name
    shutil.rmtree(folder, ignore_errors=True)
    out = folder / "out"
    out.parent.mkdir(parents=True)
    for number in range(count):
        kills.append(kill_once(job, out, rng, seconds, in_save=number % 2 == 1))
    result = {"command": job.name, "seed": seed, "kills": kills, "ok": True}
    try:
        check(job.run(out))
        assert job.result(out) == job.result(whole), differing(job.result(out), job.result(whole))
        left = [p.name for p in [*folder.iterdir(), *out.iterdir()] if is_left(p)]
        assert not left, f"left: {left}"
    except AssertionError as error:
        result |= {"ok": False, "why": str(error)[:1000]}
        shutil.move(folder, folder.with_name(f"{job.name}-{seed}"))  # to be looked at
    return result


def kill_once(job: Job, out: Path, rng: random.Random, seconds: float, *, in_save: bool) -> dict:
    """Starts a command and kills it; returns when that was, and what it was killed in."""
    process = job.start(out, subprocess.DEVNULL)
    start = time.monotonic()
    moment = start + rng.uniform(0.0, seconds)
    while process.poll() is None and time.monotonic() < moment:
        time.sleep(0.002)
    if in_save:
        until = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < until and not unfinished(out):
            time.sleep(0.001)
        time.sleep(rng.uniform(0.0, 0.02))
    saving = unfinished(out)
    alive = process.poll() is None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return {"at": round(time.monotonic() - start, 2), "alive": alive, "in_save": saving and alive}


def unfinished(out: Path) -> bool:
    """Whether something half-written is to be seen."""
    patterns = [pattern.format(name=out.name) for pattern in UNFINISHED]
    with contextlib.suppress(OSError):
        return any(True for pattern in patterns for _ in glob(out, pattern))
    return False


def glob(out: Path, pattern: str) -> Iterable[Path]:
    """Globs below a folder or beside it."""
    if pattern.startswith("../"):
        return out.parent.glob(pattern[3:])
    return out.glob(pattern)


def is_left(path: Path) -> bool:
    """Whether a file is of work that was never finished."""
    return path.name.endswith((".part", ".lock", "-tmp", ".damaged"))


def differing(ours: Any, theirs: Any) -> str:
    """Names what differs between two results."""
    keys = sorted(key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key))
    return f"unequal: {', '.join(keys[:8])}"


def play(name: str, scenario: Any) -> dict[str, Any]:
    """Plays a scenario in a fresh folder."""
    folder = WORK / "scenarios" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    start = time.monotonic()
    try:
        note, ok = scenario(folder), True
    except AssertionError as error:
        note, ok = str(error)[:1000], False
    return {"scenario": name, "ok": ok, "note": note, "seconds": round(time.monotonic() - start)}


def kill_rows(found: list[dict[str, Any]]) -> list[list[Any]]:
    """Returns the table of kills."""
    rows = [["command", "kills", "while running", "in a save", "chains", "lost or unequal"]]
    for job in JOBS:
        chains = [r for r in found if r.get("command") == job.name]
        kills = [kill for r in chains for kill in r["kills"]]
        alive, saves = sum(k["alive"] for k in kills), sum(k["in_save"] for k in kills)
        bad = sum(not r["ok"] for r in chains)
        rows.append([job.name, len(kills), alive, saves, len(chains), bad])
    return rows


def scenario_rows(found: list[dict[str, Any]]) -> list[list[Any]]:
    """Returns the table of scenarios."""
    rows = [["scenario", "outcome", "what was seen"]]
    for result in found:
        if "scenario" in result:
            name = result["scenario"].replace("_", " ")
            rows.append([name, "passed" if result["ok"] else "FAILED", result["note"]])
    return rows


if __name__ == "__main__":
    sys.exit(main())
