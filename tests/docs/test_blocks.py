"""Every code block of README and docs/ runs, or says why not.

The pages' commands run as they stand, at smoke size: see shell.py.
"""

import json
import subprocess

import numpy as np
import pytest
from PIL import Image

from tests.data import emoji_world
from tests.docs.blocks import CODE, ROOT, blocks, code, pages, to_run
from tests.docs.shell import Shell

EMOJI, OWN = "docs/emoji.md", "docs/own_data.md"
ELSEWHERE = (EMOJI, OWN, "docs/extending.md")
RUN = [page for page in pages() if to_run(page)]


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """The process for all pages, with a place for data sets and small npm packages."""
    folder = tmp_path_factory.mktemp("shell")
    packages = folder / "cache" / "unclip_jax" / "npm"
    packages.mkdir(parents=True)
    emoji_world.write_packages(packages)
    variables = {"XDG_CACHE_HOME": folder / "cache", "UNCLIP_DATA": folder / "data"}
    started = Shell(folder, **{name: str(path) for name, path in variables.items()})
    yield started
    started.close()


@pytest.fixture(scope="module")
def emoji(shell, tmp_path_factory):
    """What the page that trains the emoji model leaves; its model then is the one that ships."""
    folder = tmp_path_factory.mktemp("emoji")
    run_page(EMOJI, shell, folder)
    shell.use_model(folder / "runs" / "mine")
    return folder


@pytest.fixture
def folder(tmp_path):
    """A folder with what a reader brings: captioned images, also as tars and as a list."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for i, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (24, 40, 48, 3))):
        Image.fromarray(pixels.astype(np.uint8)).save(photos / f"{i}.png")
        (photos / f"{i}.txt").write_text(f"a photo of thing {i % 5}")
    rows = [f"photos/{i}.png,thing {i % 5}" for i in range(24)]
    (tmp_path / "captions.csv").write_text("\n".join(["image,caption", *rows]))
    (tmp_path / "cc12m").mkdir()
    for i in range(2):
        names = [f"{n}.{kind}" for n in range(12 * i, 12 * i + 12) for kind in ("png", "txt")]
        tar = tmp_path / "cc12m" / f"{i:05}.tar"
        subprocess.run(["tar", "-cf", tar, "-C", photos, *names], check=True)
    return tmp_path


def run_page(page, shell, folder):
    for block in to_run(page):
        run = shell.bash if block.language == "bash" else shell.python
        run(block.text, folder)


def images(folder):
    """Returns the sizes of the images that a manifest lists."""
    sizes = []
    for entry in json.loads((folder / "manifest.json").read_text())["images"]:
        with Image.open(folder / entry["path"]) as image:
            sizes.append(image.size)
    return sizes


def test_emoji(emoji):
    assert images(emoji / "runs" / "images") == [(32, 32)] * 4
    bundle = json.loads((emoji / "runs" / "mine" / "bundle.json").read_text())
    stages = {"clip", "prior_diffusion", "prior_ar", "decoder", "upsampler_256"}
    assert set(bundle["stages"]) == stages


def test_own_data(shell, folder):
    """From a folder of images to samples, by the commands of the page and no others."""
    run_page(OWN, shell, folder)
    assert images(folder / "samples") == [(32, 32)] * 4
    rows = (folder / "runs" / "clip" / "metrics.jsonl").read_text().splitlines()
    assert any("held_out/loss" in json.loads(row) for row in rows)


def test_readme_trains_by_the_commands_of_the_page(tmp_path):
    """Its loop spelled out, README's block gives commands of the page, in their order."""
    spelled = spell_out(next(b for b in code("README.md") if "test_own_data" in b.note), tmp_path)
    page = [line for block in to_run(OWN) for line in spell_out(block, tmp_path)]
    assert len(spelled) == 8
    assert spelled == [line for line in page if line in spelled]


def spell_out(block, folder):
    """Returns the `unclip` commands that bash makes of a block."""
    stand_in = 'unclip() { printf "%q " "$@"; echo; }\n'
    run = ["bash", "-euc", stand_in + block.text]
    done = subprocess.run(run, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize("page", [page for page in RUN if page not in ELSEWHERE])
def test_page(page, shell, emoji, folder):
    run_page(page, shell, folder)


@pytest.mark.parametrize("page", pages())
def test_every_block_has_a_language_and_a_true_mark(page):
    for block in blocks(page):
        where = f"{page}:{block.line}"
        assert block.language, f"{where}: say which language the block is in"
        if block.language not in CODE:
            assert block.kind == "run", f"{where}: only code is marked"
        if block.kind == "run by":
            path, _, name = block.note.partition("::")
            text = (ROOT / path).read_text(encoding="utf-8")
            assert name.partition("[")[0] in text, f"{where}: no {name} in {path}"


@pytest.mark.parametrize("page", pages())
def test_code_is_fenced(page):
    """An indented block would not be found, nor run."""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if line.startswith(("    unclip ", "    make "))]
