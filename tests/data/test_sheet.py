import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from unclip_jax.cli.data import data
from unclip_jax.core.errors import UserError
from unclip_jax.data import sheet
from unclip_jax.data.sets import emoji
from unclip_jax.data.sets.shapes import ShapesSource


def invoke(*args):
    result = CliRunner().invoke(data, list(map(str, args)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_images_stand_in_rows_above_their_labels():
    pictures = [np.full((8, 8, 3), 50 * i, np.uint8) for i in range(3)]
    made = sheet.contact_sheet(pictures, ["a", "", "a very long label indeed"], columns=2, size=64)
    cell = made[4:68, 4:68], made[4:68, 72:136], made[88:152, 4:68]
    assert [int(c[0, 0, 0]) for c in cell] == [0, 50, 100]
    assert all((c == c[0, 0]).all() for c in cell)
    assert (made[69:84, 4:68] < 128).any()  # a label
    assert (made[69:84, 72:136] == 255).all()  # no label
    with pytest.raises(UserError):
        sheet.contact_sheet([], [])


def test_a_long_label_is_not_measured_whole(monkeypatch):
    measured = []
    draw = sheet.ImageDraw.ImageDraw
    length = draw.textlength

    def textlength(self, text, **options):
        measured.append(len(text))
        return length(self, text, **options)

    monkeypatch.setattr(draw, "textlength", textlength)
    made = sheet.contact_sheet([np.zeros((8, 8, 3), np.uint8)], ["il" * 1000], size=64)
    assert (made[69:84, 4:68] < 128).any()
    assert max(measured) <= 200


def test_pick_is_distinct_and_repeatable():
    chosen = sheet.sample_indices(100, 10, 0)
    assert len(set(chosen)) == 10
    assert chosen == sheet.sample_indices(100, 10, 0)
    assert sheet.sample_indices(3, 10, 0) == [0, 1, 2]


def test_statistics_of_a_known_source():
    source = ShapesSource("train", size=8, count=20)
    found = sheet.statistics(source)
    captions = [c for i in range(20) for c in source.info(i)["captions"]]
    assert found["examples"] == 20
    assert found["styles"] == {"shapes": 20}
    assert found["captions_per_example"] == pytest.approx(len(captions) / 20)


def test_show_writes_a_sheet_and_counts(prepared, tmp_path):
    out = tmp_path / "sheet.png"
    text = invoke("show", prepared[0], "--styles", "3d,flat", "--out", out)
    with Image.open(out) as picture:
        assert picture.width > 256
    assert "train:" in text.replace('"', "")
    shapes = ("show", "shapes:size=16,count=9", "--out", out, "--json")
    before = out.read_bytes()
    with pytest.raises(UserError, match=r"sheet\.png exists.*--overwrite"):
        invoke(*shapes)
    assert out.read_bytes() == before
    found = json.loads(invoke(*shapes, "--overwrite"))
    assert out.read_bytes() != before
    assert found["examples"] == 9
    assert found["splits"] == {"train": 9, "test": 9}


def test_prepare_prints_what_it_wrote(packages, unpinned, tmp_path, monkeypatch):
    monkeypatch.setattr(emoji, "PACKAGES", unpinned[0])
    monkeypatch.setattr(emoji, "NAMES", unpinned[1])
    monkeypatch.setenv("UNCLIP_DATA", str(tmp_path))
    options = ("--packages", packages, "--size", 32, "--styles", "flat")
    text = invoke("prepare", "emoji", *options)
    assert text.startswith("train: ")
    assert "left out, not drawable: 1 (flat/1f436 ...)" in text
    made = json.loads(invoke("prepare", "emoji", *options, "--overwrite", "--json"))
    assert made["broken"] == ["flat/1f436"]
    assert (tmp_path / "emoji" / "dataset_info.json").exists()
    assert (
        json.loads(invoke("show", "emoji", "--out", tmp_path / "s.png", "--json"))["examples"] > 0
    )


@pytest.mark.parametrize(("name", "reason"), [("coco", "no recipe"), ("shapes", "no preparation")])
def test_prepare_says_what_it_can(name, reason):
    with pytest.raises(UserError, match=reason):
        invoke("prepare", name)


def test_ingest_reports_what_it_left_out(tmp_path):
    source = tmp_path / "pictures"
    source.mkdir()
    for i in range(3):
        Image.new("RGB", (4, 4)).save(source / f"{i}.png")
    (source / "0.txt").write_text("black")
    text = invoke("ingest", source, "--out", tmp_path / "out", "--test-share", 0)
    assert "train: 1 images" in text
    assert "left out: 2 without caption" in text and "note:" not in text
    assert "--workdir runs/clip" in text
    shown = invoke("show", tmp_path / "out", "--out", tmp_path / "sheet.png")
    assert "examples: 1" in shown and "styles" not in shown and "concepts" not in shown
    for i in range(1, 3):
        (source / f"{i}.txt").write_text("black")
    text = invoke("ingest", source, "--out", tmp_path / "again", "--test-share", 0.3)
    assert "note: split test has only 2 images, too few" in text and "--test-share" in text
