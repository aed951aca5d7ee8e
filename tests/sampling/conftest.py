"""The toy bundle that the tests of this folder sample with."""

import pytest

from tests.toy import toy_bundle


@pytest.fixture(scope="session")
def toy():
    return toy_bundle()
