"""Bulk sampling by two processes: one's images, one manifest, one grid."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.hosts import Job


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


@pytest.mark.hosts
def test_two_processes_make_the_images_of_one(toy_folder, tmp_path, unclip):
    listed, one, two = tmp_path / "prompts.txt", tmp_path / "one", tmp_path / "two"
    listed.write_text("a red heart\nthe sun\na dog face\n")
    args = ["sample", "--prompts", listed, "--model", toy_folder, "--num", 2, "--out"]
    code, printed, _ = unclip(*args, one)
    assert code == 0
    with Job(tmp_path / "log", [*args, two], processes=2) as job:
        code, shared = job.end()
        assert code == 0, job.told()
    assert shared == printed.replace(str(one), str(two))  # said once, and all of it
    names = sorted(path.name for path in one.iterdir())
    assert sorted(path.name for path in two.iterdir()) == names and len(names) == 8
    for name in (name for name in names if name.endswith(".png")):
        difference = abs(pixels(one / name) - pixels(two / name))
        # Batches of another size round otherwise; the decoder's output is 8 bits deep.
        assert difference.max() <= 2 and (difference == 0).mean() >= 0.999, name
    ours, theirs = (json.loads((out / "manifest.json").read_text()) for out in (two, one))
    for manifest in (ours, theirs):
        assert manifest["complete"] and set(manifest.pop("seconds")) >= {"decoder"}
    assert ours == theirs

    (two / names[1]).unlink()  # of the second image; the next run, by one process, makes it again
    assert unclip(*args, two)[0] == 0
    assert (two / names[1]).is_file()


def test_one_prompt_is_not_shared_among_hosts(refused, toy_folder, tmp_path):
    args = ("--model", toy_folder, "--out", tmp_path / "out", "--coordinator", "auto")
    assert "--prompts FILE" in refused("sample", "x", *args)
