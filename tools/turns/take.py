"""Takes what a turn brought back: checks it and puts bundles and state in place."""

import shutil
from pathlib import Path
from typing import Any

from tools.turns import pieces, state
from tools.turns.pack import RESULTS, read_job
from tools.turns.plan import FILE, NAME
from tools.turns.state import State, parse_state, read_state
from unclip_jax.core.errors import UserError
from unclip_jax.core.files import new_folder, read_mapping
from unclip_jax.core.locks import locked


def take(out: Path, turn: Path) -> tuple[State, bool]:
    """Puts the results of a turn into TURN/state, completely or not at all.

    Returns:
        The state, and whether anything was new: a second call changes nothing.

    Raises:
        UserError: a file is missing or damaged, or `out` does not go on from the state of `turn`.
    """
    job = read_job(turn)
    brought = read_mapping(out / state.STATE, remedy="bring it back again")
    after = parse_state(brought.get("state"), str(out / state.STATE))
    results = brought.get("results")
    if not isinstance(results, dict):
        raise UserError(f"{out / state.STATE} lists no results; bring it back again")
    with locked(turn, "turns take"):
        before = read_state(turn / RESULTS / state.STATE)
        if after.turns and after.turns[-1] in before.turns:
            return before, False
        if after.turns[:-1] != before.turns or not after.turns:
            raise UserError(
                f"{out} goes on from another state than that of {turn}; take the turns in their "
                "order, and one of two that began alike"
            )
        known = {step.name for step in job.plan.steps}
        with new_folder(turn / RESULTS, state.STATE, overwrite=True) as fresh:
            for name, found in results.items():
                if not NAME.fullmatch(str(name)) or name not in known:
                    raise UserError(f"{out / state.STATE} has {name!r:.60}, which is no stage")
                _join(out, name, found, fresh)
            for old in sorted(p for p in (turn / RESULTS).iterdir() if p.is_dir()):
                if old.name not in results:
                    shutil.copytree(old, fresh / old.name)
            (fresh / state.STATE).write_text(state.to_text(after), encoding="utf-8")
    return after, True


def _join(out: Path, name: str, found: Any, fresh: Path) -> None:
    """Joins the pieces of a step's result."""
    where = out / state.STATE
    if not isinstance(found, dict) or not isinstance(found.get("pieces"), list):
        raise UserError(f"{where} lists no pieces of {name}; bring it back again")
    entries = pieces.parse_entries(found.get("files"), str(where))
    if any(not entry.name.startswith(f"{name}/") for entry in entries):
        raise UserError(f"{where} lists a file of {name} outside of its folder")
    read = []
    for piece in found["pieces"]:
        file = piece.get("name") if isinstance(piece, dict) else None
        if not isinstance(file, str) or not FILE.fullmatch(file):
            raise UserError(f"{where} lists {piece!r:.60}, which is no piece")
        read.append(pieces.read_piece(out / file, piece.get("bytes"), piece.get("sha256")))
    pieces.join(read, entries, fresh, f"{out}/{name}.*")
