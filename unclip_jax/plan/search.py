"""Searches for the fastest way to run a config's training step that fits its chips.

Every candidate is estimated; those whose state, gradients and activations exceed the chip's memory
are dropped. Of the rest the fastest are compiled, those that are sure to fit before the others, the
best of every rematerialization first, and the compiler's figures replace the estimates. Results of
compilations are cached, also that a step does not fit, so that a search that was killed goes on
where it was.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from unclip_jax.core.chips import Topology
from unclip_jax.core.errors import UserError
from unclip_jax.plan.candidates import (
    Candidate,
    Cost,
    Estimator,
    candidates,
    current_candidate,
)
from unclip_jax.plan.compile import DoesNotFitError, compile_plan
from unclip_jax.plan.estimate import Plan, plan_program, planned_program
from unclip_jax.train.program import Program

CLOSE = 0.01
"""Rows whose times differ by less than this share are equally fast: the one with less memory is
chosen."""


MARGIN = 0.85
"""Share of a chip's memory that an estimate may take to be chosen without a compilation: estimates
are up to an eighth too low, and of a U-Net's `dots` far more (docs/scale.md)."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One candidate and what is known about it.

    Attributes:
        estimate: of memory and time.
        source: of the three values below.
        mfu: model FLOPs over the step's time and the chips' peak.
        fits: whether a chip can hold it.
    """

    candidate: Candidate
    estimate: Cost
    source: str
    memory_bytes: int
    step_seconds: float
    mfu: float
    fits: bool


@dataclasses.dataclass(frozen=True)
class Found:
    """The result of a search.

    Attributes:
        rows: that fit by estimate, fastest first, those that the compiler refused last; all of them
            if none fits.
        front: those that no other beats in both memory and time.
        chosen: the fastest that is sure to fit; None where nothing fits.
        current: the config as it is; None if it does not fit, or has several rematerializations.
        tried: number of candidates.
    """

    plan: Plan
    topology: Topology
    rows: tuple[Row, ...]
    front: tuple[Row, ...]
    chosen: Row | None
    current: Row | None
    tried: int


def search(
    config: Mapping[str, Any],
    topology: Topology,
    clip: Mapping[str, Any] | None = None,
    *,
    compiles: int = 4,
    effort: float = -1.0,
    say: Callable[[str], None] = lambda text: None,
) -> Found:
    """Searches; see the head of the module.

    Args:
        clip: config of the CLIP, where there is no bundle of it yet.
        compiles: how many candidates are compiled at most.
        effort: of the compiler, -1 to 1.
        say: takes a line before each compilation.
    """
    program, _ = planned_program(config, clip)
    plan = plan_program(program)
    rows = estimated_rows(program, plan, topology)
    safe = MARGIN * topology.chip.hbm_bytes
    tried = len(rows)
    fitting = sorted((r for r in rows if r.fits), key=lambda row: row.memory_bytes > safe)
    if not rows:
        batch = program.settings.train.batch_size
        raise UserError(f"no mesh of {topology.chips} chips divides batches of {batch} examples")
    known = {row.candidate: row for row in fitting or rows}
    current = current_candidate(config, program, topology)
    for number, row in enumerate(first_of_each(fitting)[:compiles], 1):
        candidate = row.candidate
        say(f"compiling {number} of {min(compiles, len(fitting))}: {describe(candidate)}")
        changed = with_changes(config, candidate.changes(config))
        changed_program, _ = planned_program(changed, clip)
        known[candidate] = _compiled(row, changed_program, plan, topology, effort)
    ordered = tuple(sorted(known.values(), key=lambda row: (not row.fits, row.step_seconds)))
    able = [row for row in ordered if row.fits]
    chosen = choose(able, topology.chip.hbm_bytes)
    return Found(plan, topology, ordered, pareto(able), chosen, known.get(current), tried)


def estimated_rows(program: Program, plan: Plan, topology: Topology) -> list[Row]:
    """Returns every candidate with its estimates, fastest first."""
    estimator, rows = Estimator(program, plan, topology), []
    rate, limit = topology.chips * topology.chip.flops, topology.chip.hbm_bytes
    for candidate in candidates(program, topology.chips):
        cost = estimator.cost(candidate)
        mfu, fits = plan.flops_per_step / cost.seconds / rate, cost.memory_bytes <= limit
        known = ("estimated", cost.memory_bytes, cost.seconds, mfu, fits)
        rows.append(Row(candidate, cost, *known))
    return sorted(rows, key=lambda row: row.step_seconds)


def first_of_each(rows: Sequence[Row]) -> list[Row]:
    """Puts the first row of every rematerialization before the others: estimates can err."""
    seen: set[str] = set()
    first = []
    for row in rows:
        if row.candidate.remat not in seen:
            seen.add(row.candidate.remat)
            first.append(row)
    return first + [row for row in rows if row not in first]


def pareto(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Returns the rows that no other beats in both memory and time, fastest first."""
    front: list[Row] = []
    for row in sorted(rows, key=lambda row: (row.step_seconds, row.memory_bytes)):
        if not front or row.memory_bytes < front[-1].memory_bytes:
            front.append(row)
    return tuple(front)


def choose(rows: Sequence[Row], limit: int) -> Row | None:
    """Returns the fastest row, of equally fast ones that with the least memory.

    Where some are compiled, only those count; else those that take at most MARGIN of the memory, or
    fit by the compiler.

    Args:
        limit: bytes of a chip's memory.
    """
    rows = (
        [row for row in rows if row.source == "compiled"]
        or [r for r in rows if r.source != "estimated" or r.memory_bytes <= MARGIN * limit]
        or list(rows)
    )
    if not rows:
        return None
    slowest = min(row.step_seconds for row in rows) * (1 + CLOSE)
    return min((r for r in rows if r.step_seconds <= slowest), key=lambda row: row.memory_bytes)


def with_changes(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy of a config's sections with values replaced, by "SECTION.KEY"."""
    copy = {k: with_changes(v, {}) if isinstance(v, Mapping) else v for k, v in config.items()}
    for path, value in changes.items():
        *sections, key = path.split(".")
        section = copy
        for name in sections:
            section = section[name]
        section[key] = value
    return copy


def describe(candidate: Candidate) -> str:
    """Returns a candidate in a few words."""
    data, fsdp, tensor = candidate.mesh
    parts = f"{candidate.accumulation} micro-batch{'es' if candidate.accumulation > 1 else ''}"
    return f"remat {candidate.remat}, {parts}, mesh {data} x {fsdp} x {tensor}"


def _compiled(row: Row, program: Program, plan: Plan, topology: Topology, effort: float) -> Row:
    """Returns the row with the compiler's figures; it keeps the time that it gives none for."""
    try:
        made = compile_plan(program, plan, topology, effort=effort)
    except DoesNotFitError:
        return dataclasses.replace(row, source="compiled", fits=False)
    fits = made.hbm_bytes_per_chip <= topology.chip.hbm_bytes
    row = dataclasses.replace(row, memory_bytes=made.hbm_bytes_per_chip, fits=fits)
    if made.step_seconds is None or made.mfu is None:
        return dataclasses.replace(row, source="memory compiled")
    return dataclasses.replace(row, source="compiled", step_seconds=made.step_seconds, mfu=made.mfu)
