"""A training run's own files: its config, record, list of starts, and checkpoints."""

import functools
import json
import os
from pathlib import Path

from hypothesis import strategies as st

from tests.fuzz.framework import Target, kept_folder
from tests.fuzz.hostile import damaged, hostile_json

ROWS = b"".join(b'{"step": %d, "loss": 1.5, "skipped": 0}\n' % step for step in range(1, 21))
STARTS = [{"date": "2026-01-01", "versions": {"jax": "0.10.2"}, "devices": 1, "commit": None}]


@functools.cache
def sample() -> Path:
    """A finished run of one step, as `unclip export` takes it."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from tests.toy import CONTEXT, random_params, toy_specs
    from unclip_jax.checkpoint.store import CheckpointStore
    from unclip_jax.models.stages import spec_to_dict

    folder = kept_folder("runs")
    spec = toy_specs(4 * CONTEXT)["prior_diffusion"]
    sections = {"seed": 3, "clip": "", "data": {"name": "shapes"}, "optim": {}}
    sections["identity"] = {"clip": None, "data": "0" * 64}
    config = spec_to_dict(spec) | sections | {"train": {"steps": 1}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "environment.json").write_text(json.dumps(STARTS))
    np.save(folder / "variance_table.npy", np.linspace(0.1, 0.9, 1000))
    store = CheckpointStore(folder / "checkpoints")
    state = {"step": np.int32(1), "ema_params": random_params(spec, 0)}
    store.save(1, jax.tree.map(jnp.asarray, state), {"next": 1}, 0.5)
    store.close()
    return folder


def linked(folder: Path, but: str) -> Path:
    """Links the sample's files into the folder, all but one; returns where that one is to be."""
    for path in (path for path in sample().rglob("*") if path.is_file()):
        name = path.relative_to(sample()).as_posix()
        if name != but:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.link(path, folder / name)
    (folder / but).parent.mkdir(parents=True, exist_ok=True)
    return folder / but


def configs() -> st.SearchStrategy[bytes]:
    return hostile_json(json.loads((sample() / "config.json").read_text()))


def export_config(case: bytes, folder: Path) -> None:
    from unclip_jax.checkpoint.runs import read_run

    (folder / "config.json").write_bytes(case)
    read_run(folder)  # which ends at the latest where there is no checkpoint


def resume_config(case: bytes, folder: Path) -> None:
    from unclip_jax.train.resolve import write_or_check_config

    (folder / "config.json").write_bytes(case)
    config = json.loads((sample() / "config.json").read_text())
    write_or_check_config(folder / "config.json", config, is_fresh=False)


def record(case: bytes, folder: Path) -> None:
    from unclip_jax.train.metrics import truncate_jsonl

    (folder / "metrics.jsonl").write_bytes(case)
    truncate_jsonl(folder / "metrics.jsonl", 10)


def report(case: bytes, folder: Path) -> None:
    from unclip_jax.train.report import Report

    for name in ("metrics", "timings", "phases"):
        (folder / f"{name}.jsonl").write_bytes(case)
    said = []
    Report(folder, said.append).write()
    assert said == []


def starts(case: bytes, folder: Path) -> None:
    from unclip_jax.train.environment import write_environment

    (folder / "environment.json").write_bytes(case)
    write_environment(folder / "environment.json")


def export_starts(case: bytes, folder: Path) -> None:
    from unclip_jax.checkpoint.runs import read_environment

    (folder / "environment.json").write_bytes(case)
    read_environment(folder / "environment.json")


def records() -> st.SearchStrategy[bytes]:
    raw = (sample() / "checkpoints" / "1" / "data" / "metadata").read_bytes()
    return damaged(raw) | hostile_json(json.loads(raw))


def checkpoint_record(case: bytes, folder: Path) -> None:
    from unclip_jax.checkpoint.records import read_record, repair_metrics

    (folder / "1" / "data").mkdir(parents=True)
    (folder / "1" / "metrics").mkdir()
    (folder / "1" / "data" / "metadata").write_bytes(case)
    (folder / "1" / "metrics" / "metrics").write_text('{"held_out_loss": 0.25}')
    repair_metrics(folder, lambda text: None)
    read_record(folder, 1)


def checkpoint_files() -> st.SearchStrategy[tuple[str, bytes]]:
    """One of a checkpoint's files, damaged."""
    found = [path for path in sample().rglob("*") if path.is_file() and "checkpoints" in path.parts]
    named = [(path.relative_to(sample()).as_posix(), path.read_bytes()) for path in sorted(found)]
    return st.one_of([st.tuples(st.just(name), damaged(raw, 2)) for name, raw in named])


def checkpoint(case: tuple[str, bytes], folder: Path) -> None:
    from unclip_jax.checkpoint.runs import read_run

    name, raw = case
    linked(folder, name).write_bytes(raw)
    read_run(folder)


TARGETS = [
    Target("config.json of a run", st.deferred(configs), export_config, ms=5.0),
    Target("config.json on resuming", st.deferred(configs), resume_config, ms=2.0),
    Target("metrics.jsonl", damaged(ROWS) | hostile_json({"step": 3}), record, ms=1.0),
    Target("record in report.html", damaged(ROWS) | hostile_json({"step": 3}), report, ms=10.0),
    Target("environment.json", hostile_json(STARTS), starts, ms=10.0),
    Target("environment.json on export", hostile_json(STARTS), export_starts, ms=1.0),
    Target("record of a checkpoint", st.deferred(records), checkpoint_record, ms=2.0),
    Target("files of a checkpoint", st.deferred(checkpoint_files), checkpoint, ms=300.0),
]
