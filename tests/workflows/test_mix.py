"""Items as they are written, and the weights of grids."""

import numpy as np
import pytest
from PIL import Image

from unclip_jax.core.errors import UserError
from unclip_jax.workflows.mix import MixItem, grid_weights, parse_item


@pytest.mark.parametrize(
    ("text", "caption", "weight"),
    [
        ("a red heart", "a red heart", None),
        ("a red heart:0.7", "a red heart", 0.7),
        ("a heart:2", "a heart", 2.0),
        ("a heart:.5e1", "a heart", 5.0),
        ("a heart:0", "a heart", 0.0),
        ("a heart: red", "a heart: red", None),
        ("a heart: 2", "a heart: 2", None),
        ("a heart:0x1", "a heart:0x1", None),
        ("a heart:1_0", "a heart:1_0", None),
        ("10:30", "10", 30.0),
        ("10:30:1", "10:30", 1.0),
        ("a heart:", "a heart:", None),
    ],
)
def test_captions_and_their_weights(text, caption, weight):
    assert parse_item(text) == MixItem(caption, None, weight)


def test_files_are_images_whatever_their_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("cat.png", "a heart", "x:2"):
        Image.new("RGB", (8, 8)).save(tmp_path / name, "png")
    for text, path, weight in (
        ("cat.png", "cat.png", None),
        ("cat.png:0.3", "cat.png", 0.3),
        ("a heart:2", "a heart", 2.0),
        ("x:2", "x:2", None),
        ("x:2:3", "x:2", 3.0),
    ):
        item = parse_item(text)
        assert (item.caption, str(item.path), item.weight) == (None, path, weight)
    (tmp_path / "folder").mkdir()
    assert parse_item("folder").caption == "folder"


@pytest.mark.parametrize(
    "text",
    ["", " ", ":1", "x:-1", "x:nan", "x:inf", "x:-Infinity", "x:1e999", "dog.PNG", "d.jpg:2"],
)
def test_bad_items_are_one_line(text):
    with pytest.raises(UserError) as caught:
        parse_item(text)
    assert "\n" not in str(caught.value)


def test_a_grid_is_a_row_or_a_triangle_with_its_items_at_the_ends():
    (row,) = grid_weights(2, 5)
    expected = [[1, 0], [0.75, 0.25], [0.5, 0.5], [0.25, 0.75], [0, 1]]
    np.testing.assert_allclose(row, expected)
    rows = grid_weights(3, 4)
    assert [len(r) for r in rows] == [1, 2, 3, 4]
    corners = [rows[0][0], rows[-1][0], rows[-1][-1]]
    np.testing.assert_allclose(corners, np.eye(3))
    points = np.concatenate(rows)
    np.testing.assert_allclose(points.sum(1), 1.0)
    assert len(np.unique(points.round(9), axis=0)) == 10
    np.testing.assert_allclose(rows[2][1], [1 / 3, 1 / 3, 1 / 3])
    with pytest.raises(UserError, match="two items"):
        grid_weights(4, 3)
