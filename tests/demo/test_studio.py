"""One request at a time, each with files of its own, stopped when nobody waits."""

import dataclasses
import os
import threading
import time
import zipfile

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from tests.demo.conftest import Fake
from unclip_jax.core.errors import UserError
from unclip_jax.demo.studio import KEPT, Job, Result, Step
from unclip_jax.demo.tabs import TABS, runner


def finish(steps):
    """Returns the result of a run and the texts on the way."""
    *before, result = steps
    assert isinstance(result, Result) and all(isinstance(step, Step) for step in before)
    return result, [step.text for step in before]


def test_a_result_has_the_files_of_a_command(studio):
    result, _ = finish(studio.run(Job(Fake(shade=9), seed=5)))
    ((path, caption),) = result.images
    assert caption == "θ 0.25" and result.seed == 5
    with Image.open(path) as image:
        assert image.text["prompt"] == "a caption" and image.text["seed"] == "5"
        assert '"command": "fake"' in image.text["settings"]
        assert (np.asarray(image) == 9).all()
    with Image.open(result.grid) as grid:
        assert '"seed": 5' in grid.text["settings"]
    with zipfile.ZipFile(result.archive) as archive:
        assert set(archive.namelist()) == {"made.png", "grid.png", "manifest.json"}


def test_requests_take_turns_and_keep_their_own_images(studio):
    running, most = [], []

    def work(session):
        running.append(1)
        most.append(len(running))
        time.sleep(0.02)
        running.pop()

    found = {}

    def ask(shade):
        result, _ = finish(studio.run(Job(Fake(shade, work), seed=shade)))
        with Image.open(result.images[0][0]) as image:
            found[shade] = (np.asarray(image).max(), result.seed, result.archive.parent)

    threads = [threading.Thread(target=ask, args=(shade,)) for shade in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert {shade: kept[:2] for shade, kept in found.items()} == {i: (i, i) for i in range(8)}
    assert len({kept[2] for kept in found.values()}) == 8


def test_progress_and_previews_are_steps(studio):
    shown = np.zeros((2, 16, 16, 3), np.uint8)

    def work(session):
        session.monitor.progress("decoder", 0, 4)
        session.monitor.progress("decoder", 2, 4)
        session.monitor.preview("decoder", shown)

    steps = list(studio.run(Job(Fake(work=work), seed=0)))
    texts = [step.text for step in steps[:-1] if step.text]
    assert texts[1] == "encoding" and texts[2].startswith("decoder: starting")
    assert texts[3] == "decoder: 2 of 4 steps"
    assert [step.preview is shown for step in steps[:-1]].count(True) == 1


def test_compiling_is_said_only_while_it_goes_on(studio, monkeypatch):
    monkeypatch.setattr(studio._compiles, "seconds", lambda: 3.0)
    slow = Job(Fake(work=lambda session: time.sleep(0.7)), seed=0)
    tab = dataclasses.replace(TABS[0], request=lambda choices, values: slow)
    assert any("encoding, compiling for 3 s (" in y[1] for y in runner(tab, studio, {})())
    monkeypatch.setattr(studio._compiles, "seconds", lambda: 0.0)
    assert not any("compil" in str(y[1]) for y in runner(tab, studio, {})())


def test_a_preview_is_sent_once(studio):
    """The images before are cleared at once; gradio would write one sent again over its file."""
    shown = np.zeros((2, 16, 16, 3), np.uint8)

    def work(session):
        session.monitor.progress("decoder", 1, 4)
        session.monitor.preview("decoder", shown)
        session.monitor.progress("decoder", 2, 4)
        session.monitor.progress("decoder", 3, 4)

    tab = dataclasses.replace(TABS[0], request=lambda choices, values: Job(Fake(work=work), seed=0))
    galleries = [yielded[0] for yielded in runner(tab, studio, {})()][:-1]
    assert galleries[0] == []
    sent = [gallery for gallery in galleries[1:] if gallery != gr.skip()]
    assert [len(images) for images in sent] == [2] and len(galleries) >= 5


def test_work_ends_when_nobody_waits(studio):
    begun, ended = threading.Event(), threading.Event()

    def work(session):
        begun.set()
        try:
            while True:
                session.monitor.progress("decoder", 1, 4)
                time.sleep(0.01)
        finally:
            ended.set()

    steps = studio.run(Job(Fake(work=work), seed=0))
    while not begun.is_set():
        next(steps)
    steps.close()
    assert ended.wait(5)
    finish(studio.run(Job(Fake(), seed=0)))


def test_whoever_waits_hears_something_all_the_time(studio):
    """Also while a program compiles: a closed page must end its request soon."""
    _, texts = finish(studio.run(Job(Fake(work=lambda session: time.sleep(1.3)), seed=0)))
    assert texts.count("") >= 2


def test_an_error_goes_to_whoever_asked_and_to_nobody_else(studio):
    def work(session):
        raise UserError("lower the guidance")

    with pytest.raises(UserError, match="lower the guidance"):
        list(studio.run(Job(Fake(work=work), seed=0)))
    with pytest.raises(UserError, match="2,000"):
        list(studio.run(Job(Fake(texts=("x" * 2001,)), seed=0)))
    finish(studio.run(Job(Fake(), seed=0)))


def test_old_results_are_removed(studio):
    old, _ = finish(studio.run(Job(Fake(), seed=0)))
    kept, _ = finish(studio.run(Job(Fake(), seed=0)))
    past = time.time() - KEPT - 1
    os.utime(old.archive.parent, (past, past))
    finish(studio.run(Job(Fake(), seed=0)))
    assert not old.archive.parent.exists() and kept.archive.is_file()


def test_many_programs_are_dropped_at_once(studio, monkeypatch):
    dropped = []
    monkeypatch.setattr("jax.clear_caches", lambda: dropped.append(1))
    monkeypatch.setattr("unclip_jax.demo.studio.PROGRAM_LIMIT", 2)
    event = "/jax/core/compile/backend_compile_duration"

    def compile_two(session):
        for _ in range(2):
            studio._count(event, 0.1)
        studio._count("/jax/core/compile/jaxpr_trace_duration", 0.1)

    finish(studio.run(Job(Fake(work=compile_two), seed=0)))
    assert dropped == []
    finish(studio.run(Job(Fake(work=compile_two), seed=0)))
    finish(studio.run(Job(Fake(work=compile_two), seed=0)))
    assert dropped == [1]
