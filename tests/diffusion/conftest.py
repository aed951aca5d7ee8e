"""Everything in this folder runs in float64 with strict dtype promotion, unless it asks not to."""

import jax
import pytest


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        yield
