"""What travels: pieces of files, the small data set, wheels; processes that end in time."""

import io
import json
import signal
import sys
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

from tools.turns import clock, data, pieces, wheels
from unclip_jax.core.errors import UserError
from unclip_jax.data import builder, images
from unclip_jax.data.sources import RecordSource


def test_files_are_cut_and_joined(tmp_path):
    """Of 5, 0, 7 and 3 bytes in pieces of 4: the last one has 3."""
    source = tmp_path / "from"
    (source / "a" / "b").mkdir(parents=True)
    texts = {"a/1": b"12345", "a/2": b"", "a/b/3": b"abcdefg", "c": b"xyz"}
    for name, text in texts.items():
        (source / name).write_bytes(text)
    entries = pieces.list_files(source, ["c", "a"])
    assert [entry.name for entry in entries] == ["c", "a/1", "a/2", "a/b/3"]
    cut = list(pieces.cut(source, entries, 4))
    assert cut == [b"xyz1", b"2345", b"abcd", b"efg"]
    pieces.join(cut, entries, tmp_path / "to", "PIECES")
    assert {n: (tmp_path / "to" / n).read_bytes() for n in texts} == texts
    for wrong in ([*cut[:3], b"efG"], cut[:3], [*cut, b"h"]):
        with pytest.raises(UserError, match="^PIECES"):
            pieces.join(wrong, entries, tmp_path / "other", "PIECES")


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "", ".", "a//b", "a/", "a\\b", "a\0"])
def test_no_file_is_written_outside_of_the_folder(name):
    item = {"name": name, "bytes": 1, "sha256": "0"}
    with pytest.raises(UserError, match="is not a file"):
        pieces.parse_entries([item], "LIST")


def test_parts_are_bounded_and_the_same_again(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "data").mkdir()
    for name in "ab":
        (tmp_path / "data" / name).write_bytes(rng.bytes(30_000))
    entries, limit = pieces.list_files(tmp_path, ["data"]), 20_000
    count = pieces.write_parts(tmp_path, entries, limit)
    read = lambda: [file.read_bytes() for path in pieces.parts_of(tmp_path)  # noqa: E731
                    for file in sorted(path.iterdir())]  # fmt: skip
    first, found = read(), pieces.parts_of(tmp_path)
    assert count == len(found) == 4
    assert all(sum(f.stat().st_size for f in path.iterdir()) <= limit for path in found)
    pieces.write_parts(tmp_path, entries, limit)
    assert read() == first
    assert pieces.write_parts(tmp_path, entries[:1], 10 * limit) == 1
    assert [path.name for path in pieces.parts_of(tmp_path)] == ["part1"]


def test_images_travel_small_and_white_stays_white(tmp_path):
    """A shaded red disk on white, 64 to 24 pixels: each white pixel exactly, the others nearly."""
    y, x = np.mgrid[:64, :64] - 31.5
    shaded = (2.0 * x + 160.0)[..., None] * (1.0, 0.3, 0.2)
    image = np.where((x**2 + y**2 < 600)[..., None], shaded, 255).astype(np.uint8)
    small = data.shrink(image, 24)
    assert small.shape == (24, 24, 3)
    np.testing.assert_allclose(small.mean(), image.mean(), atol=1.0)
    assert data.shrink(image, 64) is image and data.shrink(image[:32], 16).shape == (8, 16, 3)
    decoded = images.decode(data.encode(small))
    white = (small == 255).all(-1)
    assert 100 < white.sum() < 24 * 24 and (decoded[white] == 255).all()
    assert np.abs(decoded.astype(int) - small)[~white].mean() < 8
    with Image.open(io.BytesIO(data.encode(small))) as picture:
        assert picture.format == "WEBP"


def test_the_small_set_has_the_same_records(tiny, tmp_path):
    small = data.write_small(str(tiny / "tiny"), tmp_path / "data", 16)
    assert builder.split_sizes(small) == builder.split_sizes(tiny / "tiny")
    for split in ("train", "test"):
        pair = [RecordSource(folder, split) for folder in (tiny / "tiny", small)]
        by_key = [{s.info(i)["key"]: s.info(i) for i in range(len(s))} for s in pair]
        assert by_key[0] == by_key[1]
        assert pair[1][0]["image"].shape == (16, 16, 3)
    assert json.loads((small / "LICENSES.json").read_text())[0]["credit"] == "nobody"
    assert "Shapes." in (small / "README.md").read_text()
    before = small.stat().st_ino
    assert data.write_small(str(tiny / "tiny"), tmp_path / "data", 16).stat().st_ino == before
    assert data.write_small(str(tiny / "tiny"), tmp_path / "data", 8).stat().st_ino != before


def wheel(path, **files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)


def test_wheels_are_unpacked_into_a_folder_of_their_own(tmp_path):
    files = {"pack/__init__.py": "x = 1", "a-1.data/purelib/b.py": "", "a-1.data/scripts/c": ""}
    wheel(tmp_path / "a-1-py3-none-any.whl", **files, **{"a-1.dist-info/METADATA": "Name: a"})
    running = f"{sys.version_info[0]}.{sys.version_info[1]}"
    site = tmp_path / "site"
    assert wheels.unpack(tmp_path, site, running) == 1
    made = sorted(str(p.relative_to(site)) for p in site.rglob("*") if p.is_file())
    assert made == ["a-1.dist-info/METADATA", "b.py", "made.json", "pack/__init__.py"]
    with pytest.raises(UserError, match="for Python 3.1, and this one"):
        wheels.unpack(tmp_path, site, "3.1")
    wheel(tmp_path / "b-1-py3-none-any.whl", **{"../evil.py": ""})
    with pytest.raises(UserError, match="outside of its folder"):
        wheels.unpack(tmp_path, site, running)
    assert not (tmp_path / "evil.py").exists()
    (tmp_path / "b-1-py3-none-any.whl").write_bytes(b"no zip")
    with pytest.raises(UserError, match="is damaged"):
        wheels.unpack(tmp_path, site, running)


STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
POLITE = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *a: sys.exit(0)); time.sleep(60)"  # noqa: E501


def test_a_process_is_stopped_at_the_reserve_and_killed_before_the_end(tmp_path):
    """With 7 s and a reserve of 4: SIGTERM after 3 s; what stays is killed after 2 s more."""
    for code, expected, least in ((POLITE, 0, 2.5), (STUBBORN, -signal.SIGKILL, 4.5)):
        start = time.monotonic()
        timed = clock.Clock(start + 7.0, 4.0)
        command = [sys.executable, "-c", code]
        found, saving = clock.run(command, tmp_path / "log", timed)
        assert found == expected and saving > 0
        assert least < time.monotonic() - start < 30.0  # the child itself would sleep for 60
    done = clock.run([sys.executable, "-c", "print(3)"], tmp_path / "log", clock.Clock(1e12, 1.0))
    assert done == (0, 0.0) and (tmp_path / "log").read_text() == "3\n"
