"""The commands that take images: files, JSON, inputs of all kinds, refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from tests.toy import DIM, SIZE, toy_bundle
from unclip_jax.checkpoint.bundle import clip_digests, load
from unclip_jax.checkpoint.pca_file import save_pca
from unclip_jax.models.pca import fit_pca, unit_moments

FAST = ("--size", SIZE, "--invert-steps", 5)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Writes two images, a mask, and a PCA of the saved toy's CLIP."""
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        pixels = rng.integers(0, 256, (4, 4, 3)).astype(np.uint8).repeat(6, 0).repeat(6, 1)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    mask = np.zeros((24, 24), np.uint8)
    mask[:, 12:] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    return folder


@pytest.fixture(scope="module")
def pca(inputs, toy_folder):
    rows = np.random.default_rng(1).standard_normal((50, DIM))
    digest = sorted(clip_digests(load(toy_folder)))[0]
    save_pca(inputs / "pca.safetensors", fit_pca(unit_moments(rows), digest))
    return inputs / "pca.safetensors"


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def run(unclip, toy_folder, out, *args):
    code, printed, err = unclip(*args, "--model", toy_folder, "--out", out, "--json")
    assert code == 0, err
    result = json.loads(printed)
    assert list(result)[:4] == ["images", "grid", "settings", "seconds"]
    for index, entry in enumerate(result["images"]):
        assert {"path", "prompt", "seed", "index"} <= set(entry)
        assert (entry["index"], entry["seed"]) == (index, 0)
        assert pixels(entry["path"]).shape == (result["settings"]["size"],) * 2 + (3,)
        with Image.open(entry["path"]) as image:
            assert json.loads(image.text["settings"]) == result["settings"]
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["settings"] == result["settings"]
    assert [out / e["path"] for e in manifest["images"]] == [
        Path(e["path"]) for e in result["images"]
    ]
    assert pixels(result["grid"]).ndim == 3
    return result


def test_vary(unclip, refused, toy_folder, inputs, tmp_path):
    out = tmp_path / "out"
    args = ("vary", inputs / "a.png", "--num", 2, *FAST)
    result = run(unclip, toy_folder, out, *args)
    assert [Path(e["path"]).name for e in result["images"]] == [
        "variation-00.png",
        "variation-01.png",
    ]
    assert (result["settings"]["eta"], result["settings"]["invert_steps"]) == (1.0, 5)
    assert "--overwrite" in refused(*args, "--model", toy_folder, "--out", out)
    again = run(unclip, toy_folder, out, *args, "--overwrite", "--eta", 0)
    same = [pixels(entry["path"]) for entry in again["images"]]
    np.testing.assert_array_equal(same[0], same[1])  # eta 0 has no chance in it


def test_interpolate_and_its_gif(unclip, toy_folder, inputs, tmp_path):
    args = ("interpolate", inputs / "a.png", inputs / "b.png", "--frames", 3, *FAST)
    result = run(unclip, toy_folder, tmp_path / "out", *args)
    assert [entry["theta"] for entry in result["images"]] == [0.0, 0.5, 1.0]
    with Image.open(result["gif"]) as gif:
        assert sum(1 for _ in ImageSequence.Iterator(gif)) == 4  # there and back
    fixed = run(
        unclip, toy_folder, tmp_path / "fixed", *args[:5], "--noise", "fixed", "--num", 2, *FAST
    )
    assert len(fixed["images"]) == 6


def test_edit(unclip, toy_folder, inputs, tmp_path):
    args = ("edit", inputs / "a.png", "--to", "the sun", "--frames", 3, "--max-theta", 0.4, *FAST)
    result = run(unclip, toy_folder, tmp_path / "out", *args)
    assert [entry["theta"] for entry in result["images"]] == [0.0, 0.2, 0.4]
    assert {entry["prompt"] for entry in result["images"]} == {"the sun"}


def test_reconstruct(unclip, refused, toy_folder, inputs, pca, tmp_path):
    args = ("reconstruct", inputs / "a.png", "--size", SIZE)
    own = ("--model", toy_folder, "--out", tmp_path / "none")
    assert "--pca FILE" in refused(*args, *own)
    assert not (tmp_path / "none").exists()
    result = run(unclip, toy_folder, tmp_path / "out", *args, "--pca", pca, "--dims", "2,16,320")
    assert [entry["dims"] for entry in result["images"]] == [2, DIM]
    assert "/no/such" in refused(*args, *own, "--pca", "/no/such")
    other = tmp_path / "other.safetensors"
    save_pca(other, fit_pca(unit_moments(np.eye(DIM)), "0" * 64))
    assert "another CLIP" in refused(*args, *own, "--pca", other)


