"""One device batch of one stage: keys, splitting over the devices, the clock and the progress."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key

from unclip_jax.core import prng
from unclip_jax.core.errors import UserError
from unclip_jax.core.types import Cond, TextFeatures
from unclip_jax.sampling import parallel, runs, stages

Progress = Callable[[str, int, int], None]
"""Called as progress(stage, steps done, steps of the stage), at first with nothing done."""

BATCH_LIMIT = 16  # images a device makes a call


@jax.jit
def _fold(root: Key[Array, ""], index: Array, draw: Array) -> Key[Array, " n"]:
    return jax.vmap(prng.image_key, in_axes=(None, 0, 0))(root, index, draw)


def image_keys(
    root: Key[Array, ""], index: Sequence[int] | np.ndarray, draw: Sequence[int] | np.ndarray
) -> Key[Array, " n"]:
    """Returns the keys of images by their prompt's (or input picture's) number and their draw's."""
    return _fold(root, np.asarray(index, np.uint32), np.asarray(draw, np.uint32))


@dataclasses.dataclass(frozen=True)
class StageRunner:
    """Runs stages over the local devices; `seconds` collects the wall time of each."""

    progress: Progress | None = None
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)

    def stage(
        self,
        run: runs.Run,
        cond: Cond,
        empty: TextFeatures | None,
        keys: Key[Array, " n"],
        *,
        per_device: int,
        latent: np.ndarray | None = None,
    ) -> np.ndarray:
        """Returns the results of one stage for at most a device batch of examples.

        Args:
            latent: x_T at the level of the first step; None draws it from the keys.
        """
        split = parallel.split((cond, keys, latent), per_device)
        report = self.report(run.name)
        if report is not None:
            report(
                0, sum(count for _, count in run.nets)
            )  # compiling may take longer than all else
        result = self.timed(
            run.name,
            lambda: stages.run_over_devices(run, split[0], empty, split[1], report, split[2]),
        )
        return finite(parallel.join(result, len(keys)), run.name)

    def report(self, name: str) -> Callable[[int, int], None] | None:
        """Returns the progress callback of one stage, None where nobody watches."""
        if self.progress is None:
            return None
        return lambda done, total: self.progress(name, done, total)

    def timed(self, name: str, work: Callable[[], Any]) -> Any:
        """Does the work to its end and adds its wall time to `seconds`."""
        start = time.perf_counter()
        result = jax.block_until_ready(work())
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
        return result


def finite(made: np.ndarray, name: str) -> np.ndarray:
    """Returns what a stage made; values that are not finite are an error that says what helps."""
    if not np.isfinite(made).all():
        raise UserError(
            f"{name} made values that are not finite; lower the guidance, or use float32"
        )
    return made
