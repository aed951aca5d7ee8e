"""Set-up of every test process: eight virtual CPU devices, strict broadcasting, a compile cache."""

import os
from pathlib import Path

# The tests are of the CPU: a visible accelerator must not change what they check.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Commands, run here or in processes of their own, use the tests' cache and never the user's. A cold
# cache only costs time; the suite must pass without it.
if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
    cache = Path(__file__).resolve().parents[1] / ".cache" / "jax"
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(cache)
# What commands in processes of their own compile is kept too, from the same length on as here.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")
# Whether a command lasts long enough to report progress depends on the machine's load; the tests of
# progress ask for it.
os.environ["TQDM_DISABLE"] = "1"

import hypothesis
import jax
import pytest

# How long an example takes tells of the machine's load and not of the code.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


@pytest.fixture(autouse=True)
def no_kept_programs():
    """A command that ran in this process keeps its programs; a test that patches code must not."""
    yield
    from unclip_jax.core import ready

    ready.use_folder(None)


LONGEST = (
    "docs/test_blocks.py",
    "train/test_sharding.py",
    "train/test_experiment.py",
    "train/test_hosts.py",
    "docs/test_tour.py",
    "demo/test_browser.py",
    "test_shipped_manipulations.py",
    "turns/test_turns.py",
    "train/test_prior_samples.py",
    "train/test_sam.py",
    "train/test_dalle_runs.py",
)
"""Files that take longest, which start first: the last one to end then has little to wait for."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the tests of the longest files first, in the order of LONGEST."""
    folder = Path(__file__).parent
    ranks = {folder / name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))
