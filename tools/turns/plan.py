"""The plan of a family: its steps in order, what each needs, and how much of each is wanted."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unclip_jax.core.errors import UserError
from unclip_jax.core.files import read_mapping

NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,199}")
# "{clip}" is the result of step clip, "{clip+prior}" one bundle of both.
PLACE = re.compile(r"\{([a-z0-9_+]*)\}")
OUT = "out"  # "{out}" in a command: the folder that it writes
COMMANDS = ("embed", "eval")  # of unclip, that a step may be


@dataclasses.dataclass(frozen=True)
class Step:
    """One step: the training of a stage, or another command whose result later steps read.

    Attributes:
        needs: steps that have to be finished before.
        config: of a training, as `unclip train --config` takes it.
        flags: further flags of the training; "{clip}" is the bundle of step clip.
        images: training images wanted in all turns together.
        images_per_turn: most training images of one turn; 0 is no limit.
        command: words of another command; "{out}" is the folder that it writes.
        result: name of the file in that folder that later steps read.
        pca: step whose principal components the bundle includes; empty for none.
    """

    name: str
    needs: tuple[str, ...] = ()
    config: str = ""
    flags: tuple[str, ...] = ()
    images: int = 0
    images_per_turn: int = 0
    command: tuple[str, ...] = ()
    result: str = ""
    pca: str = ""

    @property
    def is_training(self) -> bool:
        """Whether the step trains a stage."""
        return bool(self.config)

    @property
    def families(self) -> tuple[str, ...]:
        """The places "a+b" in its words: one bundle of the stages a and b."""
        return tuple(place for place in _places(self.flags, self.command) if "+" in place)


@dataclasses.dataclass(frozen=True)
class Plan:
    """A family: its data set and its steps.

    Attributes:
        data: name or folder of the prepared data set that travels; empty for none.
        wheels: names of the packages that the other machine lacks.
    """

    name: str
    steps: tuple[Step, ...]
    data: str = ""
    wheels: tuple[str, ...] = ()


def read_plan(path: Path) -> Plan:
    """Reads a plan.

    Raises:
        UserError: it cannot be read, or a step of it makes no sense.
    """
    return parse_plan(read_mapping(path, remedy="see docs/turns.md"), str(path))


def parse_plan(found: Any, where: str) -> Plan:
    """Builds and checks a plan from parsed JSON; `where` names it in messages."""
    kinds = {"name": str, "data": str, "wheels": list, "stages": list}
    _check_keys(found, kinds, where)
    wheels = _words(found.get("wheels", []), f"{where}: wheels")
    for wheel in wheels:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*(==[A-Za-z0-9.+!]+)?", wheel):
            raise UserError(f"{where}: wheels: {wheel!r} is not NAME or NAME==VERSION")
    steps: list[Step] = []
    for entry in found.get("stages", []):
        steps.append(_step(entry, tuple(step.name for step in steps), where))
    if not steps:
        raise UserError(f"{where} has no stages")
    name = _name(found.get("name"), where)
    return Plan(name, tuple(steps), found.get("data", ""), wheels)


def to_json(plan: Plan) -> dict[str, Any]:
    """Returns the plan as `parse_plan` reads it."""
    steps = []
    for step in plan.steps:
        values = {key: value for key, value in dataclasses.asdict(step).items() if value}
        steps.append({k: list(v) if isinstance(v, tuple) else v for k, v in values.items()})
    return {"name": plan.name, "data": plan.data, "wheels": list(plan.wheels), "stages": steps}


def fill(words: tuple[str, ...], results: Mapping[str, str]) -> list[str]:
    """Replaces every "{name}" in words by the path of that step's result."""
    return [PLACE.sub(lambda found: results[found[1]], word) for word in words]


def _step(entry: Any, earlier: tuple[str, ...], where: str) -> Step:
    kinds = {"name": str, "needs": list, "config": str, "flags": list, "images": int}
    kinds |= {"images_per_turn": int, "command": list, "result": str, "pca": str}
    _check_keys(entry, kinds, where)
    name = _name(entry.get("name"), where)
    where = f"{where}: stage {name}"
    if name in earlier or name == OUT:
        raise UserError(f"{where}: the name is taken; choose another")
    lists = ("needs", "flags", "command")
    words = {key: _words(entry.get(key, []), f"{where}: {key}") for key in lists}
    rest = {k: v for k, v in entry.items() if k not in (*lists, "name")}
    step = Step(name, **words, **rest)
    if step.is_training == bool(step.command):
        raise UserError(f"{where}: give either config and images, or command and result")
    if step.is_training and (step.images < 1 or step.images_per_turn < 0):
        raise UserError(f"{where}: images={step.images} must be at least 1")
    if step.command and (step.command[0] not in COMMANDS or not FILE.fullmatch(step.result)):
        raise UserError(
            f"{where}: command must be {' or '.join(COMMANDS)} of unclip, result a file's name"
        )
    for need in step.needs:
        if need not in earlier:
            raise UserError(f"{where}: needs {need!r}, which is not an earlier stage")
    known = {*step.needs, *([OUT] if step.command else [])}
    used = _places(step.flags, step.command) + ((step.pca,) if step.pca else ())
    for place in used:
        if not known.issuperset(place.split("+")):
            raise UserError(f"{where}: {{{place}}} is not among its needs")
    return step


def _places(*lists: tuple[str, ...]) -> tuple[str, ...]:
    found = {place for words in lists for word in words for place in PLACE.findall(word)}
    return tuple(sorted(found))


def _check_keys(found: Any, kinds: Mapping[str, type], where: str) -> None:
    if not isinstance(found, dict):
        raise UserError(f"{where} has a {type(found).__name__} where an object belongs")
    for key, value in found.items():
        if key not in kinds:
            raise UserError(f"{where}: unknown key {key!r}; known: {', '.join(kinds)}")
        if type(value) is not kinds[key]:
            raise UserError(f"{where}: {key} must be a {kinds[key].__name__}, not {value!r:.80}")


def _name(value: Any, where: str) -> str:
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise UserError(f"{where}: name {value!r:.80} must be lower-case letters, digits and _")
    return value


def _words(values: Any, where: str) -> tuple[str, ...]:
    for value in values:
        if not isinstance(value, str) or not value.isprintable():
            raise UserError(f"{where}: {value!r:.80} is not a line of text")
    return tuple(values)
