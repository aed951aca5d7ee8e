"""Packs a turn: the plan, the data set, wheels and the state so far, in parts that travel."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from tools.turns import pieces, state, wheels
from tools.turns.plan import Plan, Step, parse_plan, read_plan, to_json
from unclip_jax.core.errors import UserError
from unclip_jax.core.files import is_empty_folder, new_folder, read_mapping, whole_file
from unclip_jax.core.locks import locked

TURN = "turn.json"
RESULTS, DATA, WHEELS = "state", "data", "wheels"  # folders of a turn


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a training's config says, with the plan's flags.

    Attributes:
        learning_rate: at its peak.
        is_cosine: whether the learning rate decays to 0 by a cosine.
    """

    stage: str
    batch_size: int
    learning_rate: float
    is_cosine: bool


@dataclasses.dataclass(frozen=True)
class Job:
    """What turn.json holds: the plan, and what was looked up while packing."""

    plan: Plan
    settings: dict[str, Settings]
    python: str


def pack(plan_file: Path, turn: Path, *, size: int, part_mib: float, python: str | None) -> int:
    """Packs a turn and returns the number of its parts.

    Args:
        turn: folder of the family; a new one, or one with the state of earlier turns.
        size: longest side of the images in pixels.
        python: version of the other machine's Python; None packs no wheels.
    """
    plan = read_plan(plan_file)
    if turn.exists() and not (turn / TURN).exists() and not is_empty_folder(turn):
        raise UserError(f"{turn} exists and has no {TURN}; choose another --out")
    settings = {step.name: read_settings(step) for step in plan.steps if step.is_training}
    with locked(turn, "turns pack"):
        names = [TURN]
        if python is not None and plan.wheels:
            wheels.download(plan.wheels, python, turn / WHEELS)
            names.append(WHEELS)
        if plan.data:
            from tools.turns import data  # imports tfds

            data.write_small(plan.data, turn / DATA, size)
            names.append(DATA)
        if not (turn / RESULTS).exists():
            with new_folder(turn / RESULTS, state.STATE) as fresh:
                (fresh / state.STATE).write_text(state.to_text(state.State()), encoding="utf-8")
        write_job(turn, Job(plan, settings, python or ""))
        entries = pieces.list_files(turn, [*names, RESULTS])
        return pieces.write_parts(turn, entries, int(part_mib * 2**20))


def read_settings(step: Step) -> Settings:
    """Reads what a training's config says, with the plan's flags."""
    from unclip_jax.cli.config_files import read_config

    config = read_config(step.config, list(step.flags))
    optim = config["optim"]
    settings = Settings(
        stage=config["stage"],
        batch_size=config["train"]["batch_size"],
        learning_rate=float(optim["learning_rate"]),
        is_cosine=optim["schedule"] == "cosine",
    )
    if settings.batch_size < 1:
        raise UserError(f"{step.config}: batch_size={settings.batch_size} must be at least 1")
    return settings


def write_job(turn: Path, job: Job) -> None:
    """Writes turn.json."""
    settings = {name: dataclasses.asdict(found) for name, found in job.settings.items()}
    values = {"plan": to_json(job.plan), "settings": settings, "python": job.python}
    with whole_file(turn / TURN) as part:
        part.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def read_job(folder: Path) -> Job:
    """Reads turn.json of a folder.

    Raises:
        UserError: it is missing or damaged.
    """
    path = folder / TURN
    found: dict[str, Any] = read_mapping(path, remedy="run python -m tools.turns pack again")
    plan = parse_plan(found.get("plan"), str(path))
    try:
        settings = {name: Settings(**values) for name, values in found["settings"].items()}
        python = str(found["python"])
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error}); pack again") from error
    lacking = [s.name for s in plan.steps if s.is_training and s.name not in settings]
    if lacking:
        raise UserError(f"{path} has no settings of {', '.join(lacking)}; pack again")
    return Job(plan, settings, python)
