"""The toy bundle, saved once, and a copy for each test that damages it."""

import shutil

import pytest

from tests.toy import toy_bundle
from unclip_jax.checkpoint import bundle


@pytest.fixture(scope="session")
def toy():
    return toy_bundle()


@pytest.fixture(scope="session")
def saved(toy, tmp_path_factory):
    return bundle.save(toy, tmp_path_factory.mktemp("bundles") / "toy", dtype="float16")


@pytest.fixture
def copy(saved, tmp_path):
    """Returns a copy of the saved bundle that a test may damage."""
    return shutil.copytree(saved, tmp_path / "toy")
