"""The toy bundle that the tests of this folder sample with, and images for it."""

import numpy as np
import pytest

from tests.toy import toy_bundle


@pytest.fixture(scope="session")
def toy():
    return toy_bundle()


@pytest.fixture(scope="session")
def images():
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (3, 4, 4, 3)).astype(np.uint8)
    return coarse.repeat(4, 1).repeat(4, 2)