def test_inpaint(unclip, toy_folder, inputs, tmp_path):
    args = ("inpaint", inputs / "a.png", "the sun", "--mask", inputs / "mask.png", "--num", 2)
    result = run(unclip, toy_folder, tmp_path / "out", *args, "--size", 16, "--resamples", 2)
    given = pixels(tmp_path / "out" / "input.png")
    for entry in result["images"]:
        made = pixels(entry["path"])
        np.testing.assert_array_equal(made[:, :8], given[:, :8])
        assert (made[:, 8:] != given[:, 8:]).mean() > 0.5


def test_inputs_of_every_kind(unclip, toy_folder, inputs, tmp_path):
    """The same image as RGBA, palette, turned by EXIF, 16-bit gray, wide: all are understood."""
    with Image.open(inputs / "a.png") as image:
        picture = image.convert("RGB")
    gray = np.asarray(picture.convert("L"))
    turned = picture.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    picture.convert("RGBA").save(tmp_path / "rgba.png")
    picture.quantize(256).save(tmp_path / "palette.png")
    turned.save(tmp_path / "exif.png", exif=exif)
    Image.fromarray(gray).save(tmp_path / "gray.png")
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    seen = {}
    for name in ("rgba", "palette", "exif", "gray", "deep"):
        out = tmp_path / name
        args = ("vary", tmp_path / f"{name}.png", "--num", 1, "--eta", 0, *FAST)
        run(unclip, toy_folder, out, *args)
        seen[name] = pixels(out / "input.png")
    for name in ("palette", "exif"):
        np.testing.assert_allclose(seen[name].astype(int), seen["rgba"], atol=1)
    np.testing.assert_array_equal(seen["deep"], seen["gray"])
    assert seen["gray"].std() > 5


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["vary", "/no/such.png"], "/no/such.png"),
        (["vary", "{text}"], "not a readable image"),
        (["vary", "{tiny}"], "too few"),
        (["vary", "{a}", "--eta", 2], "eta"),
        (["vary", "{a}", "--num", 0], "num"),
        (["vary", "{a}", "--size", 17], "17"),
        (["vary", "{a}", "--invert-steps", 2], "invert_steps"),
        (["interpolate", "{a}"], "IMAGE_B"),
        (["interpolate", "{a}", "{a}", "--num", 2], "--noise fixed"),
        (["interpolate", "{a}", "{a}", "--frames", 1], "frames"),
        (["edit", "{a}"], "--to"),
        (["edit", "{a}", "--to", " "], "empty"),
        (["edit", "{a}", "--to", "x", "--from", "x"], "must differ"),
        (["edit", "{a}", "--to", "x", "--max-theta", 2], "max_theta"),
        (["reconstruct", "{a}", "--dims", "1,x"], "--dims"),
        (["inpaint", "{a}", "x", "--mask", "/no/mask.png"], "/no/mask.png"),
        (["inpaint", "{a}", "x", "--mask", "{tiny}"], "must agree"),
        (["inpaint", "{a}", " ", "--mask", "{a}"], "empty"),
    ],
)
def test_bad_calls_are_one_line_and_leave_nothing(
    toy_folder, inputs, tmp_path, refused, args, words
):
    files = {"a": inputs / "a.png", "text": tmp_path / "t.png", "tiny": tmp_path / "tiny.png"}
    files["text"].write_text("no picture")
    Image.new("RGB", (3, 3), "white").save(files["tiny"])
    before = sorted(tmp_path.iterdir())
    given = [str(arg).format(**files) for arg in args]
    out = tmp_path / "deep" / "out"
    assert words in refused(*given, "--model", toy_folder, "--out", out)
    assert sorted(tmp_path.iterdir()) == before


def test_an_image_of_too_many_pixels_is_refused(toy_folder, tmp_path, refused, monkeypatch):
    monkeypatch.setattr("unclip_jax.data.images.PIXEL_LIMIT", 500)
    Image.new("RGB", (30, 20)).save(tmp_path / "large.png")
    assert "30 x 20" in refused("vary", tmp_path / "large.png", "--out", tmp_path / "out")


def test_one_process_seed_changes_the_images(unclip, toy_folder, inputs, tmp_path):
    call = ("vary", inputs / "a.png", "--num", 1, *FAST)
    first = run(unclip, toy_folder, tmp_path / "1", *call)
    code, printed, _ = unclip(*call, "--model", toy_folder, "--out", tmp_path / "2", "--seed", 5)
    assert code == 0
    other = printed.split()[0]
    assert (pixels(first["images"][0]["path"]) != pixels(other)).any()


def test_the_toy_has_no_pca():
    assert toy_bundle().pca is None
