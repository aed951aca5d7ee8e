"""Reads a training run's folder for export: config, newest step, EMA parameters.

Of a checkpoint only the EMA parameters are read, not the optimizer state.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from unclip_jax.checkpoint.checksums import checksums, differing
from unclip_jax.checkpoint.records import DamagedCheckpoint, newest_step, read_record
from unclip_jax.checkpoint.tensors import numpy_dtype, read_table
from unclip_jax.core.errors import UserError
from unclip_jax.core.files import read_json, read_mapping
from unclip_jax.core.trees import flatten_paths
from unclip_jax.models.stages import StageSpec, abstract_params, spec_from_dict

SPEC_SECTIONS = ("stage", "model", "embedding_norm", "diffusion", "sampling")


@dataclasses.dataclass(frozen=True, eq=False)
class RunResult:
    """The current result of a run.

    Attributes:
        environment: one entry per start of the run: versions, device, commit, date.
        arrays: results other than parameters, by name ("variance_table").
    """

    folder: Path
    config: Mapping[str, Any]
    spec: StageSpec
    step: int
    ema_params: Mapping[str, Any] = dataclasses.field(repr=False)
    environment: tuple[Mapping[str, Any], ...]
    arrays: Mapping[str, np.ndarray]

    @functools.cached_property
    def digests(self) -> frozenset[str]:
        """Digests that identify the EMA parameters; see `stored_digests`."""
        return frozenset(stored_digests(self.ema_params))

    @property
    def is_finished(self) -> bool:
        """Whether the run reached its configured number of steps."""
        return self.step >= self.config["train"]["steps"]


def read_run(folder: str | Path) -> RunResult:
    """Reads the newest complete checkpoint of a run."""
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        is_bundle = (folder / "bundle.json").is_file()
        why = "it is a bundle" if is_bundle else "it has no config.json"
        raise UserError(f"{folder} is not a training run: {why}")
    remedy = "delete it and run unclip train again with the same config, which rewrites it"
    config = read_mapping(folder / "config.json", remedy=remedy)
    for key in ("data", "optim", "train"):
        if not isinstance(config.get(key), Mapping):
            raise UserError(f"{folder / 'config.json'} has no section {key!r}")
    if not isinstance(config["train"].get("steps"), int):
        raise UserError(f"{folder / 'config.json'} has no integer train.steps; {remedy}")
    _check_records(folder / "config.json", config, remedy)
    spec = spec_from_dict({k: config[k] for k in SPEC_SECTIONS if config.get(k) is not None})
    step = newest_step(folder / "checkpoints")
    if step is None:
        raise UserError(f"{folder} has no complete checkpoint yet")
    return RunResult(
        folder=folder,
        config=config,
        spec=spec,
        step=step,
        ema_params=_ema_of(folder, step, spec),
        environment=read_environment(folder / "environment.json"),
        arrays=_arrays(folder / "variance_table.npy"),
    )


def _check_records(path: Path, config: Mapping[str, Any], remedy: str) -> None:
    """Fails if a part of a run's config that export copies is missing or has a wrong type."""
    identity = config.get("identity", {"clip": "", "data": ""})
    is_whole = isinstance(identity, Mapping) and {"clip", "data"} <= set(identity)
    wrong = {
        "identity": not is_whole,
        "seed": type(config.get("seed")) is not int,
        "data.name": not isinstance(config["data"].get("name"), str),
        "clip": not isinstance(config.get("clip") or "", str),
    }
    for name in (name for name, is_wrong in wrong.items() if is_wrong):
        raise UserError(f"{path}: {name} is missing or damaged; {remedy}")


def read_environment(path: Path) -> tuple[Mapping[str, Any], ...]:
    """Reads the list of a run's starts; a missing file is an empty list."""
    remedy = "delete it or restore a copy"
    found = read_json(path, remedy=remedy) if path.exists() else []
    if not (isinstance(found, list) and all(isinstance(entry, dict) for entry in found)):
        raise UserError(f"{path} is not a list of starts; {remedy}")
    return tuple(found)


def _arrays(table: Path) -> dict[str, np.ndarray]:
    return {"variance_table": read_table(table)} if table.exists() else {}


def _ema_of(folder: Path, step: int, spec: StageSpec) -> dict[str, Any]:
    try:
        return _restore_ema(folder / "checkpoints", step, spec)
    except DamagedCheckpoint as error:
        raise UserError(
            f"{folder}: {error}; run unclip train on it again, which resumes from the previous one"
        ) from error


def _restore_ema(checkpoints: Path, step: int, spec: StageSpec) -> dict[str, Any]:
    import orbax.checkpoint as ocp  # the import takes seconds

    item = {"ema_params": abstract_params(spec)}
    restore_args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), item)
    args = ocp.args.PyTreeRestore(item=item, restore_args=restore_args, partial_restore=True)
    path, record = checkpoints / str(step) / "state", read_record(checkpoints, step)
    try:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
            restored = reader.restore(path.absolute(), args=args)
        params = jax.tree.map(np.asarray, restored["ema_params"])
        if any(leaf.dtype == object for leaf in jax.tree.leaves(params)):
            raise TypeError("the files do not have every array")  # Orbax leaves the shape there
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise DamagedCheckpoint(step, f"{path} cannot be read") from error
    if record.checksums is not None:
        wrong = differing(record.checksums, checksums({"ema_params": params}))
        if wrong:
            raise DamagedCheckpoint(step, f"the checksum of {wrong[0]} does not match")
    return params


def params_digest(params: Mapping[str, Any]) -> str:
    """Returns a hash of parameters as float32, independent of their stored dtype."""
    digest = hashlib.sha256()
    for path, leaf in sorted(flatten_paths(params).items()):
        digest.update(path.encode())
        digest.update(np.asarray(leaf, np.float32).tobytes())
    return digest.hexdigest()


def stored_digests(params: Mapping[str, Any]) -> set[str]:
    """Returns the digests that identify parameters: as trained, and as bundles store them.

    A bundle rounds them to its dtype, and a run trained against the bundle records the digest of
    the rounded ones.
    """
    names = ("float32", "float16", "bfloat16")
    return {params_digest(jax.tree.map(_rounded(name), params)) for name in names}


def _rounded(name: str) -> Callable[[Any], np.ndarray]:
    return lambda leaf: np.asarray(leaf).astype(numpy_dtype(name))
