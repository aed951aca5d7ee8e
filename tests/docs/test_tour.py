"""The tour: the notebook runs, has its outputs, is a page of the site; the GIF is a calm minute."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from tests.docs.blocks import ROOT
from tools.docs.notebook_pages import notebook_page
from tools.tour import gif
from tools.tour.notebook import MOST_BYTES, NOTEBOOK, executed, tidy

TOUR_GIF = ROOT / "docs" / "assets" / "tour.gif"
PAPER = "2204.06125"


def cells(kind):
    return [c for c in json.loads(NOTEBOOK.read_text())["cells"] if c["cell_type"] == kind]


def test_every_cell_runs(monkeypatch):
    """With few steps, in a kernel of its own, which compiles into the tests' cache."""
    monkeypatch.setenv("UNCLIP_TOUR_SMOKE", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
    found = executed(NOTEBOOK)
    shown = [cell.outputs for cell in found.cells if cell.cell_type == "code"]
    kept = [cell["outputs"] for cell in cells("code")]
    assert [[list(o.data) for o in outputs] for outputs in shown] == [
        [list(o["data"]) for o in outputs] for outputs in kept
    ]


def test_it_is_kept_with_what_its_cells_show():
    assert NOTEBOOK.stat().st_size <= MOST_BYTES
    for number, cell in enumerate(cells("code"), start=1):
        (output,) = cell["outputs"]
        assert (output["output_type"], cell["execution_count"]) == ("execute_result", number)
    images = [c["outputs"][0]["data"]["image/png"] for c in cells("code")[1:-1]]
    for data in images:
        with Image.open(io.BytesIO(base64.b64decode("".join(data)))) as image:
            pixels = np.asarray(image.convert("RGB"))
        assert pixels.std() > 10, "an empty image"


def test_its_steps_name_the_papers_sections():
    text = "\n".join("".join(cell["source"]) for cell in cells("markdown"))
    assert PAPER in text
    for section in ("2", "2.1", "2.2", "3", "3.1", "3.2", "3.3", "4", "5.1"):
        assert f"section {section}" in text, section


def test_it_is_a_page_with_every_cell_and_image():
    text, images = notebook_page(NOTEBOOK)
    for cell in cells("markdown") + cells("code"):
        assert "".join(cell["source"]) in text
    assert len(images) == len(cells("code")) - 2
    assert all(f"]({name})" in text and data[:4] == b"\x89PNG" for name, data in images.items())


def test_outputs_that_differ_between_runs_are_not_kept():
    import nbformat

    made = nbformat.from_dict(
        {
            "metadata": {"language_info": {"version": "3.11.7"}, "widgets": {}},
            "cells": [
                {
                    "cell_type": "code",
                    "metadata": {"execution": {"iopub.status": "2026"}},
                    "execution_count": 7,
                    "outputs": [
                        {"output_type": "stream", "name": "stderr", "text": "3 s"},
                        {
                            "output_type": "execute_result",
                            "metadata": {"a": 1},
                            "data": {"text/plain": "<PIL at 0x7f>", "image/png": "aGk="},
                        },
                    ],
                }
            ],
        }
    )
    (cell,) = tidy(made).cells
    assert cell.execution_count == 1 and cell.metadata == {}
    assert [output.data for output in cell.outputs] == [{"image/png": "aGk="}]


def test_the_gif_is_a_minute_that_a_readme_can_show():
    assert TOUR_GIF.stat().st_size <= gif.MOST_BYTES
    assert "docs/assets/tour.gif" in (ROOT / "README.md").read_text()
    with Image.open(TOUR_GIF) as image:
        times = []
        for number in range(image.n_frames):
            image.seek(number)
            times.append(image.info["duration"])
    assert 45_000 <= sum(times) <= 75_000
    assert min(times) >= 200, "calm"


@pytest.mark.parametrize("caption", ["", "a red heart"])
def test_a_frame_has_its_tiles_at_their_places(caption):
    tiles = [np.full((8, 8, 3), 60 * n, np.uint8) for n in range(gif.ACROSS)]
    image = np.asarray(gif.drawn(gif.Frame("a title", tiles, [caption] * gif.ACROSS, 100)))
    for number in range(gif.ACROSS):
        middle = gif.GAP + number * (gif.TILE + gif.GAP) + gif.TILE // 2
        assert image[gif.TOP + gif.TILE // 2, middle, 0] == 60 * number
        below = image[gif.TOP + gif.TILE :, middle - 30 : middle + 30]
        assert (below.min() < 200) == bool(caption)


def test_a_saved_gif_keeps_the_times_of_its_frames(tmp_path):
    rng = np.random.default_rng(0)
    frames = [
        gif.Frame("t", rng.integers(0, 256, (4, 8, 8, 3), np.uint8), [""] * 4, 100 * (n + 2))
        for n in range(3)
    ]
    gif.save(tmp_path / "a.gif", frames)
    with Image.open(tmp_path / "a.gif") as image:
        times = []
        for number in range(image.n_frames):
            image.seek(number)
            times.append(image.info["duration"])
    assert times == [200, 300, 400]
