"""What the tests of the suites share: settings, the form of metrics, examples by concept."""

import numpy as np

from unclip_jax.evals.examples import Examples
from unclip_jax.evals.settings import Settings

SETTINGS = Settings("shapes:size=32,count=24", splits=("test",), prompts=8, batch=8, limit=12)


def check_metrics(results):
    """Every value is finite, within its interval, and over at least one example."""
    for metric in results.values():
        assert np.isfinite(metric.value)
        if metric.low is not None:
            assert metric.low - 1e-9 <= metric.value <= metric.high + 1e-9
        assert metric.n > 0


def make_examples(concepts, images=None):
    """Returns one black 2-px image per concept, or the given ones, with the caption "a NAME"."""
    n = len(concepts)
    if images is None:
        images = np.zeros((n, 2, 2, 3), np.uint8)
    captions = tuple((f"a {name}",) for name in concepts)
    return Examples(images, captions, tuple(concepts), ("",) * n)


def unit(rng, n, d=8):
    """Returns n random vectors of unit length."""
    x = rng.normal(size=(n, d))
    return x / np.linalg.norm(x, axis=1, keepdims=True)
