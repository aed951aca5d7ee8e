"""Progress: bars in a terminal, lines in a log, the same programs and images in both."""

import io
import sys
import time

import jax
import numpy as np
import pytest
from PIL import Image

from unclip_jax.core.errors import UserError


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


class Clock:
    """A clock that a test sets."""

    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def watched(monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)


@pytest.fixture
def compiled():
    """Returns a list that grows by a name with every program that JAX compiles."""
    names = []

    def ended(event, seconds, **about):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(about.get("fun_name"))

    jax.monitoring.register_event_duration_secs_listener(ended)
    yield names
    jax.monitoring.unregister_event_duration_listener(ended)


def test_bars_change_no_pixel_and_no_program(
    toy_folder, tmp_path, unclip, monkeypatch, watched, compiled
):
    quiet = tmp_path / "quiet"
    args = ("sample", "a red heart", "--model", toy_folder, "--num", 1, "--out")
    code, out, _ = unclip(*args, quiet)
    assert code == 0
    assert out.split() == [str(quiet / "000-a-red-heart-00.png"), str(quiet / "grid.png")]
    compiled.clear()
    seen, terminal = tmp_path / "watched", Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert unclip(*args, seen)[0] == 0
    shown = terminal.getvalue()
    for stage in ("prior_diffusion", "decoder", "upsampler_256"):
        assert f"{stage}:" in shown
    assert "/4" in shown and "step/s" in shown
    assert compiled == []
    name = "000-a-red-heart-00.png"
    with Image.open(quiet / name) as a, Image.open(seen / name) as b:
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize("command", ["sample", "classify", "vary", "plan"])
def test_a_command_that_lasts_says_what_it_does(tmp_path, unclip, monkeypatch, watched, command):
    """Outside a terminal too; what takes 2.6 s here stands for a large model."""

    def slow(*args, **options):
        time.sleep(2.6)
        raise UserError("that is enough")

    monkeypatch.setattr("unclip_jax.checkpoint.bundle.load", slow)
    monkeypatch.setattr("unclip_jax.plan.estimate.planned_program", slow)
    image = tmp_path / "image.png"
    Image.new("RGB", (16, 16), "red").save(image)
    args = {
        "sample": ["the sun", "--out", tmp_path / "out"],
        "classify": [image, "a red heart", "--json"],
        "vary": [image, "--num", 1, "--out", tmp_path / "out"],
        "plan": ["--config", "configs/emoji/clip.py"],
    }
    code, out, err = unclip(command, *args[command])
    assert (code, out) == (2, "")
    first = "unclip: tracing the training step" if command == "plan" else "unclip: loading emoji"
    assert err.splitlines() == [first, "unclip: error: that is enough"]


def test_lines_of_a_log_come_at_the_stated_times(monkeypatch, capsys, watched):
    from unclip_jax.cli.progress import Progress

    clock = Clock()
    monkeypatch.setattr("unclip_jax.cli.progress.TICK", 1e6)  # the thread sleeps: the test calls

    def lines():
        return capsys.readouterr().err.splitlines()

    with Progress(clock=clock) as progress:
        progress.phase("loading emoji")
        clock.now += 1.9
        progress.count(0, 88, "images")
        assert lines() == []  # what is done in two seconds says nothing
        clock.now += 0.2
        progress.report("decoder", 0, 40)
        assert lines() == ["unclip: 0/88 images, decoder"]
        for done in range(4, 24, 4):  # a chunk a second
            clock.now += 1.0
            progress.report("decoder", done, 40)
        assert lines() == ["unclip: 0/88 images, decoder 20/40"]
        clock.now += 12.9  # 20 s since the start of the first 16 images: 20 s / 16 each
        progress.count(16, 88, "images")
        assert lines() == ["unclip: 16/88 images, decoder 20/40, 81 s left"]
        progress.report("decoder", 0, 40)
        assert lines() == []
    clock.now += 60
    assert lines() == []


def test_steps_left_are_at_the_rate_after_the_first_part(monkeypatch, capsys, watched):
    """The first part of a stage may have compiled its program for a minute."""
    from unclip_jax.cli.progress import Progress

    clock = Clock()
    monkeypatch.setattr("unclip_jax.cli.progress.TICK", 1e6)
    with Progress(clock=clock) as progress:
        progress.report("decoder", 0, 40)
        clock.now += 60.0
        progress.report("decoder", 4, 40)
        clock.now += 10.0
        progress.report("decoder", 8, 40)
    assert capsys.readouterr().err.splitlines()[-1] == "unclip: decoder 8/40, 80 s left"


def test_compiling_is_said_while_it_lasts(monkeypatch, capsys, watched):
    """A program whose tracing takes two seconds; the thread reports, for nothing else does."""
    from unclip_jax.cli import progress as lib

    monkeypatch.setattr(lib, "FIRST", 1.2)

    def slow(x):
        time.sleep(2.0)
        return x + 1

    with lib.Progress() as progress:
        progress.report("decoder", 0, 40)
        jax.jit(slow)(1.0)
    assert "unclip: decoder: compiling, " in capsys.readouterr().err


def test_notes_stand_on_lines_of_their_own(monkeypatch, capsys, watched):
    from unclip_jax.cli.progress import Progress, say

    say("before")
    assert capsys.readouterr().err == "unclip: before\n"
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress() as progress:
        progress.report("decoder", 10, 40)
        say("a note")
        progress.report("decoder", 20, 40)
    text = terminal.getvalue()
    assert "\runclip: a note\n" in text and "20/40" in text.split("a note")[1]
    assert text.endswith("\r")  # nothing is left on the line


def test_training_in_a_terminal_is_a_bar_with_its_metrics(monkeypatch, watched):
    """From step 3 of 20; what the loop counts is drawn by the thread, its last line stays."""
    from unclip_jax.cli.progress import Progress, TrainingProgress

    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with Progress() as progress:
        bar = TrainingProgress(progress, 3, 20)
        for step in range(6):
            bar.update(1)
            bar.set_postfix_str(f"loss 0.{step}")
        bar.update(1)
        time.sleep(1.0)
        bar.close()
    text = terminal.getvalue()
    assert "training:" in text and "10/20" in text and "loss 0.5]" in text
    assert text.endswith("\runclip: loss 0.5\n")


def test_tqdms_own_switch_turns_it_off(monkeypatch, capsys):
    from unclip_jax.cli.progress import Progress

    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("TQDM_DISABLE", "1")
    with Progress() as progress:
        progress.report("decoder", 10, 40)
    assert terminal.getvalue() == ""
