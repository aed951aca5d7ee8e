"""The toy bundle that the suites measure."""

import pytest

from tests.toy import toy_bundle


@pytest.fixture(scope="session")
def model():
    return toy_bundle()
