import dataclasses

import pytest

from tests.data import emoji_world
from tests.data.ingest_sources import image_bytes
from unclip_jax.data.sets import emoji


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    """A folder with the five tarballs, as npm would leave them."""
    folder = tmp_path_factory.mktemp("npm")
    emoji_world.write_packages(folder)
    return folder


@pytest.fixture(scope="session")
def unpinned():
    """The packages without their integrity, since the tarballs are made here."""
    styles = {s: dataclasses.replace(p, integrity="") for s, p in emoji.PACKAGES.items()}
    return styles, dataclasses.replace(emoji.NAMES, integrity="")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory, packages, unpinned):
    """(folder of a prepared emoji set, what prepare_emoji returned)."""
    from unclip_jax.data.sets.prepare import prepare_emoji

    out = tmp_path_factory.mktemp("data") / "emoji"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emoji, "PACKAGES", unpinned[0])
        patch.setattr(emoji, "NAMES", unpinned[1])
        made = prepare_emoji(out, packages=packages, size=64)
    return out, made


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "pictures"
    (root / "deep").mkdir(parents=True)
    (root / "a.png").write_bytes(image_bytes("red"))
    (root / "a.txt").write_text("a red field\n\n  red  \n")
    (root / "deep" / "b.JPG").write_bytes(image_bytes("blue", "JPEG"))
    (root / "deep" / "b.txt").write_text("a blue field")
    (root / "cut.png").write_bytes(image_bytes("green")[:40])
    (root / "cut.txt").write_text("a cut picture")
    (root / "mute.png").write_bytes(image_bytes("green"))
    (root / "readme.md").write_text("no picture")
    return root
