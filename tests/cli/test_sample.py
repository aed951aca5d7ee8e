"""`unclip sample`: files, JSON, refusals; one process on one device against eight here."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import unclip_jax
from unclip_jax.checkpoint import bundle

ROOT = Path(__file__).resolve().parents[2]
PROMPTS = ["a red heart", "the sun"]
ENV = {**os.environ, "JAX_NUM_CPU_DEVICES": "1", "JAX_PLATFORMS": "cpu"}
ENV["PYTHONPATH"] = str(ROOT)


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture(scope="module")
def one_device(toy_folder, tmp_path_factory):
    """Returns the output of a process of its own that has one device, and the images' folder."""
    out = tmp_path_factory.mktemp("samples") / "new" / "one"
    command = [sys.executable, "-m", "unclip_jax", "sample", *PROMPTS]
    command += ["--model", str(toy_folder), "--num", "2", "--out", str(out), "--json"]
    run = subprocess.run(command, env=ENV, capture_output=True, text=True, check=False, cwd="/")
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout), out


@pytest.fixture(scope="module")
def eight_devices(toy_folder):
    return unclip_jax.sample(bundle.load(toy_folder), PROMPTS, num=2)


def test_one_device_and_eight_give_the_same_images(one_device, eight_devices):
    result, _ = one_device
    images = np.stack([pixels(entry["path"]) for entry in result["images"]])
    difference = np.abs(images.astype(int) - eight_devices)
    assert difference.max() <= 2
    assert (difference == 0).mean() >= 0.999


def test_json_has_the_documented_shape(one_device, toy_folder):
    result, out = one_device
    assert list(result) == ["images", "grid", "settings", "seconds"]
    assert [e["prompt"] for e in result["images"]] == [p for p in PROMPTS for _ in range(2)]
    assert [e["index"] for e in result["images"]] == [0, 1, 2, 3]
    assert {e["seed"] for e in result["images"]} == {0}
    assert result["grid"] == str(out / "grid.png")
    assert result["settings"]["guidance"] == 3.0  # the bundle's
    stages = {"text", "prior_diffusion", "decoder", "upsampler_256"}
    assert set(result["seconds"]) == stages
    assert all(value > 0 for value in result["seconds"].values())


def test_files_say_how_they_were_made(one_device):
    result, out = one_device
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["settings"] == result["settings"]
    assert manifest["bundle"] == {"name": "toy", "git_commit": "0" * 40}
    names = [entry["path"] for entry in manifest["images"]]
    assert sorted(p.name for p in out.iterdir()) == sorted([*names, "grid.png", "manifest.json"])
    with Image.open(out / names[3]) as image:
        assert image.text["prompt"] == "the sun"
        assert (image.text["seed"], image.text["draw"]) == ("0", "1")
        assert json.loads(image.text["settings"]) == result["settings"]


def test_a_prompt_that_is_cut_is_said_to_be(toy_folder, tmp_path, unclip):
    long = "a red heart and " * 6
    args = ("--model", toy_folder, "--num", 1, "--size", 16, "--out", tmp_path / "out", "--json")
    code, out, err = unclip("sample", long, "the sun", *args)
    assert code == 0
    assert err.count("\n") == 1 and "first 10 tokens" in err and long.strip() in err
    assert json.loads(out)["cut_prompts"] == [long]


def test_existing_files_are_refused_before_anything_is_made(one_device, toy_folder, refused):
    _, out = one_device
    before = {p: p.stat().st_mtime_ns for p in out.iterdir()}
    err = refused("sample", PROMPTS[0], "--model", toy_folder, "--out", out)
    assert "--overwrite" in err
    assert {p: p.stat().st_mtime_ns for p in out.iterdir()} == before


