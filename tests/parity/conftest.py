"""Full precision on both sides, and one table of the largest error of each component at the end."""

import os
from collections import defaultdict

# Toy networks run in no time; it is compiling them that takes long.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import jax
import numpy as np
import pytest
import torch

LARGEST = pytest.StashKey[dict]()


def pytest_configure(config):
    config.stash[LARGEST] = defaultdict(float)


@pytest.fixture(autouse=True)
def full_precision():
    with jax.default_matmul_precision("highest"), torch.no_grad():
        yield


@pytest.fixture
def agree(request):
    """Returns agree(component, ours, theirs, limit): the largest error over the largest value."""

    def check(component, ours, theirs, limit):
        ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
        assert ours.shape == theirs.shape
        assert np.isfinite(ours).all()
        error = np.abs(ours - theirs).max() / np.abs(theirs).max()
        largest = request.config.stash[LARGEST]
        largest[component] = max(largest[component], error)
        assert error < limit, f"{component}: relative error {error:.2e}, limit {limit:.0e}"

    return check


def pytest_terminal_summary(terminalreporter, config):
    largest = config.stash[LARGEST]
    if largest:
        terminalreporter.section("largest error of each component (over its largest value)")
        for component, error in sorted(largest.items()):
            terminalreporter.write_line(f"{component:<40} {error:.1e}")
