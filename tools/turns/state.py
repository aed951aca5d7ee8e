"""How far a family is: images seen per step, rates, losses; and what is left to do."""

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tools.turns.plan import Plan, Step
from unclip_jax.core.errors import UserError
from unclip_jax.core.files import read_mapping

STATE = "state.json"


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a step is.

    Attributes:
        images: training images seen, in all turns.
        is_done: of a step that is no training, whether its result is there.
        seconds: spent on it, in all turns.
        images_per_second: of the last turn, while training.
        overhead_seconds: of the last turn: set-up, compilation and closing.
        closing_seconds: of the last turn: from the request to stop to the files written.
        device: of the last turn.
        metrics: last rows of the record of the last turn.
        error: why the last turn did not get further; empty if nothing went wrong.
    """

    images: int = 0
    is_done: bool = False
    seconds: float = 0.0
    images_per_second: float = 0.0
    overhead_seconds: float = 0.0
    closing_seconds: float = 0.0
    device: str = ""
    metrics: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    error: str = ""


@dataclasses.dataclass(frozen=True)
class State:
    """How far a family is.

    Attributes:
        turns: ids of the turns that led here, in order.
        turn_seconds: length of the last turn; 0 before the first.
    """

    steps: Mapping[str, Progress] = dataclasses.field(default_factory=dict)
    turns: tuple[str, ...] = ()
    turn_seconds: float = 0.0

    def of(self, step: Step) -> Progress:
        """Returns the progress of a step."""
        return self.steps.get(step.name, Progress())

    def is_finished(self, step: Step) -> bool:
        """Whether nothing of a step is left."""
        found = self.of(step)
        return found.images >= step.images if step.is_training else found.is_done

    def with_step(self, name: str, progress: Progress) -> "State":
        """Returns the state with another progress of a step."""
        return dataclasses.replace(self, steps={**self.steps, name: progress})


def read_state(path: Path) -> State:
    """Reads a state."""
    return parse_state(read_mapping(path), str(path))


def parse_state(found: Any, where: str) -> State:
    """Builds a state from parsed JSON.

    Raises:
        UserError: a field is unknown or has a wrong type.
    """
    try:
        steps = {str(name): _checked(Progress(**x)) for name, x in found["steps"].items()}
        turns, seconds = tuple(found["turns"]), float(found["turn_seconds"])
        if not all(isinstance(turn, str) for turn in turns):
            raise TypeError("turns must be texts")
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise UserError(f"{where} is not a state of turns ({error}); copy it again") from error
    return State(steps, turns, seconds)


def _checked(progress: Progress) -> Progress:
    for field in dataclasses.fields(Progress):
        value, default = getattr(progress, field.name), Progress.__dict__.get(field.name)
        kinds = (int, float) if isinstance(default, float) else (type(default),)
        if default is None:
            kinds = (dict,)
        if type(value) not in kinds:
            raise TypeError(f"{field.name}={value!r:.40}")
    return progress


def to_text(state: State) -> str:
    """Returns the state as the text of its file."""
    return json.dumps(dataclasses.asdict(state), indent=1) + "\n"


def next_steps(plan: Plan, state: State) -> list[Step]:
    """Lists the unfinished steps whose needs are finished."""
    finished = {step.name for step in plan.steps if state.is_finished(step)}
    return [s for s in plan.steps if s.name not in finished and set(s.needs) <= finished]


def rate_after(rate: float, done: int, wanted: int) -> float:
    """Returns the peak learning rate with which a turn goes on after `done` images.

    A turn starts a cosine of its own over the images that are left; its peak is where one cosine
    over all wanted images would be, rate (1 + cos(pi done / wanted)) / 2.
    """
    return rate * (1.0 + math.cos(math.pi * done / wanted)) / 2.0


def turns_left(step: Step, progress: Progress, turn_seconds: float) -> float | None:
    """Estimates how many turns the rest of a training takes; None where no rate is known."""
    left = max(0, step.images - progress.images)
    training = turn_seconds - progress.overhead_seconds
    if not left:
        return 0.0
    if progress.images_per_second <= 0 or training <= 0:
        return None
    return left / progress.images_per_second / training


def lines(plan: Plan, state: State) -> Iterable[str]:
    """Yields a line for each step, and one of what is left."""
    total, is_known = 0.0, True
    for step in plan.steps:
        found = state.of(step)
        if not step.is_training:
            words = ["done" if found.is_done else "to do"]
        else:
            turns = turns_left(step, found, state.turn_seconds)
            total, is_known = total + (turns or 0.0), is_known and turns is not None
            words = [f"{found.images:,} of {step.images:,} images"]
            if found.images_per_second:
                words.append(f"{found.images_per_second:,.0f} images/s")
            if "loss" in found.metrics:
                words.append(f"loss {found.metrics['loss']}")
            if turns:
                words.append(f"about {max(turns, 0.1):.1f} turns left")
        if found.error and not state.is_finished(step):
            words.append(f"stopped: {found.error}")
        yield f"{step.name}: {', '.join(words)}"
    left = sum(max(0, s.images - state.of(s).images) for s in plan.steps)
    if not left and all(map(state.is_finished, plan.steps)):
        yield "all stages are finished"
    else:
        turns = f"about {max(1, math.ceil(total))} turns" if is_known else "turns unknown yet"
        yield f"left: {left:,} images, {turns}"
