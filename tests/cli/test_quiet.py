"""--quiet on every command, and NO_COLOR: what stderr is spared, and what remains."""

import json
import os
import pty
import subprocess
import sys
import time

import click
import pytest
from PIL import Image

from tests.evals.suites import SETTINGS
from unclip_jax.cli.main import COMMANDS
from unclip_jax.cli.main import unclip as root
from unclip_jax.core.errors import UserError


def test_every_command_can_be_quiet(unclip):
    for name in COMMANDS:
        command = root.get_command(click.Context(root), name)
        inner = [[n] for n in command.commands] if isinstance(command, click.Group) else [[]]
        for words in inner:
            code, out, _ = unclip(name, *words, "--help")
            assert code == 0 and out.count("-q, --quiet") == 1, (name, words)


def test_a_quiet_command_says_nothing_but_its_result(unclip, toy_folder, tmp_path, monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    monkeypatch.setattr("unclip_jax.cli.progress.FIRST", 0.0)
    args = ("eval", "--model", toy_folder, "--data", SETTINGS.data, "--limit", "6", "--json")
    loud = unclip(*args, "--out", tmp_path / "loud", "--judge", toy_folder)
    for line in ("is now called --eval-clip", "loading", "means little", "wrote"):
        assert line in loud[2]
    for flags in (["-q"], ["--quiet"]):
        out = tmp_path / flags[0]
        code, printed, err = unclip(*args, "--judge", toy_folder, "--out", out, *flags)
        assert (code, err) == (0, "")
        assert json.loads(printed)["metrics"] == json.loads(loud[1])["metrics"]
    again = unclip(*args, "--out", tmp_path / "again")  # the next command of a process is not
    assert "wrote" in again[2]


@pytest.mark.parametrize("command", ["train", "vary"])
def test_errors_remain(unclip, tmp_path, monkeypatch, command):
    def slow(*args, log=None, **options):
        if log is not None:
            log("a line of a training")
        time.sleep(0.5)
        raise UserError("that is enough")

    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    monkeypatch.setattr("unclip_jax.cli.progress.FIRST", 0.0)
    monkeypatch.setattr("unclip_jax.checkpoint.bundle.load", slow)
    monkeypatch.setattr("unclip_jax.train.experiment.train", slow)
    image = tmp_path / "image.png"
    Image.new("RGB", (16, 16), "red").save(image)
    args = {
        "vary": [image, "--out", tmp_path / "out"],
        "train": ["--config", "configs/own/clip.py:smoke", "--workdir", tmp_path / "run"],
    }[command]
    code, out, err = unclip(command, *args, "-q")
    assert (code, out, err) == (2, "", "unclip: error: that is enough\n")


def test_training_is_quiet_in_a_terminal_and_in_a_log(capsys):
    from unclip_jax.cli.progress import Progress, TrainingProgress, set_quiet

    set_quiet(True)
    try:
        with Progress() as progress:
            bar = TrainingProgress(progress, 3, 20)
            bar.update(1)
            bar.set_postfix_str("loss 0.5")
            progress.announce("compiling")
            bar.close()
    finally:
        set_quiet(False)
    assert capsys.readouterr().err == ""


def in_terminal(code, **variables):
    """Runs Python code with stdout and stderr on a terminal; returns what it showed."""
    main, side = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "FORCE_COLOR": "1", **variables}
    run = subprocess.Popen([sys.executable, "-c", code], stdout=side, stderr=side, env=env)
    os.close(side)
    shown = b""
    while True:
        try:
            part = os.read(main, 1 << 16)
        except OSError:  # the other side is closed
            break
        shown += part
    os.close(main)
    assert run.wait() == 0
    return shown.decode()


def test_nothing_is_printed_in_color():
    """Bars, notes, help and cards in a terminal, whatever it can show: no escape sequence."""
    code = (
        "import contextlib\n"
        "from unclip_jax.cli.main import main\n"
        "from unclip_jax.cli.progress import Progress\n"
        "with Progress() as progress:\n"
        "    for i in range(4): progress.report('decoder', i, 4)\n"
        "    progress.say('a note')\n"
        "for args in (['--help'], ['info', 'emoji'], ['smple']):\n"
        "    with contextlib.suppress(SystemExit): main(args)\n"
    )
    shown = in_terminal(code, NO_COLOR="1", TQDM_DISABLE="")
    for words in ("decoder", "a note", "Commands:", "prior_diffusion", "did you mean sample"):
        assert words in shown
    assert "\x1b" not in shown
