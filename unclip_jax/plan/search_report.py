"""A search as lines of text and as JSON."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from unclip_jax.plan.search import Found, Row

SHOWN = 12
"""Rows that are printed at most, beside the front and the compiled ones."""

HEAD = ("", "remat", "micro-batches", "data x fsdp x tensor", "GiB a chip", "step, s", "MFU", "")


def search_lines(found: Found) -> Iterator[str]:
    """Yields a table: the Pareto front, what was compiled, and the fastest of the rest."""
    plan, topology = found.plan, found.topology
    limit, chips = topology.chip.hbm_bytes / 2**30, f"{topology.chips} x {topology.chip.name}"
    yield f"{plan.stage}, {plan.batch_size:,} examples a step, {chips}"
    fitting = sum(row.fits for row in found.rows)
    yield f"{found.tried} candidates; {fitting} within {limit:.0f} GiB a chip"
    table = [HEAD, *(_cells(found, row) for row in shown_rows(found))]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        yield "  ".join(map(str.ljust, cells, widths)).rstrip()
    yield "> chosen   * on the front: none is both faster and smaller   = the config as it is"
    if found.chosen is None:
        yield "nothing fits: take more chips, or a smaller batch (which changes what is learned)"
    else:
        yield _bounds(found.chosen)


def shown_rows(found: Found) -> list[Row]:
    """Returns the rows worth showing, fastest first."""
    rest = [row for row in found.rows if row not in found.front][:SHOWN]
    return [
        row
        for row in found.rows
        if row in found.front
        or row in rest[: SHOWN - len(found.front)]
        or row == found.current
        or "compiled" in row.source
    ]


def search_json(found: Found) -> dict[str, Any]:
    """Returns the search as JSON-able values."""
    return {
        "stage": found.plan.stage,
        "topology": found.topology.name,
        "batch_size": found.plan.batch_size,
        "hbm_limit_bytes": found.topology.chip.hbm_bytes,
        "tried": found.tried,
        "rows": [_row_json(found, row) for row in shown_rows(found)],
    }


def _row_json(found: Found, row: Row) -> dict[str, Any]:
    own = {k: v for k, v in dataclasses.asdict(row).items() if k not in ("candidate", "estimate")}
    place = {"on_front": row in found.front, "is_chosen": row == found.chosen}
    place["is_current"] = row == found.current
    known = {**dataclasses.asdict(row.estimate), **own}  # its figures may be the compiler's
    return {**dataclasses.asdict(row.candidate), **known, **place}


def _cells(found: Found, row: Row) -> tuple[str, ...]:
    mark = ">" if row == found.chosen else "*" if row in found.front else ""
    mark += "=" if row == found.current else ""
    candidate = row.candidate
    return (
        mark,
        candidate.remat,
        str(candidate.accumulation),
        " x ".join(map(str, candidate.mesh)),
        f"{row.memory_bytes / 2**30:.2f}",
        f"{row.step_seconds:.4g}",
        f"{row.mfu:.1%}",
        row.source if row.fits else f"{row.source}: does not fit",
    )


def _bounds(row: Row) -> str:
    """Says what a step's time consists of."""
    cost = row.estimate
    parts = {
        "arithmetic": cost.arithmetic_seconds,
        "padding": cost.padding_seconds,
        "memory traffic": cost.traffic_seconds,
        "collectives": cost.collective_seconds,
    }
    text = ", ".join(f"{name} {seconds:.3g} s" for name, seconds in parts.items())
    return f"of the chosen one, each alone at peak rate: {text}"
