"""Our samplers against recorded runs of diffusers' schedulers (tests/golden/make_schedulers.py)."""

from pathlib import Path

import numpy as np
import pytest

from tests.diffusion.replay import replay, step_errors

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "schedulers.npz"
STEP_TOLERANCE = 1e-10  # float64 on both sides; the tables were overwritten in float64


def load() -> dict[str, dict[str, np.ndarray]]:
    cases: dict[str, dict[str, np.ndarray]] = {}
    with np.load(GOLDEN) as arrays:
        for path in arrays.files:
            if "/" in path:
                name, field = path.split("/")
                cases.setdefault(name, {})[field] = arrays[path]
    return cases


CASES = load()


def test_all_schedulers_are_recorded():
    samplers = {str(case["sampler"]) for case in CASES.values()}
    assert samplers == {"ddpm", "ddim", "ddim_inverse", "dpm++"}
    assert {float(c["eta"]) for c in CASES.values() if c["sampler"] == "ddim"} >= {0.0, 1.0}


@pytest.mark.parametrize("name", list(CASES))
def test_steps_equal_diffusers(name):
    errors = step_errors(replay(CASES[name]), CASES[name]["path"])
    assert errors.max() < STEP_TOLERANCE, errors
