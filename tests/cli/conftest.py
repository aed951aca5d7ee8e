"""A saved toy bundle, and a way to run a command in this process."""

import pytest

from tests.toy import toy_bundle
from unclip_jax.checkpoint import bundle
from unclip_jax.cli.main import main


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory):
    return bundle.save(toy_bundle(), tmp_path_factory.mktemp("bundles") / "toy", dtype="float16")


@pytest.fixture
def unclip(capsys):
    """Returns a function that runs the command line: (exit code, stdout, stderr)."""

    def run(*args):
        with pytest.raises(SystemExit) as ended:
            main([str(arg) for arg in args])
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return run


@pytest.fixture
def refused(unclip):
    """Returns a function that runs a command which must fail with one line and exit code 2."""

    def run(*args):
        code, out, err = unclip(*args)
        assert (code, out) == (2, "")
        assert err.startswith("unclip: error: ")
        assert err.count("\n") == 1
        return err

    return run
