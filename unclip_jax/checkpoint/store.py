"""Checkpoints of a run: Orbax, asynchronous, the newest and the best kept.

A step's folder appears by a rename once it is whole, so a run that is killed while saving goes on
from the step before. What is stored: the training state, and the state of the data iterator after
the batch that was consumed last.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

HELD_OUT = "held_out_loss"


class CheckpointStore:
    """The folder `checkpoints/` of a run."""

    def __init__(self, folder: Path, *, keep_latest: int = 2, keep_best: int = 1):
        """Opens or creates the folder, and removes what an interrupted save has left."""
        logging.getLogger("absl").setLevel(logging.ERROR)  # it tells of every save
        policies = [LatestN(keep_latest)]
        if keep_best:
            policies.append(
                BestN(
                    get_metric_fn=_negative_loss,
                    n=keep_best,
                    keep_checkpoints_without_metrics=False,
                )
            )
        options = ocp.CheckpointManagerOptions(
            best_fn=lambda metrics: metrics[HELD_OUT],  # without it metrics are not even written
            best_mode="min",
            preservation_policy=AnyPreservationPolicy(policies),
            cleanup_tmp_directories=True,
            enable_async_checkpointing=True,
        )
        self._manager = ocp.CheckpointManager(Path(folder).absolute(), options=options)

    def latest(self) -> int | None:
        """Returns the newest whole step."""
        return self._manager.latest_step()

    def steps(self) -> list[int]:
        """Returns the steps that are kept, oldest first."""
        return sorted(self._manager.all_steps())

    def best(self) -> int | None:
        """Returns the step with the lowest held-out loss, None if no step has one."""
        losses = {step: (self._manager.metrics(step) or {}).get(HELD_OUT) for step in self.steps()}
        known = {step: loss for step, loss in losses.items() if loss is not None}
        return min(known, key=lambda step: known[step]) if known else None

    def save(
        self, step: int, state: Any, data: Mapping[str, Any], held_out_loss: float | None = None
    ) -> None:
        """Starts a save; returns when the arrays are copied, which is before they are written."""
        metrics = None if held_out_loss is None else {HELD_OUT: float(held_out_loss)}
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state), data=ocp.args.JsonSave(dict(data))
        )
        self._manager.save(step, args=args, metrics=metrics, force=True)

    def restore(self, step: int, abstract: Any) -> tuple[Any, dict[str, Any]]:
        """Returns (state, data iterator's state) of a step.

        Args:
            abstract: tree of `jax.ShapeDtypeStruct` with shardings: how the state is to lie on the
                devices, which need not be how it lay when it was saved.
        """
        args = ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract), data=ocp.args.JsonRestore()
        )
        restored = self._manager.restore(step, args=args)
        return restored["state"], restored["data"]

    def wait(self) -> None:
        """Returns when the last save is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Finishes the last save and lets go of the folder."""
        self._manager.close()


def abstract_like(tree: Any, shardings: Any) -> Any:
    """Returns the tree's shapes and dtypes with the given shardings, for `restore`."""
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        tree,
        shardings,
    )


def _negative_loss(metrics: Mapping[str, float]) -> float:
    return -metrics[HELD_OUT]
