import base64
import hashlib
import json
import stat

import pytest

from tests.data.emoji_world import write_tarball
from unclip_jax.core.errors import UserError
from unclip_jax.data.sets import npm

PACKAGE = npm.Package("@scope/thing", "1.2.3")


def integrity(path):
    return "sha512-" + base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()


@pytest.fixture
def fake_npm(tmp_path, monkeypatch):
    """Puts a script called npm first on PATH; returns how to set its text."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def install(text):
        script = folder / "npm"
        script.write_text("#!/bin/sh\n" + text)
        script.chmod(script.stat().st_mode | stat.S_IXUSR)

    return install


@pytest.fixture
def served(tmp_path, fake_npm):
    """A tarball that the fake npm hands out, noting each call; returns (tarball, log)."""
    tarball, log = tmp_path / "served.tgz", tmp_path / "calls"
    write_tarball(tarball, {"data.json": "[1]", "evil.js": "x"})
    answer = json.dumps([{"filename": "scope-thing-1.2.3.tgz"}])
    fake_npm(
        f'echo "$@" >> {log}\n'
        f'while [ "$1" != --pack-destination ]; do shift; done\n'
        f"cp {tarball} $2/scope-thing-1.2.3.tgz\necho '{answer}'\n"
    )
    return tarball, log


def test_tarball_is_fetched_once(served, tmp_path):
    tarball, log = served
    for _ in range(2):
        path = npm.fetch(PACKAGE, tmp_path / "cache")
        assert path.read_bytes() == tarball.read_bytes()
    calls = log.read_text().splitlines()
    assert len(calls) == 1
    assert calls[0].startswith("pack @scope/thing@1.2.3 ")
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["scope-thing-1.2.3.tgz"]


def test_pinned_integrity_is_checked(served, tmp_path):
    good = npm.Package("@scope/thing", "1.2.3", integrity(served[0]))
    npm.fetch(good, tmp_path / "good")
    bad = npm.Package("@scope/thing", "1.2.3", "sha512-" + "A" * 86 + "==")
    with pytest.raises(UserError, match="not the pinned one"):
        npm.fetch(bad, tmp_path / "bad")
    assert not (tmp_path / "bad").exists()
    with pytest.raises(UserError, match="delete it and run again"):
        npm.fetch(bad, tmp_path / "good")


def test_missing_npm_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="install Node.js"):
        npm.fetch(PACKAGE, tmp_path / "cache")


def test_no_network_is_one_line(tmp_path, fake_npm):
    fake_npm("echo 'npm error code ENOTFOUND' >&2\necho 'npm error more' >&2\nexit 1\n")
    with pytest.raises(UserError, match=r"@scope/thing@1.2.3: no network \(ENOTFOUND\)"):
        npm.fetch(PACKAGE, tmp_path / "cache")


def test_other_failures_carry_npms_reason(tmp_path, fake_npm):
    fake_npm("echo 'npm error 404 Not Found' >&2\nexit 1\n")
    with pytest.raises(UserError, match="404 Not Found"):
        npm.fetch(PACKAGE, tmp_path / "cache")


def test_tarball_members(served):
    assert npm.read_tarball(served[0], "data.json".__eq__) == {"data.json": b"[1]"}


def test_a_cut_tarball_is_one_line(served, tmp_path):
    cut = tmp_path / "cut.tgz"
    cut.write_bytes(served[0].read_bytes()[:60])
    with pytest.raises(UserError, match="cannot read"):
        npm.read_tarball(cut, lambda name: True)