def test_overwrite_replaces(toy_folder, tmp_path, unclip, eight_devices):
    args = ["sample", *PROMPTS, "--model", toy_folder, "--num", 2, "--out", tmp_path]
    (tmp_path / "grid.png").write_text("old")
    (tmp_path / "mine.txt").write_text("kept")
    code, out, _ = unclip(*args, "--overwrite")
    assert code == 0
    paths = out.split()
    assert [Path(p).name for p in paths][-1] == "grid.png"
    images = np.stack([pixels(path) for path in paths[:-1]])
    np.testing.assert_array_equal(images, eight_devices)
    assert pixels(tmp_path / "grid.png").ndim == 3
    assert (tmp_path / "mine.txt").read_text() == "kept"
    assert not list(tmp_path.glob(".*"))


def test_a_file_of_prompts_is_sampled_and_resumed(toy_folder, tmp_path, unclip, refused):
    listed, out = tmp_path / "prompts.txt", tmp_path / "out"
    listed.write_text("a red heart\n\nthe sun\n")
    args = ["sample", "--prompts", listed, "--model", toy_folder, "--num", 2, "--out", out]
    code, printed, _ = unclip(*args)
    assert (code, len(printed.split())) == (0, 5)
    first = sorted(out.glob("0*.png"))
    kept = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in first}
    first[2].unlink()
    code, _, _ = unclip(*args)
    assert code == 0
    for path in first:
        np.testing.assert_array_equal(path.read_bytes(), kept[path][0])
        assert (path.stat().st_mtime_ns == kept[path][1]) == (path != first[2])
    assert json.loads((out / "manifest.json").read_text())["complete"]
    times = {path: path.stat().st_mtime_ns for path in first}
    code, printed, _ = unclip(*args)  # nothing is left to make
    assert (code, len(printed.split())) == (0, 5)
    assert {path: path.stat().st_mtime_ns for path in first} == times
    assert "settings" in refused(*args, "--seed", 1)
    (out / "manifest.json").write_text("{")
    assert "manifest.json" in refused(*args)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "no prompt given"),
        (["--prompts", "/no/such/file"], "/no/such/file"),
        (["x", "--steps", 0], "steps"),
        (["x", "--steps", "many"], "many"),
        (["x", "--num", 0], "num"),
        (["x", "--num", 10**9], "1,000,000"),
        (["x", " \t"], "empty"),
        (["x", "--guidance", "nan"], "guidance"),
        (["x", "--sampler", "euler"], "euler"),
        (["x", "--size", 17], "17"),
        (["x", "--prior", "ar"], "prior_ar"),
        (["x", "--guidanc", 2], "guidanc"),
    ],
)
def test_bad_calls_are_one_line_and_leave_nothing(toy_folder, tmp_path, refused, args, words):
    out = tmp_path / "deep" / "out"
    assert words in refused("sample", *args, "--model", toy_folder, "--out", out)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--steps", "--prior-steps", "--size"])
def test_a_number_that_none_can_have_is_refused_before_the_bundle_is_read(refused, option):
    assert option in refused("sample", "x", option, 0, "--model", "no-such-bundle")


def test_an_unwritable_out_leaves_nothing(toy_folder, tmp_path, refused):
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert str(blocked) in refused("sample", "x", "--model", toy_folder, "--out", blocked / "out")
    assert "must be a folder" in refused("sample", "x", "--model", toy_folder, "--out", blocked)
    assert "/proc/" in refused("sample", "x", "--model", toy_folder, "--out", "/proc/unclip-out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_sigterm_leaves_nothing(toy_folder, tmp_path):
    command = [sys.executable, "-m", "unclip_jax", "sample", "x", "--num", "100"]
    command += ["--steps", "1000", "--model", str(toy_folder), "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, env=ENV, stderr=subprocess.PIPE, text=True, cwd="/")
    while not list(tmp_path.iterdir()):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (143, "\nunclip: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_while_writing_leaves_nothing(toy_folder, tmp_path, refused, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("unclip_jax.workflows.images.save_png", full)
    out = tmp_path / "out"
    args = ["sample", *PROMPTS, "--num", 2, "--model", toy_folder, "--out", out]
    assert "No space left" in refused(*args)
    assert list(tmp_path.iterdir()) == []
