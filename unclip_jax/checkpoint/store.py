"""Checkpoints of a run: asynchronous Orbax saves that keep the newest and the best steps.

A step's folder is renamed into place once it is complete, so a run that is killed while saving
resumes from the previous step. A checkpoint has the training state and a record (records.py): the
data iterator's state after the last consumed batch, and the checksums of the training state. A
checkpoint that does not match its record is damaged; a run resumes from the newest one that does.
"""

import contextlib
import dataclasses
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from unclip_jax.checkpoint import records
from unclip_jax.checkpoint.checksums import checksums, differing
from unclip_jax.checkpoint.records import HELD_OUT, DamagedCheckpoint
from unclip_jax.core.distributed import run_on_process_zero
from unclip_jax.core.errors import UserError
from unclip_jax.core.files import disk_reason

Say = Callable[[str], None]


class CheckpointStore:
    """The folder `checkpoints/` of a run."""

    def __init__(
        self,
        folder: Path,
        *,
        keep_latest: int = 2,
        keep_best: int = 1,
        say: Say = lambda text: None,
    ):
        """Opens or creates the folder, and removes the remains of interrupted saves.

        Args:
            say: called with a line for each damaged file and what was done about it.
        """
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # logs saves; errors are raised
        _silence_closed_loops()
        self.folder, self._say = Path(folder).absolute(), say
        self._failed = False  # a save has failed, and was reported
        run_on_process_zero(lambda: records.repair_metrics(self.folder, say))
        self._manager = ocp.CheckpointManager(self.folder, options=_options(keep_latest, keep_best))

    def latest(self) -> int | None:
        """Returns the newest step."""
        return self._manager.latest_step()

    def steps(self) -> list[int]:
        """Returns the stored steps, oldest first."""
        return sorted(self._manager.all_steps())

    def best(self) -> int | None:
        """Returns the step with the lowest held-out loss, None if no step has one."""
        losses = {step: (self._manager.metrics(step) or {}).get(HELD_OUT) for step in self.steps()}
        known = {step: loss for step, loss in losses.items() if loss is not None}
        return min(known, key=lambda step: known[step]) if known else None

    def save(
        self, step: int, state: Any, data: Mapping[str, Any], held_out_loss: float | None = None
    ) -> None:
        """Starts an asynchronous save; returns once the arrays are copied."""
        metrics = None if held_out_loss is None else {HELD_OUT: float(held_out_loss)}
        record = records.make_record(step, data, checksums(state), metrics)
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state), data=ocp.args.JsonSave(record)
        )
        with self._writing():
            self._manager.save(step, args=args, metrics=metrics, force=True)

    def restore(self, step: int, abstract: Any) -> tuple[Any, dict[str, Any]]:
        """Returns (state, data iterator's state) of a step.

        Args:
            abstract: tree of `jax.ShapeDtypeStruct` with the shardings to restore to, which may
                differ from those of the saved state.

        Raises:
            DamagedCheckpoint: a file is missing, unreadable or does not match its checksum.
        """
        record = records.read_record(self.folder, step)
        old_names = records.old_names(record, abstract)
        saved = _with_names(abstract, old_names) if old_names else abstract
        args = ocp.args.Composite(state=ocp.args.StandardRestore(saved))
        try:
            state = self._manager.restore(step, args=args)["state"]
        except Exception as error:
            if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
                raise
            raise DamagedCheckpoint(step, _why(error)) from error
        if record.checksums is not None:
            wrong = differing(record.checksums, checksums(state))
            if wrong:
                raise DamagedCheckpoint(step, f"the checksum of {wrong[0]} does not match")
        if old_names:
            new_names = {old: new for new, old in old_names.items()}
            state = abstract.replace(**{new_names.get(name, name): state[name] for name in state})
        return state, record.iterator

    def restore_newest(self, abstract: Any) -> tuple[int, Any, dict[str, Any]] | None:
        """Returns (step, state, data iterator's state) of the newest intact step, None without any.

        Newer, damaged steps are moved to `checkpoints.damaged` next to the folder for inspection,
        where they do not block later saves.
        """
        damaged: list[DamagedCheckpoint] = []
        for step in reversed(self.steps()):
            try:
                state, data = self.restore(step, abstract)
            except DamagedCheckpoint as error:
                damaged.append(error)
                if jax.process_count() > 1 and step != self.steps()[0]:
                    self._set_aside(error)  # the others may wait for this process: restart all
                    raise UserError(f"{error}; run the same command again to resume") from error
                continue
            for error in damaged:
                moved = self._set_aside(error)
                self._say(f"{error}; moved to {moved}, resuming from step {step}")
            return step, state, data
        if damaged:
            raise UserError(
                f"{damaged[0]}, and no older one is intact; restore a copy in {self.folder}, or "
                "train in a new workdir"
            ) from damaged[0]
        return None

    def _set_aside(self, error: DamagedCheckpoint) -> Path:
        place = records.free_name(self.folder.with_name(f"{self.folder.name}.damaged"), error.step)
        place.parent.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # another process of the job was first
            os.replace(self.folder / str(error.step), place)
        if jax.process_count() == 1:
            self._manager.reload()
        return place

    def wait(self) -> None:
        """Returns when the last save is on disk."""
        with self._writing():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Finishes the last save and closes the folder."""
        expected = contextlib.suppress(UserError) if self._failed else contextlib.nullcontext()
        with expected, self._writing():
            self._manager.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns a full or read-only disk into a one-line UserError."""
        try:
            yield
        except Exception as error:
            reason = disk_reason(error)
            if reason is None:
                raise
            self._failed = True
            last = records.newest_step(self.folder)
            resume = "starts again" if last is None else f"resumes from step {last}"
            raise UserError(
                f"cannot save a checkpoint in {self.folder}: {reason}; fix that and run the same "
                f"command again: it {resume}"
            ) from error


