"""What travels between machines: plans, lists of files, states."""

import json
from pathlib import Path

from hypothesis import strategies as st

from tests.fuzz.framework import Target
from tests.fuzz.hostile import hostile_json

STAGES = [
    {"name": "clip", "config": "configs/emoji/clip.py", "images": 64, "flags": ["--config.seed=1"]},
    {"name": "pca", "command": ["embed", "{clip}", "{out}"], "result": "x", "needs": ["clip"]},
]
PROGRESS = {"images": 64, "seconds": 1.5, "metrics": {"loss": 0.5}, "device": "cpu", "error": ""}
FILE = {"name": "clip/bundle.json", "bytes": 3, "sha256": "0" * 64}


def plans() -> st.SearchStrategy[bytes]:
    return hostile_json({"name": "a", "data": "emoji", "wheels": ["flax"], "stages": STAGES})


def read_a_plan(case: bytes, folder: Path) -> None:
    from tools.turns.plan import parse_plan, read_plan, to_json

    (folder / "plan.json").write_bytes(case)
    found = read_plan(folder / "plan.json")
    assert parse_plan(to_json(found), "again") == found


def states() -> st.SearchStrategy[bytes]:
    return hostile_json({"steps": {"clip": PROGRESS}, "turns": ["0"], "turn_seconds": 480.0})


def read_a_state(case: bytes, folder: Path) -> None:
    from tools.turns.plan import parse_plan
    from tools.turns.state import lines, read_state

    (folder / "state.json").write_bytes(case)
    plan = parse_plan({"name": "a", "stages": STAGES}, "plan")
    assert all(lines(plan, read_state(folder / "state.json")))


def results() -> st.SearchStrategy[bytes]:
    piece = {"name": "clip.1", "bytes": 3, "sha256": "0" * 64}
    state = {"steps": {"clip": PROGRESS}, "turns": ["0"], "turn_seconds": 480.0}
    return hostile_json({"state": state, "results": {"clip": {"files": [FILE], "pieces": [piece]}}})


def take_results(case: bytes, folder: Path) -> None:
    from tools.turns.state import State, to_text
    from tools.turns.take import take

    out, turn = folder / "out", folder / "turn"
    out.mkdir()
    (turn / "state").mkdir(parents=True)
    (out / "state.json").write_bytes(case)
    (turn / "state" / "state.json").write_text(to_text(State()))
    settings = {"stage": "clip", "batch_size": 8, "learning_rate": 0.1, "is_cosine": True}
    plan = {"name": "a", "stages": STAGES}
    job = {"plan": plan, "settings": {"clip": settings}, "python": ""}
    (turn / "turn.json").write_text(json.dumps(job))
    take(out, turn)
    assert sorted(path.name for path in folder.iterdir()) == ["out", "turn"]


TARGETS = [
    Target("plan of turns", st.deferred(plans), read_a_plan, ms=3.0),
    Target("state.json of turns", st.deferred(states), read_a_state, ms=3.0),
    Target("results of a turn", st.deferred(results), take_results, ms=6.0),
]
