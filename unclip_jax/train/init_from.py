"""Fine-tuning: starts a stage from a bundle's parameters, with a report of what matched."""

import dataclasses

from unclip_jax.checkpoint import bundle
from unclip_jax.core.errors import UserError
from unclip_jax.core.trees import flatten_paths, unflatten_paths
from unclip_jax.train.sharding import place
from unclip_jax.train.state import TrainState, fresh_copy


@dataclasses.dataclass(frozen=True)
class MatchReport:
    """Which parameters a bundle gave, by path.

    Attributes:
        matched: taken from the bundle.
        missing: not in the bundle, or there in another shape.
        unused: in the bundle only.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        """Counts, and the first few paths of what did not match."""
        text = f"init_from: {len(self.matched)} parameters matched"
        for name in ("missing", "unused"):
            paths = getattr(self, name)
            shown = ", ".join(paths[:5]) + (", ..." if len(paths) > 5 else "")
            text += f"; {len(paths)} {name}" + (f" ({shown})" if paths else "")
        return text


def check_init_from(name: str, stage: str) -> None:
    """Checks that a bundle has the stage, before anything is written.

    Raises:
        UserError: there is no such bundle, or it has no such stage.
    """
    stages = bundle.read_manifest(bundle.resolve(name)).stages
    if stage not in stages:
        raise UserError(f"{name} has no stage {stage!r} to start from, only {', '.join(stages)}")


def init_from(state: TrainState, name: str, stage: str) -> tuple[TrainState, MatchReport]:
    """Replaces parameters and EMA by those of a bundle where path and shape agree.

    Moments and step stay those of a fresh run.

    Raises:
        UserError: nothing in the bundle matches.
    """
    given = flatten_paths(bundle.load(name, stages=[stage]).stage(stage).params)
    own = flatten_paths(state.params)
    matched = [path for path in own if path in given and given[path].shape == own[path].shape]
    if not matched:
        raise UserError(f"no parameter of {stage} in {name} has the path and shape of this config")
    report = MatchReport(
        matched=tuple(matched),
        missing=tuple(path for path in own if path not in matched),
        unused=tuple(path for path in given if path not in matched),
    )
    params = dict(own)
    for path in matched:
        params[path] = place(given[path].astype(own[path].dtype), own[path].sharding)
    tree = unflatten_paths(params)
    return state.replace(params=tree, ema_params=fresh_copy(tree)), report