def abstract_like(tree: Any, shardings: Any) -> Any:
    """Returns the tree's shapes and dtypes with the given shardings, for `restore`."""
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        tree,
        shardings,
    )


def _with_names(state: Any, old_names: Mapping[str, str]) -> dict[str, Any]:
    """Returns the fields of a state as a dict, renamed ones under their old names."""
    names = [field.name for field in dataclasses.fields(state)]
    return {old_names.get(name, name): getattr(state, name) for name in names}


def _options(keep_latest: int, keep_best: int) -> ocp.CheckpointManagerOptions:
    """Returns the manager's options: the newest and the best steps are kept, saves are async."""
    policies = [LatestN(keep_latest)]
    if keep_best:
        best = BestN(
            get_metric_fn=_negative_loss, n=keep_best, keep_checkpoints_without_metrics=False
        )
        policies.append(best)
    return ocp.CheckpointManagerOptions(
        best_fn=lambda metrics: metrics[HELD_OUT],  # without it metrics are not written
        best_mode="min",
        preservation_policy=AnyPreservationPolicy(policies),
        cleanup_tmp_directories=True,
        enable_async_checkpointing=True,
    )


def _negative_loss(metrics: Mapping[str, float]) -> float:
    return -metrics[HELD_OUT]


def _why(error: Exception) -> str:
    """Returns a short reason from the long messages of tensorstore and Orbax."""
    text = str(error).strip() or type(error).__name__
    for code, words in (("NOT_FOUND", "a file is missing"), ("DATA_LOSS", "a file is corrupt")):
        if code in text:
            return words
    if "tree structures do not match" in text or "Structure mismatch" in text:  # Orbax's words
        return "its arrays are not those of this run's state"
    return text.splitlines()[0][:120]


def _silence_closed_loops() -> None:
    """Silences tensorstore's messages about closed event loops after a failed read."""
    before = sys.unraisablehook
    if getattr(before, "is_silencing", False):
        return

    def hook(what: Any) -> None:
        if not (what.exc_type is RuntimeError and str(what.exc_value) == "Event loop is closed"):
            before(what)

    hook.is_silencing = True
    sys.unraisablehook = hook
