"""The lock of a folder: one holder, let go of however the holder ends."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from unclip_jax.core import interrupts
from unclip_jax.core.errors import UserError
from unclip_jax.core.locks import is_stale, locked, locked_beside

HOLD = """
import os, subprocess, sys, time
from unclip_jax.core.locks import locked
with locked(sys.argv[1], "unclip train"):
    if os.fork() == 0:                       # a worker that outlives its parent
        time.sleep(60)
    subprocess.Popen(["sleep", "60"])        # and another program
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_holder_is_refused_in_one_line_and_the_first_is_unharmed(tmp_path):
    folder = tmp_path / "a" / "run"
    with locked(folder, "unclip train"):
        with pytest.raises(UserError) as refused, locked(folder, "unclip train"):
            raise AssertionError("held twice")
        says = f"is in use by unclip train, process {os.getpid()} on "
        assert str(refused.value).startswith(f"{folder} {says}")
        assert (folder / ".lock").exists()
        (folder / "result").write_text("x")
    assert [path.name for path in folder.iterdir()] == ["result"]
    with locked(folder, "unclip train"):
        pass


def test_a_folder_made_for_the_lock_goes_with_it(tmp_path):
    with locked(tmp_path / "a" / "b", "x"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_process_takes_its_lock_along(tmp_path):
    lock = locked(tmp_path / "run", "x")
    lock.__enter__()
    interrupts.clear_all()
    assert list(tmp_path.iterdir()) == []
    lock.__exit__(None, None, None)


def test_the_lock_of_a_killed_process_is_free_though_its_children_live(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match=f"process {holder.pid} on"), locked(tmp_path, "x"):
            raise AssertionError("held twice")
        assert not is_stale(tmp_path / ".lock")
        holder.kill()
        holder.wait()
        assert is_stale(tmp_path / ".lock")
        start = time.monotonic()
        with locked(tmp_path, "x"):
            assert time.monotonic() - start < 1
    finally:
        os.killpg(holder.pid, signal.SIGKILL)
        holder.stdout.close()
        holder.wait()


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    for taken in (locked, locked_beside):
        for out in (tmp_path / "file" / "run", tmp_path / "file" / "a" / "run"):
            why = f"cannot write {out}: {tmp_path / 'file'} is not a folder"
            with pytest.raises(UserError, match=f"^{why}$"), taken(out, "x"):
                raise AssertionError("held")


def test_a_link_to_nothing_is_no_folder(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for out in (tmp_path / "link", tmp_path / "link" / "run"):
        why = f"cannot write {out}: {tmp_path / 'link'} is not a folder"
        with pytest.raises(UserError, match=f"^{why}$"), locked(out, "x"):
            raise AssertionError("held")


def test_beside_a_folder_that_does_not_exist_yet(tmp_path):
    with locked_beside(tmp_path / "out", "unclip export"):
        assert [path.name for path in tmp_path.iterdir()] == [".out.lock"]
        with pytest.raises(UserError, match="out is in use by unclip export"):
            locked_beside(tmp_path / "out", "unclip export").__enter__()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_swept_before_its_lock_stands_is_made_again(tmp_path, monkeypatch):
    folder, opened = tmp_path / "hidden", []

    def swept(path, *rest):
        if not opened:
            folder.rmdir()
        opened.append(path)
        return plain(path, *rest)

    plain = os.open
    monkeypatch.setattr(os, "open", swept)
    with locked(folder, "a test"):
        assert (folder / ".lock").exists() and len(opened) == 2


def test_a_lock_that_is_only_looked_at_is_waited_for(tmp_path):
    """A sweep takes it for a moment; it names nobody then."""
    with (tmp_path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        threading.Timer(0.05, fcntl.flock, (file, fcntl.LOCK_UN)).start()
        with locked(tmp_path, "a test"):
            assert (tmp_path / ".lock").read_text().startswith("a test, process")
