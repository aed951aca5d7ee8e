"""One turn on the other machine: joins the parts, works through the plan, leaves the results."""

import dataclasses
import hashlib
import json
import os
import secrets
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from tools.turns import pieces, record, state, wheels
from tools.turns.clock import Clock, run
from tools.turns.pack import DATA, RESULTS, TURN, WHEELS, Job, read_job
from tools.turns.plan import OUT, Plan, Step
from tools.turns.state import Progress, State, read_state
from unclip_jax.core.errors import UserError, one_line, shorten
from unclip_jax.core.files import new_folder, refuse_taken, whole_file
from unclip_jax.core.locks import locked

ROOT = Path(__file__).resolve().parents[2]
WORK = "work"
LOG_LINES = 60  # of each step, that are brought back


@dataclasses.dataclass
class Turn:
    """A turn under way.

    Attributes:
        work: folder of everything that the turn writes but its results.
        out: folder of the results.
        file_limit: most bytes of a file in `out`.
        least: seconds without which no step is begun.
        sent: files and pieces of the results in `out`, by step.
        seconds: time for steps, without the reserve.
    """

    job: Job
    state: State
    work: Path
    out: Path
    clock: Clock
    file_limit: int
    least: float
    say: Callable[[str], None]
    id: str = dataclasses.field(default_factory=lambda: secrets.token_hex(8))
    sent: dict[str, dict] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0

    @property
    def plan(self) -> Plan:
        """The plan of the family."""
        return self.job.plan

    def log_of(self, step: Step) -> Path:
        """Returns the file for what a step prints."""
        return self.work / "logs" / f"{step.name}.log"

    def run_of(self, step: Step) -> Path:
        """Returns the folder that a step works in."""
        return self.work / "runs" / step.name

    def fresh(self, step: Step) -> Path:
        """Returns the folder for a step's result of this turn."""
        return self.work / "results" / step.name

    def result(self, name: str) -> Path:
        """Returns a step's result: a bundle, or a file; of this turn or of an earlier one."""
        step = next(step for step in self.plan.steps if step.name == name)
        kept = self.work / "joined" / RESULTS / name
        return (self.fresh(step) if self.fresh(step).exists() else kept) / step.result

    def places(self, step: Step) -> dict[str, str]:
        """Returns what the places in a step's words stand for."""
        places = {name: str(self.result(name).resolve()) for name in step.needs}
        places |= {family: str(self.family(family)) for family in step.families}
        return places | {OUT: str(self.run_of(step).resolve())}

    def family(self, names: str) -> Path:
        """Returns one bundle of the stages "a+b", made once a turn."""
        out = (self.work / "families" / names).resolve()
        if not out.exists():
            sources = [str(self.result(name).resolve()) for name in names.split("+")]
            command = [sys.executable, "-m", "tools.turns.bundles", "--family", str(out), *sources]
            env, log = self.environment() | {"JAX_PLATFORMS": "cpu"}, self.work / "logs" / names
            code, _ = run(command, log, self.clock, env=env)
            if code != 0:
                raise UserError(f"no bundle of {names}: {reason(log, code)}")
        return out

    def environment(self) -> dict[str, str]:
        """Returns the variables of the turn's processes."""
        env, joined = dict(os.environ), (self.work / "joined").resolve()
        paths = [str(ROOT), str((self.work / "site").resolve()), env.get("PYTHONPATH", "")]
        env["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        env.setdefault("JAX_COMPILATION_CACHE_DIR", str((self.work / "cache").resolve()))
        env["TQDM_DISABLE"] = "1"
        if (joined / DATA).is_dir():
            env["UNCLIP_DATA"] = str(joined / DATA)
        return env

    def send(self, step: Step) -> None:
        """Puts a step's result of this turn into `out`, in files of bounded size."""
        root = self.work / "results"
        entries, sent = pieces.list_files(root, [step.name]), []
        for number, piece in enumerate(pieces.cut(root, entries, self.file_limit), 1):
            name = f"{step.name}.{number}"
            with whole_file(self.out / name) as part:
                part.write_bytes(piece)
            digest = hashlib.sha256(piece).hexdigest()
            sent.append({"name": name, "bytes": len(piece), "sha256": digest})
        files = [dataclasses.asdict(entry) for entry in entries]
        self.sent[step.name] = {"files": files, "pieces": sent}

    def write(self, before: State) -> None:
        """Writes state.json and log.txt into `out`; what is there by then is whole."""
        turns = (*before.turns, self.id)
        now = dataclasses.replace(self.state, turns=turns, turn_seconds=self.seconds)
        values = {"state": dataclasses.asdict(now), "results": self.sent}
        lines = []
        for step in self.plan.steps:
            tail = record.tail(self.log_of(step), LOG_LINES)
            lines += [f"== {step.name}", *tail] if tail else []
        with whole_file(self.out / "log.txt") as part:
            part.write_text("\n".join([*lines, ""]), encoding="utf-8")
        with whole_file(self.out / state.STATE) as part:
            part.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def open_turn(
    folder: Path,
    out: Path,
    clock: Clock,
    *,
    file_limit: int,
    least: float,
    say: Callable[[str], None],
) -> Turn:
    """Joins the parts of a turn and unpacks its wheels."""
    parts, entries = pieces.read_parts(folder)
    work = folder / WORK
    for name in ("runs", "results", "logs", "families"):
        shutil.rmtree(work / name, ignore_errors=True)
        (work / name).mkdir(parents=True)
    with new_folder(work / "joined", TURN, overwrite=True) as fresh:
        pieces.join(parts, entries, fresh, str(folder))
    job = read_job(work / "joined")
    count = wheels.unpack(work / "joined" / WHEELS, work / "site", job.python)
    say(f"{len(parts)} parts joined, {count} wheels unpacked")
    found = read_state(work / "joined" / RESULTS / state.STATE)
    return Turn(job, found, work, out, clock, file_limit, least, say)


def run_turn(
    folder: Path,
    out: Path,
    clock: Clock,
    *,
    file_mib: float,
    least: float,
    say: Callable[[str], None],
) -> bool:
    """Works through the plan until it is done or the time is up.

    Returns:
        Whether every step that was begun went well.
    """
    from tools.turns.steps import work_on

    refuse_taken(out, state.STATE)
    if not pieces.parts_of(folder):
        raise UserError(f"{folder} has no part1; copy the parts that pack wrote there")
    with locked(folder / WORK, "turns run"), clock.ended_by_signals():
        limit = int(file_mib * 2**20)
        turn = open_turn(folder, out, clock, file_limit=limit, least=least, say=say)
        turn.seconds = round(clock.until_stop(), 1)
        before, tried, failed = turn.state, set(), False
        out.mkdir(parents=True, exist_ok=True)
        turn.write(before)
        while ready := [s for s in state.next_steps(turn.plan, turn.state) if s.name not in tried]:
            step = ready[0]
            tried.add(step.name)
            if not has_time(turn, step):
                say(f"{step.name}: no time left to begin")
                continue
            progress = work_on(turn, step)
            turn.state = turn.state.with_step(step.name, progress)
            turn.write(before)
            failed = failed or bool(progress.error)
            say(f"{step.name}: {progress.error or 'fine'}")
        for line in state.lines(turn.plan, turn.state):
            say(line)
        return not failed


def has_time(turn: Turn, step: Step) -> bool:
    """Whether a step would come as far as training before it has to stop."""
    last = turn.state.of(step)
    return turn.clock.until_stop(reserve_for(last)) > max(turn.least, last.overhead_seconds)


def reserve_for(last: Progress) -> float:
    """Returns the seconds that closing a step needs: half as much again as in the last turn."""
    return 1.5 * last.closing_seconds


def reason(log: Path, code: int) -> str:
    """Returns why a process failed: the last line that it printed, or else its exit code."""
    lines = record.tail(log, 1)
    return shorten(one_line(lines[0]), 300) if lines else f"it ended with code {code}"
