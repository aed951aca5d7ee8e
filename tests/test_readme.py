"""README's commands do what they say: run as they stand, but for sizes and folders."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from tests.data import emoji_world

ROOT = Path(__file__).resolve().parents[1]


def commands(heading):
    """Returns the commands of README's indented blocks under a heading, each as its words."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = re.split(r"^#+ ", text.split(f"### {heading}\n", 1)[1], flags=re.M)[0]
    joined = section.replace("\\\n", " ")
    lines = [line for line in joined.splitlines() if line.startswith("    unclip ")]
    return [shlex.split(line)[1:] for line in lines]


def smoke(words):
    """Returns a command with the smallest variant of its config."""
    return [f"{w}:smoke" if re.fullmatch(r"configs/\S+\.py", w) else w for w in words]


# A process of its own with one device, as a user's: eight would compile everything for eight.
RUN = """
import dataclasses, json, sys
from unclip_jax.cli.main import main
from unclip_jax.data.sets import emoji

def unpinned(package):
    return dataclasses.replace(package, integrity="")

emoji.PACKAGES = {name: unpinned(package) for name, package in emoji.PACKAGES.items()}
emoji.NAMES = unpinned(emoji.NAMES)
for words in json.load(sys.stdin):
    try:
        main(words)
    except SystemExit as ended:
        if ended.code:
            sys.exit(f"unclip {' '.join(words)} ended with {ended.code}")
"""


def run_all(listed, folder, **variables):
    result = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps([smoke(words) for words in listed]),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1", **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]


def check_images(folder, size):
    manifest = json.loads((folder / "manifest.json").read_text())
    assert len(manifest["images"]) == 4
    for entry in manifest["images"]:
        with Image.open(folder / entry["path"]) as image:
            assert image.size == (size, size)


def test_train_it_yourself(tmp_path):
    listed = commands("Train it yourself")
    assert listed[0] == ["data", "prepare", "emoji"] and listed[-1][0] == "sample"
    stages = {Path(w).stem for words in listed for w in words if w.startswith("configs/")}
    assert stages == {"clip", "prior_diffusion", "prior_ar", "decoder", "upsampler_256"}
    # Small tarballs in place of what npm would fetch.
    packages = tmp_path / "cache" / "unclip_jax" / "npm"
    packages.mkdir(parents=True)
    emoji_world.write_packages(packages)
    folders = {"XDG_CACHE_HOME": tmp_path / "cache", "UNCLIP_DATA": tmp_path / "data"}
    run_all(listed, tmp_path, **{key: str(folder) for key, folder in folders.items()})
    check_images(tmp_path / "runs" / "images", 32)


def test_train_on_your_own_data(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for i, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (24, 40, 48, 3))):
        Image.fromarray(pixels.astype(np.uint8)).save(photos / f"{i}.png")
        (photos / f"{i}.txt").write_text(f"a photo of thing {i % 5}")
    listed = commands("Train on your own data")
    assert listed[0][:2] == ["data", "ingest"] and listed[-1][0] == "sample"
    run_all(listed, tmp_path)
    check_images(tmp_path / "runs" / "own_images", 32)
    rows = (tmp_path / "runs" / "own_clip" / "metrics.jsonl").read_text().splitlines()
    assert any("held_out/loss" in json.loads(row) for row in rows)
