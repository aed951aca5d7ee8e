"""Folders that appear whole: two makers at once, and what a killed one has left."""

import os
import pwd
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from unclip_jax.core import files
from unclip_jax.core.errors import UserError
from unclip_jax.core.files import new_folder, scratch_for, whole_file


def make(out, text, **options):
    with new_folder(out, "marker", **options) as folder:
        (folder / "marker").write_text(text)


def test_of_two_that_make_a_folder_at_once_one_wins(tmp_path):
    out = tmp_path / "a" / "out"
    with new_folder(out, "marker") as folder:
        (folder / "marker").write_text("first")
        with pytest.raises(UserError, match=f"{out} is in use by unclip, process {os.getpid()} on"):
            make(out, "second")
        with pytest.raises(UserError, match="in use"):
            make(out, "second", overwrite=True)
    assert (out / "marker").read_text() == "first"
    with pytest.raises(UserError, match="exists; choose another --out"):
        make(out, "second")
    make(out, "third", overwrite=True)
    assert (out / "marker").read_text() == "third"
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_one_that_is_filled_meanwhile_by_another_program_is_not_replaced(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(UserError, match=f"cannot write {out}: "), new_folder(out, "m") as folder:
        (folder / "m").write_text("ours")
        out.mkdir()
        (out / "theirs").write_text("x")
    assert [path.name for path in out.iterdir()] == ["theirs"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


KILLED = """
import os, signal, sys
from pathlib import Path
from unclip_jax.core.files import new_folder
with new_folder(Path(sys.argv[1]), "marker", overwrite=True) as folder:
    (folder / "marker").write_text("half")
    if sys.argv[2] == "between":             # the older one is out of the way, the new not in yet
        replace = os.replace
        def once(source, target):
            replace(source, target)
            os.kill(os.getpid(), signal.SIGKILL)
        os.replace = once
    else:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("moment", ["within", "between"])
def test_what_a_killed_process_left_is_swept_by_the_next_and_nothing_is_lost(tmp_path, moment):
    out = tmp_path / "out"
    make(out, "older")
    run = subprocess.run([sys.executable, "-c", KILLED, str(out), moment])
    assert run.returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob(".out.*.part"))) == 1
    with scratch_for(out) as alive:
        assert (out / "marker").read_text() == "older"
        with scratch_for(out):
            assert alive.is_dir()  # the folder of one that lives stays
    make(out, "new", overwrite=True)
    assert (out / "marker").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("left", [(), (".lock",)])
def test_what_was_killed_before_it_named_itself_is_swept_too(tmp_path, left):
    """A hidden folder without a lock, or with one that names nobody yet."""
    scratch = tmp_path / f".out.{'0' * 16}.part"
    scratch.mkdir()
    for name in left:
        (scratch / name).touch()
    make(tmp_path / "out", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


STOPPED = """
import os, signal, sys
from pathlib import Path
from unclip_jax.core.files import new_folder
from unclip_jax.core.interrupts import clear_all
def end(number, frame):                      # what the command line does on SIGTERM
    clear_all()
    os._exit(128 + number)
signal.signal(signal.SIGTERM, end)
replace = os.replace
def once(source, target):
    replace(source, target)
    if Path(source) == Path(sys.argv[1]):    # the older one is out of the way, the new not in yet
        os.kill(os.getpid(), signal.SIGTERM)
with new_folder(Path(sys.argv[1]), "marker", overwrite=True) as folder:
    (folder / "marker").write_text("new")
    os.replace = once
"""


def test_sigterm_between_the_two_renames_puts_the_older_folder_back(tmp_path):
    out = tmp_path / "out"
    make(out, "older")
    run = subprocess.run([sys.executable, "-c", STOPPED, str(out)])
    assert run.returncode == 128 + signal.SIGTERM
    assert (out / "marker").read_text() == "older"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("how", ["disk", "filled", "dead disk"])
def test_a_failed_second_rename_loses_nothing(tmp_path, monkeypatch, how):
    out = tmp_path / "out"
    make(out, "older")
    replace = os.replace

    def failing(source, target):
        if source == out:
            return replace(source, target)
        if how == "filled" and not out.exists():
            out.mkdir()
            (out / "theirs").write_text("x")
        if how == "dead disk" or source.name == "new" and how == "disk":
            raise OSError(5, "Input/output error", str(source))
        return replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(UserError, match=f"cannot write {out}: ") as caught:
        make(out, "new", overwrite=True)
    names = [path.name for path in tmp_path.iterdir()]
    if how == "disk":
        assert (out / "marker").read_text() == "older" and names == ["out"]
        return
    (older,) = (path for path in tmp_path.rglob("marker") if path.read_text() == "older")
    assert str(caught.value).endswith(f"; the previous one is now {older.parent}")
    if how == "filled":
        assert sorted(names) == ["out", "out.old"] and (out / "theirs").exists()


def test_the_hidden_folder_of_a_longer_name_is_not_taken(tmp_path):
    older = tmp_path / "a.b"
    make(older, "older")
    assert subprocess.run([sys.executable, "-c", KILLED, str(older), "between"]).returncode < 0
    make(tmp_path / "a", "mine")
    assert (tmp_path / "a" / "marker").read_text() == "mine"
    with scratch_for(older):
        assert (older / "marker").read_text() == "older"


def test_a_file_that_could_not_be_written_leaves_nothing(tmp_path):
    path = tmp_path / "a"
    path.write_text("older")
    with (
        pytest.raises(UserError, match=f"cannot write {path}: No space left"),
        whole_file(path) as p,
    ):
        p.write_text("half")
        raise OSError(28, "No space left on device")
    assert path.read_text() == "older" and [p.name for p in tmp_path.iterdir()] == ["a"]


def test_other_librarys_errors_of_a_full_disk_are_one_line_too(tmp_path):
    for error in (
        RuntimeError("write() failed: No space left on device; at byte 9"),
        OSError(28, "x"),
    ):
        with pytest.raises(UserError, match=f"cannot write {tmp_path / 'a'}: "):
            with new_folder(tmp_path / "a", "marker"):
                raise error
    with pytest.raises(RuntimeError, match="else"), whole_file(tmp_path / "a"):
        raise RuntimeError("something else")
    assert list(tmp_path.iterdir()) == []


def test_a_user_without_a_home_has_a_private_cache_folder(tmp_path, monkeypatch):
    def unknown(uid):
        raise KeyError(uid)

    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = files.cache_folder()
    assert folder.parent == tmp_path and folder == files.cache_folder()
    assert folder.stat().st_mode & 0o777 == 0o700
    files._temporary_cache.cache_clear()
    folder.chmod(0o777)  # somebody else's: what lies in it is not to be trusted
    other = files.cache_folder()
    assert other != folder and other.stat().st_mode & 0o777 == 0o700
    files._temporary_cache.cache_clear()


@pytest.mark.parametrize("kind", ["dangling link", "link to an empty folder", "current folder"])
def test_what_no_folder_can_replace_is_refused_before_the_work(tmp_path, monkeypatch, kind):
    out, target = tmp_path / "out", tmp_path / "target"
    if kind == "current folder":
        monkeypatch.chdir(tmp_path)
        out, expected = (
            Path("."),
            r"^\. is the current folder and cannot be replaced; choose another",
        )
    else:
        out.symlink_to(target)
        expected = (
            "out is a symbolic link, which a folder cannot replace; remove it or choose another"
        )
    if kind == "link to an empty folder":
        target.mkdir()
    with pytest.raises(UserError, match=expected), new_folder(out, "m", overwrite=True):
        pytest.fail("the work began")


def test_an_input_that_cannot_be_read_is_named_and_not_the_output(tmp_path):
    given, out = tmp_path / "given", tmp_path / "out"
    for block in (new_folder(out, "m"), scratch_for(out), whole_file(out)):
        with pytest.raises(UserError, match=f"{given}: No such file or directory"), block:
            given.read_bytes()
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match=f"cannot write {out}: "), new_folder(out, "m") as folder:
        (folder / "none" / "file").write_text("x")


def test_what_was_killed_in_the_current_folder_is_swept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    killed = (
        "import os; from pathlib import Path; from unclip_jax.core.files import scratch_for\n"
        "with scratch_for(Path('.'), inside=True): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", killed]).returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    with scratch_for(tmp_path, inside=True) as scratch:
        assert list(tmp_path.iterdir()) == [scratch]
