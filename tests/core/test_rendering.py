"""PNG files say how they were made; grids hold every image and a caption that fits."""

import numpy as np
import pytest
from PIL import Image, ImageFont, ImageSequence

from unclip_jax.core.rendering import (
    Strip,
    labeled_grid,
    labeled_strips,
    save_gif,
    save_png,
    slug,
    wrap,
)


def test_png_text_comes_back(tmp_path):
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    text = {"prompt": "ein Herz ❤ – größer", "seed": "7"}
    save_png(tmp_path / "a.png", image, text)
    with Image.open(tmp_path / "a.png") as back:
        assert back.text == text
        np.testing.assert_array_equal(np.asarray(back), image)


@pytest.mark.parametrize(
    ("text", "name"),
    [("A red Heart!", "a-red-heart"), ("../etc/passwd", "etc-passwd"), ("心", "image")],
)
def test_slugs_are_safe_names(text, name):
    assert slug(text) == name
    assert len(slug(text * 100)) <= 40


def test_a_grid_holds_every_image():
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]
    images = [np.full((64, 64, 3), colour, np.uint8) for colour in colours]
    grid = np.asarray(labeled_grid([images[:3], images[3:]], ["three", "one"], columns=2))
    for colour in colours:  # every tile is the image at twice its size
        assert (grid == np.array(colour, np.uint8)).all(-1).sum() == 128 * 128
    corners = [np.argwhere((grid == np.array(c, np.uint8)).all(-1)).min(0) for c in colours]
    (top, left), (same, right), (below, under), (last, first) = corners
    assert top == same < below < last and left == under == first < right  # in reading order


def test_single_images_share_lines():
    image = np.full((96, 96, 3), (255, 0, 0), np.uint8)
    grid = np.asarray(labeled_grid([[image]] * 7, [f"number {i}" for i in range(7)], columns=4))
    red = (grid == np.array((255, 0, 0), np.uint8)).all(-1)
    assert red.sum() == 7 * 96 * 96
    assert red.any(0).sum() == 4 * 96  # four abreast
    assert red.any(1).sum() == 2 * 96  # on two lines


def test_captions_fit():
    font = ImageFont.load_default(size=15)
    lines = wrap("several words and averyveryveryveryverylongword " * 5, font, 150)
    assert len(lines) == 3
    assert all(font.getlength(line) <= 150 for line in lines)
    assert wrap("short", font, 150) == ["short"]


def test_strips_hold_every_image_and_label():
    red = np.full((64, 64, 3), (255, 0, 0), np.uint8)
    strips = [Strip("a title", [red] * 5, [f"label {i}" for i in range(5)]), Strip("", [red], [""])]
    figure = np.asarray(labeled_strips(strips, columns=3))
    hue = (figure == np.array((255, 0, 0), np.uint8)).all(-1)
    assert hue.sum() == 6 * 128 * 128  # enlarged twice
    assert hue.any(0).sum() == 3 * 128
    assert (figure < 100).all(-1).any()  # ink


def test_a_gif_goes_there_and_back(tmp_path):
    frames = [np.full((64, 64, 3), value, np.uint8) for value in (0, 128, 255)]
    save_gif(tmp_path / "a.gif", frames)
    with Image.open(tmp_path / "a.gif") as gif:
        shown = [np.asarray(f.convert("RGB"))[0, 0, 0] for f in ImageSequence.Iterator(gif)]
        assert gif.size == (192, 192)
    assert [int(v) for v in shown] == [0, 128, 255, 128]
