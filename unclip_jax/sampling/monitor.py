"""What somebody who waits for samples sees of them: progress, previews, wall times."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8

Progress = Callable[[str, int, int], None]
"""Called as progress(stage, steps done, steps of the stage), at first with nothing done."""

Preview = Callable[[str, UInt8[np.ndarray, "n h w 3"]], None]
"""Called as preview(stage, the images that the stage's network expects in the end)."""


@dataclasses.dataclass(frozen=True)
class Monitor:
    """Passes progress and previews on, and adds up wall times.

    Attributes:
        progress: None where nobody watches.
        preview: of the stages that make images; takes effect together with `progress`.
        seconds: wall time by stage, added to while work is done.
    """

    progress: Progress | None = None
    preview: Preview | None = None
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)

    def report(self, name: str, total: int) -> Callable[[int], None] | None:
        """Reports a stage of `total` steps as begun; returns the callback for its steps done."""
        if self.progress is None:
            return None
        self.progress(name, 0, total)  # compiling may take longer than all else
        return lambda done: self.progress(name, done, total)

    def timed(self, name: str, work: Callable[[], Any]) -> Any:
        """Does the work, waits for its arrays and adds its wall time to `seconds`."""
        start = time.perf_counter()
        result = jax.block_until_ready(work())
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
        return result
