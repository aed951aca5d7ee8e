"""The pictures a training run draws of itself: hooks for `unclip train`."""

from collections.abc import Sequence

from unclip_jax.train.experiment import Run
from unclip_jax.train.loop import Hook


def make_hooks(run: Run) -> Sequence[Hook]:
    """Returns the hooks of a run: sample grids for stages that make pictures."""
    return ()
