"""Our samplers against diffusers' schedulers, live, and the recorded runs against them too.

UnCLIPScheduler, DDIMScheduler, DDIMInverseScheduler and DPMSolverMultistepScheduler, step by step
on identical outputs, noises and (t, s) lists, their tables overwritten in float64.
"""

import jax
import numpy as np
import pytest

from tests.diffusion.replay import replay, step_errors
from tests.golden.make_schedulers import GOLDEN, RUNS

STEP_TOLERANCE = 1e-10


@pytest.mark.parametrize("name", list(RUNS))
def test_steps_equal_diffusers(name):
    """And the recorded run is what diffusers gives."""
    case = RUNS[name]()
    with jax.enable_x64(True):
        errors = step_errors(replay(case), case["path"])
    assert errors.max() < STEP_TOLERANCE, errors
    with np.load(GOLDEN) as arrays:
        np.testing.assert_allclose(arrays[f"{name}/path"], case["path"], rtol=1e-9, atol=1e-11)
