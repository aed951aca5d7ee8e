"""Our samplers against diffusers' schedulers, live, and the recorded runs against them too.

UnCLIPScheduler, DDIMScheduler, DDIMInverseScheduler and DPMSolverMultistepScheduler, step by step
on identical outputs, noises and (t, s) lists, their tables overwritten in float64.
"""

import jax
import numpy as np
import pytest

from tests.diffusion.replay import replay, step_errors
from tests.golden.make_schedulers import GOLDEN, reference_cases

STEP_TOLERANCE = 1e-10
CASES = reference_cases()


@pytest.mark.parametrize("name", list(CASES))
def test_steps_equal_diffusers(name):
    with jax.enable_x64(True):
        errors = step_errors(replay(CASES[name]), CASES[name]["path"])
    assert errors.max() < STEP_TOLERANCE, errors


def test_golden_file_is_what_diffusers_gives():
    with np.load(GOLDEN) as arrays:
        for name, case in CASES.items():
            np.testing.assert_allclose(arrays[f"{name}/path"], case["path"], rtol=1e-9, atol=1e-11)
