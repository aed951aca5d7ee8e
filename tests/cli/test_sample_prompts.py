"""`unclip sample`: what it says of prompts, names of files, and bulk runs that are gone on with."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image, ImageFont

from tests.toy import toy_bundle
from unclip_jax.checkpoint import bundle
from unclip_jax.workflows import text_to_image

EMOJI = {"stages": {"clip": {"data": {"name": "emoji"}}}}
FAST = ("--num", 1, "--size", 16, "--prior", "text")


@pytest.fixture(scope="module")
def emoji_folder(tmp_path_factory):
    made = dataclasses.replace(toy_bundle(), provenance=EMOJI)
    return bundle.save(made, tmp_path_factory.mktemp("bundles") / "emoji_toy")


def test_emoji_are_read_named_and_recorded(emoji_folder, tmp_path, unclip, monkeypatch):
    labels, draw = [], text_to_image.labeled_grid

    def noted(rows, given, *args):
        labels.extend(given)
        return draw(rows, given, *args)

    monkeypatch.setattr(text_to_image, "labeled_grid", noted)
    args = ("--model", emoji_folder, *FAST, "--out", tmp_path / "out", "--json")
    code, out, err = unclip("sample", "❤️", "a red heart", "a red haert!", *args)
    assert code == 0
    names = [path.name for path in sorted((tmp_path / "out").glob("0*.png"))]
    assert names == ["000-a-red-heart-00.png", "001-a-red-heart-00.png", "002-a-red-haert-00.png"]
    assert labels == ["a red heart", "a red heart", "a red haert!"]  # the font has no emoji
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [e["prompt"] for e in manifest["images"]] == ["❤️", "a red heart", "a red haert!"]
    read = ["a red heart", "a red heart", "a red haert"]
    assert [e["read_as"] for e in manifest["images"]] == read
    assert json.loads(out)["images"][0]["read_as"] == "a red heart"
    assert err.count("\n") == 1 and "far from what this model was trained on" in err
    assert "'haert' (did you mean 'heart'?)" in err


def test_a_photo_is_said_to_be_far_from_training(emoji_folder, tmp_path, unclip):
    rng = np.random.default_rng(0)
    photo, drawing = tmp_path / "photo.png", tmp_path / "drawing.png"
    Image.fromarray(rng.integers(0, 256, (40, 30, 3), np.uint8)).save(photo)
    pixels = np.full((32, 32, 3), 255, np.uint8)
    pixels[8:24, 8:24] = (220, 20, 30)
    Image.fromarray(pixels).save(drawing)
    for path, is_far in ((photo, True), (drawing, False)):
        args = (path, "a red heart", "the sun", "--model", emoji_folder, "--json")
        code, out, err = unclip("classify", *args)
        assert code == 0
        assert err.count("far from what this model was trained on") == is_far
        assert json.loads(out)["far_from_training"] == ([str(path)] if is_far else [])


def test_a_grid_says_that_it_shows_a_part(toy_folder, tmp_path, unclip, monkeypatch):
    monkeypatch.setattr("unclip_jax.workflows.text_to_image.GRID_PROMPTS", 2)
    prompts = ["a red heart", "the sun", "a blue car"]
    code, _, err = unclip("sample", *prompts, "--model", toy_folder, *FAST, "--out", tmp_path / "o")
    assert (code, err) == (0, "unclip: grid.png shows the first 2 of 3 prompts\n")


def test_small_images_of_a_bundle_without_upsampler_are_said_to_be_so(tmp_path, unclip):
    stages = {k: v for k, v in toy_bundle().stages.items() if k != "upsampler_256"}
    small = dataclasses.replace(
        toy_bundle(), stages=stages, cascade=(), sampling=bundle.SamplingDefaults()
    )
    folder = bundle.save(small, tmp_path / "small")
    args = ("sample", "the sun", "--model", folder, "--num", 1, "--prior", "text", "--out")
    code, _, err = unclip(*args, tmp_path / "out")
    assert (code, err.count("\n")) == (0, 1) and "16 pixels" in err and "no upsampler" in err
    code, _, err = unclip(*args, tmp_path / "again", "--size", 16)
    assert (code, err) == (0, "")


def test_a_prompt_that_nobody_types_is_refused_before_anything(tmp_path, refused):
    err = refused("sample", "x" * 1_000_000, "--out", tmp_path / "out")
    assert "1,000,000 characters" in err and len(err) < 400
    assert list(tmp_path.iterdir()) == []


def test_a_long_label_is_measured_a_few_times(monkeypatch):
    from unclip_jax.core.rendering import labeled_grid

    calls = []
    measure = ImageFont.FreeTypeFont.getlength

    def counted(font, text, *args, **options):
        calls.append(len(text))
        return measure(font, text, *args, **options)

    monkeypatch.setattr(ImageFont.FreeTypeFont, "getlength", counted)
    labeled_grid([[np.zeros((16, 16, 3), np.uint8)]], ["x" * 2000])
    assert len(calls) < 50 and max(calls) <= 1001


@pytest.fixture
def bulk(tmp_path):
    """Returns the arguments of a bulk run of a bundle of its own, and its folder."""
    bundle.save(toy_bundle(), tmp_path / "model")
    (tmp_path / "prompts.txt").write_text("a red heart\nthe sun\na blue car\n")
    args = ["sample", "--prompts", tmp_path / "prompts.txt", "--model", tmp_path / "model", *FAST]
    return [*args, "--out", tmp_path / "out"], tmp_path


def test_a_bulk_run_is_not_gone_on_with_by_other_parameters(bulk, unclip, refused):
    args, folder = bulk
    assert unclip(*args)[0] == 0
    (folder / "out" / "001-the-sun-00.png").unlink()
    bundle.save(toy_bundle(1), folder / "model", overwrite=True)
    err = refused(*args)
    assert "parameters" in err and "--overwrite" in err
    assert not (folder / "out" / "001-the-sun-00.png").exists()
    manifest = folder / "out" / "manifest.json"
    held = json.loads(manifest.read_text())
    del held["parameters"]  # as older versions wrote it
    manifest.write_text(json.dumps(held))
    assert "--overwrite" in refused(*args)
    assert unclip(*args, "--overwrite")[0] == 0


def test_a_part_of_an_image_is_made_again(bulk, unclip):
    args, folder = bulk
    assert unclip(*args)[0] == 0
    paths = sorted((folder / "out").glob("0*.png"))
    whole = [path.read_bytes() for path in paths]
    paths[0].write_bytes(b"")
    paths[1].write_bytes(whole[1][: len(whole[1]) // 2])
    before = paths[2].stat().st_mtime_ns
    assert unclip(*args)[0] == 0
    assert [path.read_bytes() for path in paths] == whole
    assert paths[2].stat().st_mtime_ns == before


def test_a_folder_has_one_bulk_run_at_a_time(bulk, unclip, refused):
    import fcntl

    args, folder = bulk
    (folder / "out").mkdir()
    with open(folder / "out" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "in use" in refused(*args)
    assert unclip(*args)[0] == 0
    assert not list((folder / "out").glob(".*"))
