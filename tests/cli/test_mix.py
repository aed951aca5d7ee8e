"""`unclip mix`: files, JSON, figures, refusals."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.toy import SIZE, toy_bundle
from unclip_jax.checkpoint import bundle

RESULT = ["images", "grid", "settings", "seconds"]


@pytest.fixture(scope="module")
def cat(tmp_path_factory):
    path = tmp_path_factory.mktemp("inputs") / "cat.png"
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    Image.fromarray(pixels.repeat(6, 0).repeat(6, 1)).save(path)
    return path


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def run(unclip, toy_folder, out, *args):
    call = ("mix", *args, "--model", toy_folder, "--out", out, "--size", SIZE, "--json")
    code, printed, err = unclip(*call)
    assert code == 0, err
    result = json.loads(printed)
    assert list(result)[:4] == RESULT
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["settings"] == result["settings"]
    for index, entry in enumerate(result["images"]):
        assert list(entry)[:4] == ["path", "prompt", "seed", "index"]
        assert (entry["index"], entry["seed"]) == (index, 0)
        with Image.open(entry["path"]) as image:
            assert image.text["prompt"] == entry["prompt"]
            assert json.loads(image.text["settings"]) == result["settings"]
    return result


def test_a_mixture(unclip, refused, toy_folder, cat, tmp_path):
    args = ("the sun:3", f"{cat}:1", "--num", 2, "--negative", "a blue car", "--negative", cat)
    result = run(unclip, toy_folder, tmp_path / "out", *args)
    names = [Path(entry["path"]).name for entry in result["images"]]
    assert names == ["mix-00.png", "mix-01.png"]
    assert {entry["prompt"] for entry in result["images"]} == {"0.75 the sun + 0.25 cat.png"}
    settings = result["settings"]
    assert (settings["items"], settings["weights"]) == (["the sun", str(cat)], [[0.75, 0.25]])
    assert settings["negative"] == ["a blue car", str(cat)]
    assert settings["negative_weights"] == [0.5, 0.5]
    assert (settings["mean"], settings["prior"]) == ("spherical", "diffusion")
    assert (tmp_path / "out" / "input-01.png").is_file()
    again = ("mix", *args, "--model", toy_folder, "--out", tmp_path / "out", "--size", SIZE)
    assert "--overwrite" in refused(*again)
    straight = run(unclip, toy_folder, tmp_path / "linear", *args, "--linear")
    assert straight["settings"]["mean"] == "linear"
    ends = [pixels(r["images"][0]["path"]).astype(int) for r in (result, straight)]
    assert np.abs(ends[0] - ends[1]).max() > 0


def test_grids(unclip, toy_folder, cat, tmp_path):
    """Sizes of the figures: tiles of 96 pixels, 8 apart, for as many columns as a side has."""
    row = run(unclip, toy_folder, tmp_path / "row", "the sun", "a blue car", "--grid", 3)
    assert [entry["weights"] for entry in row["images"]] == [[1, 0], [0.5, 0.5], [0, 1]]
    assert pixels(row["grid"]).shape[1] == 3 * 104 + 8
    items = ("the sun", "a blue car", cat)
    made = run(unclip, toy_folder, tmp_path / "triangle", *items, "--grid", 3, "--num", 2)
    assert [entry["draw"] for entry in made["images"]] == [0] * 6 + [1] * 6
    assert [entry["weights"] for entry in made["images"][:6]] == [
        [1, 0, 0],
        [0.5, 0.5, 0],
        [0.5, 0, 0.5],
        [0, 1, 0],
        [0, 0.5, 0.5],
        [0, 0, 1],
    ]
    figure = pixels(made["grid"])
    assert figure.shape[1] == 3 * 104 + 8
    top = np.repeat(np.repeat(pixels(made["images"][0]["path"]), 6, 0), 6, 1)
    middle = figure[:, 112:208]  # of 320
    tops = [i for i in range(len(middle) - 96) if (middle[i : i + 96] == top).all()]
    assert len(tops) == 1  # the first corner stands in the middle


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "ITEM"),
        (["x:-1"], "not negative"),
        (["x:nan"], "finite"),
        (["x:0", "y:0"], "not all 0"),
        (["x", "no.png"], "no.png"),
        (["x", "no.avif:2"], "no image 'no.avif'"),
        (["x", "./no"], "no image './no'"),
        (["x", "/"], "no image '/'"),
        (["x", "{text}"], "not a readable image"),
        (["x", " "], "no caption"),
        (["x", "--grid", 3], "two items"),
        (["x:1", "y", "--grid", 3], "leave them out"),
        (["x", "y", "--grid", 1], "grid"),
        (["x", "--num", 1000001], "1,000,000"),
        (["x", "--prior", "none"], "none"),
        (["x", "--negative", "y:0"], "negative weights"),
        (["x", "--negative", "y", "--guidance", 1], "guidance"),
        (["{cat}", "--prior-steps", 3], "prior_steps is for captions, and all items are images"),
        (["x", "--size", 17], "17"),
    ],
)
def test_bad_calls_are_one_line_and_leave_nothing(toy_folder, cat, tmp_path, refused, args, words):
    text = tmp_path / "text.png"
    text.write_text("no picture")
    given = [str(arg).format(cat=cat, text=text) for arg in args]
    assert words in refused("mix", *given, "--model", toy_folder, "--out", tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == [text]


def test_captions_need_a_prior_of_the_bundle(unclip, refused, cat, tmp_path):
    """A bundle without priors has none as its default, which nobody wrote on the command line."""
    model = toy_bundle()
    stages = {name: stage for name, stage in model.stages.items() if name != "prior_diffusion"}
    defaults = dataclasses.replace(model.sampling, prior="none")
    bare = dataclasses.replace(model, stages=stages, sampling=defaults, arrays={})
    folder = bundle.save(bare, tmp_path / "bare")
    args = ("--model", folder, "--out", tmp_path / "out", "--size", SIZE)
    assert "such as text" in refused("mix", "the sun", cat, *args)
    assert not (tmp_path / "out").exists()
    assert unclip("mix", cat, *args)[0] == 0


def test_the_help_says_how_a_caption_ends_in_a_number(unclip):
    assert '"10:30:1"' in unclip("mix", "--help")[1]
