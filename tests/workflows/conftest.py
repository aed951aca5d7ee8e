"""The toy bundle that workflows run on, and the command line."""

from tests.cli.conftest import unclip as unclip
from tests.sampling.conftest import toy as toy
