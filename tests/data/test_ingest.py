import contextlib
import gzip
import io
import json
import os
import pickle
import shutil
import signal
import sys
import tarfile
import threading

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.data.memory import peak_mib
from unclip_jax.cli.data import data
from unclip_jax.core.errors import UserError
from unclip_jax.data import builder, ingest
from unclip_jax.data.sources import load_source


def picture(colour, form="PNG"):
    buffer = io.BytesIO()
    Image.new("RGB", (12, 10), colour).save(buffer, format=form)
    return buffer.getvalue()


def write_tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "pictures"
    (root / "deep").mkdir(parents=True)
    (root / "a.png").write_bytes(picture("red"))
    (root / "a.txt").write_text("a red field\n\n  red  \n")
    (root / "deep" / "b.JPG").write_bytes(picture("blue", "JPEG"))
    (root / "deep" / "b.txt").write_text("a blue field")
    (root / "cut.png").write_bytes(picture("green")[:40])
    (root / "cut.txt").write_text("a cut picture")
    (root / "mute.png").write_bytes(picture("green"))
    (root / "readme.md").write_text("no picture")
    return root


def read_all(out):
    splits = "+".join(builder.split_sizes(out))
    source = load_source(out, splits)
    return {source.info(i)["key"]: source[i] for i in range(len(source))}


def test_folder_of_pictures_and_texts(folder, tmp_path):
    made = ingest.ingest(str(folder), tmp_path / "out", test_share=0.0, license="CC0-1.0")
    assert made["images"] == {"train": 2}
    assert made["left_out"] == {"broken images": 1, "without caption": 1}
    examples = read_all(tmp_path / "out")
    assert set(examples) == {"a.png", "deep/b.JPG"}
    assert examples["a.png"]["captions"] == ("a red field", "red")
    assert examples["a.png"]["concept"] == "a red field"
    np.testing.assert_array_equal(examples["a.png"]["image"], np.full((10, 12, 3), (255, 0, 0)))
    licenses = json.loads((tmp_path / "out" / "LICENSES.json").read_text())
    assert licenses[0]["license"] == "CC0-1.0"


def test_webdataset_tars(tmp_path):
    shards = tmp_path / "shards"
    shards.mkdir()
    caption = json.dumps({"caption": "from json", "width": 3}).encode()
    boom = pickle.dumps({"never": "opened"})
    first = {
        "x/0001.jpg": picture("red", "JPEG"),
        "x/0001.txt": b"one\ntwo",
        "x/0001.pkl": boom,
        "0002.seg.png": picture("blue"),
        "0002.json": caption,
        "0003.txt": b"no picture",
        "0004.webp": picture("green", "WEBP"),
        "0004.json": b"{broken",
    }
    write_tar(shards / "00.tar", first)
    write_tar(shards / "01.tar", {"0002.png": picture("red"), "0002.txt": "três".encode()})
    made = ingest.ingest(str(shards), tmp_path / "out", test_share=0.0)
    assert made == {
        "folder": str(tmp_path / "out"),
        "images": {"train": 3},
        "left_out": {"without caption": 1},
        "left_out_names": {"without caption": ["00.tar/0004"]},
    }
    examples = read_all(tmp_path / "out")
    assert {k: e["captions"] for k, e in examples.items()} == {
        "00.tar/x/0001": ("one", "two"),
        "00.tar/0002": ("from json",),
        "01.tar/0002": ("três",),
    }
    alone = ingest.ingest(str(shards / "01.tar"), tmp_path / "alone", test_share=0.0)
    assert alone["images"] == {"train": 1}


def test_of_a_small_set_one_image_is_held_out(tmp_path):
    write_tar(tmp_path / "x.tar", pairs(5))
    made = ingest.ingest(str(tmp_path / "x.tar"), tmp_path / "out", test_share=1e-9)
    assert made["images"] == {"train": 4, "test": 1}
    made = ingest.ingest(str(tmp_path / "x.tar"), tmp_path / "all", test_share=0.0)
    assert made["images"] == {"train": 5}


def test_test_share_is_held_out_by_key(tmp_path):
    many = {f"{i:04}.png": picture((i % 256, 0, 0)) for i in range(200)}
    many |= {f"{i:04}.txt": b"a field" for i in range(200)}
    write_tar(tmp_path / "many.tar", dict(sorted(many.items())))
    sizes = []
    for name in ("one", "two"):
        made = ingest.ingest(str(tmp_path / "many.tar"), tmp_path / name, test_share=0.25)
        sizes.append(made["images"])
    assert sizes[0] == sizes[1]
    assert sum(sizes[0].values()) == 200
    assert abs(sizes[0]["test"] - 50) < 25  # four standard deviations of the binomial
    keys = [{i["key"] for i in _infos(tmp_path / "one", s)} for s in ("train", "test")]
    assert not keys[0] & keys[1]
    assert keys[1] == {i["key"] for i in _infos(tmp_path / "two", "test")}


def _infos(out, split):
    source = load_source(out, split)
    return [source.info(i) for i in range(len(source))]


def test_prepared_tfds_sets_by_folder_and_by_name(prepared, tmp_path):
    from unclip_jax.data import readers

    made = ingest.ingest(str(prepared[0]), tmp_path / "copy", test_share=0.0)
    assert made["images"] == {"train": sum(builder.split_sizes(prepared[0]).values())}
    captions = {e["captions"][0] for e in read_all(tmp_path / "copy").values()}
    assert {"a red heart", "the sun"} <= captions
    with pytest.raises(UserError, match="has no split 'nope'"):
        next(readers.read_tfds(str(prepared[0]), "nope"))


def test_tfds_class_names_become_captions(tmp_path):
    import tensorflow_datasets as tfds

    from unclip_jax.data import readers

    class TinyClasses(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            names = tfds.features.ClassLabel(names=["oak_tree", "car"])
            image = tfds.features.Image(shape=(None, None, 3), encoding_format="png")
            features = tfds.features.FeaturesDict({"image": image, "label": names})
            return self.dataset_info_from_configs(features=features)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            yield "0", {"image": picture("red"), "label": "oak_tree"}
            yield "1", {"image": picture("blue"), "label": "car"}

    made = TinyClasses(data_dir=str(tmp_path / "tfds"), file_format="array_record")
    made.download_and_prepare()
    folder = tmp_path / "tfds" / "tiny_classes" / "1.0.0"
    items = list(readers.read_tfds(str(folder), "train"))
    assert sorted((i.captions, i.concept) for i in items) == [
        (("car",), "car"),
        (("oak tree",), "oak tree"),
    ]


def test_nested_caption_features_are_found():
    from unclip_jax.data import readers

    assert readers.texts({"captions": {"text": [b"one", " two "]}}) == ("one", "two")
    assert readers.texts({"caption": b"one"}) == ("one",)
    assert readers.texts({"label": 3}) == ()


@pytest.mark.parametrize("source", ["tfds:no_such_set_anywhere", "/no/such/place"])
def test_missing_sources_are_one_line(source, tmp_path):
    with pytest.raises(UserError) as caught:
        ingest.ingest(source, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_an_empty_set_is_one_line_and_writes_nothing(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="nothing at all"):
        ingest.ingest(str(tmp_path / "empty"), tmp_path / "out")
    (tmp_path / "empty" / "a.png").write_bytes(b"no picture")
    (tmp_path / "empty" / "a.txt").write_text("a caption")
    with pytest.raises(UserError, match="1 broken images"):
        ingest.ingest(str(tmp_path / "empty"), tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["empty"]


def pairs(count, start=0):
    """Members of a tar: `count` samples of an image and a caption each."""
    members = {}
    for i in range(start, start + count):
        members |= {f"{i:04}.png": picture((i % 256, 9, 9)), f"{i:04}.txt": f"shade {i}".encode()}
    return members


def test_a_cut_tar_gives_what_is_whole_in_it(tmp_path):
    write_tar(tmp_path / "a.tar", pairs(4))
    write_tar(tmp_path / "b.tar", pairs(3, start=4))
    whole = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[: 2 * 2048 + 600])  # inside of sample 2's image
    made = ingest.ingest(str(tmp_path), tmp_path / "out", test_share=0.0)
    assert made["images"] == {"train": 5}
    assert made["left_out"] == {"damaged tars": 1}
    assert set(read_all(tmp_path / "out")) == {
        f"{tar}.tar/{i:04}" for tar, i in zip("aabbb", (0, 1, 4, 5, 6), strict=True)
    }
    assert "a.tar" in made["left_out_names"]["damaged tars"][0]
    (tmp_path / "c.tar").write_bytes(whole[:600])
    with pytest.raises(UserError, match="no usable .*damaged tars.*cannot read"):
        ingest.ingest(str(tmp_path / "c.tar"), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_damaged_header_is_seen_and_costs_what_follows_it(tmp_path):
    write_tar(tmp_path / "x.tar", pairs(4))
    data = bytearray((tmp_path / "x.tar").read_bytes())
    data[2 * 2048 + 148 : 2 * 2048 + 156] = b"7777777\0"  # the checksum of sample 2's image
    (tmp_path / "x.tar").write_bytes(data)
    made = ingest.ingest(str(tmp_path / "x.tar"), tmp_path / "out", test_share=0.0)
    assert made["images"] == {"train": 2}
    assert made["left_out"] == {"damaged tars": 1}


ODD_CAPTIONS = {  # JSON of a sample's caption, and what is kept of it
    "null": None,
    "3": None,
    "true": None,
    "[]": None,
    '[null, "a"]': ("a",),
    '["a", 3, {"caption": "b"}, " "]': ("a", "b"),
    "[" * 50_000 + "]" * 50_000: None,
    r'"lone \ud800 half"': None,
    r'"whole \ud83d\ude00 pair"': ("whole \U0001f600 pair",),
    '{"en": "x"}': None,
    '{"text": ["x", "y"]}': ("x", "y"),
}


def test_odd_captions_are_counted_and_the_rest_goes_on(tmp_path):
    members = {}
    for i, caption in enumerate(ODD_CAPTIONS):
        members[f"{i:02}.png"] = picture((i, i, i))
        members[f"{i:02}.json"] = f'{{"caption": {caption}}}'.encode()
    members |= {"88.png": picture("red"), "88.json": b"[3]", "99.png": picture("blue")}
    members["99.txt"] = b"caf\xe9"
    write_tar(tmp_path / "x.tar", members)
    made = ingest.ingest(str(tmp_path / "x.tar"), tmp_path / "out", test_share=0.0)
    found = {key: example["captions"] for key, example in read_all(tmp_path / "out").items()}
    kept = {f"x.tar/{i:02}": c for i, c in enumerate(ODD_CAPTIONS.values()) if c}
    assert found == kept | {"x.tar/99": ("caf\ufffd",)}
    assert made["left_out"] == {"without caption": 1 + sum(not c for c in ODD_CAPTIONS.values())}


def test_names_of_any_bytes_are_kept_and_told_apart(tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    for name in (b"a\xff", b"a\xfe", b"b\n\x1b[31m"):
        (folder / os.fsdecode(name + b".png")).write_bytes(picture("red"))
        (folder / os.fsdecode(name + b".txt")).write_bytes(b"red")
    (folder / os.fsdecode(b"c\xff\x1b.png")).write_bytes(b"not an image")
    (folder / os.fsdecode(b"c\xff\x1b.txt")).write_bytes(b"red")
    made = ingest.ingest(str(folder), tmp_path / "out", test_share=0.5)
    assert sum(made["images"].values()) == 3
    assert len(read_all(tmp_path / "out")) == 3
    (name,) = made["left_out_names"]["broken images"]
    assert name.isprintable() and name.startswith("c")
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for end, data in (("png", picture("red")), ("txt", b"red")):
            info = tarfile.TarInfo(os.fsdecode(b"t\xff.") + end)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    assert ingest.ingest(str(tmp_path / "x.tar"), tmp_path / "tar")["images"]


def test_broken_files_are_named_ten_of_each_kind(tmp_path):
    members = pairs(2) | {f"x{i:02}.png": b"broken" for i in range(13)}
    members |= {f"x{i:02}.txt": b"a caption" for i in range(13)}
    write_tar(tmp_path / "x.tar", dict(sorted(members.items())))
    args = ["ingest", str(tmp_path / "x.tar"), "--out", str(tmp_path / "my set")]
    result = CliRunner().invoke(data, args, catch_exceptions=False)
    assert result.exit_code == 0
    (line,) = (line for line in result.output.splitlines() if line.startswith("left"))
    assert line.startswith("left out: 13 broken images: x.tar/x00 (")
    assert "x.tar/x09" in line and "x.tar/x10" not in line
    assert line.endswith(", and 3 more")
    quoted = f"'{tmp_path / 'my set'}'"
    assert f"unclip data show {quoted}" in result.output
    assert f"--config.data.name={quoted} --workdir runs/own_clip" in result.output


def test_a_broken_image_is_not_stored_under_the_key_of_a_whole_one(tmp_path):
    members = [("a.png", b"broken"), ("a.txt", b"one"), ("b.png", picture("red"))]
    members += [("b.txt", b"b"), ("a.png", picture("blue")), ("a.txt", b"two")]
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    ingest.ingest(str(tmp_path / "x.tar"), tmp_path / "out", test_share=0.0)
    assert set(read_all(tmp_path / "out")) == {"x.tar/b"}


@pytest.mark.parametrize(
    ("pattern", "keys"),
    [
        ("{00..02}.tar", ["00.tar/0000", "01.tar/0001", "02.tar/0002"]),
        ("{02,00}.tar", ["00.tar/0000", "02.tar/0002"]),
        ("0[01].tar", ["00.tar/0000", "01.tar/0001"]),
        ("*.tar", ["00.tar/0000", "01.tar/0001", "02.tar/0002"]),
        ("0{0..1}.t?r", ["00.tar/0000", "01.tar/0001"]),
    ],
)
def test_patterns_name_several_tars(tmp_path, pattern, keys):
    for i in range(3):
        write_tar(tmp_path / f"{i:02}.tar", pairs(1, start=i))
    made = ingest.ingest(str(tmp_path / pattern), tmp_path / "out", test_share=0.0)
    assert made["images"] == {"train": len(keys)}
    assert sorted(read_all(tmp_path / "out")) == keys


def test_patterns_that_name_nothing_are_one_line(tmp_path):
    write_tar(tmp_path / "00.tar", pairs(1))
    for pattern, words in (
        ("{00..03}.tar", "01.tar does not exist"),
        ("x*.tar", "does not exist"),
        ("{5..2}.tar", "names no file"),
        ("{0..9999999}{0..9999999}", "more than 1,000,000"),
        ("x" * 5000, "does not exist"),
    ):
        with pytest.raises(UserError, match=words):
            ingest.ingest(str(tmp_path / pattern), tmp_path / "out")


def test_tars_of_one_name_in_two_folders_are_two(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_tar(tmp_path / name / "0.tar", pairs(1))
    ingest.ingest(str(tmp_path / "*" / "0.tar"), tmp_path / "out", test_share=0.0)
    assert set(read_all(tmp_path / "out")) == {"a/0.tar/0000", "b/0.tar/0000"}


@pytest.fixture
def listed(tmp_path):
    """A folder with images in two places, and the path of a list to be written there."""
    (tmp_path / "set" / "deep").mkdir(parents=True)
    for name, colour in (("a.png", "red"), ("deep/b.png", "blue"), ("c.png", "green")):
        (tmp_path / "set" / name).write_bytes(picture(colour))
    return tmp_path / "set"


EXPECTED = {"a.png": ("red, plain", "also red"), "deep/b.png": ("blue",)}


def check_list(path, tmp_path, left):
    made = ingest.ingest(str(path), tmp_path / "out", test_share=0.0)
    found = read_all(tmp_path / "out")
    assert {key: example["captions"] for key, example in found.items()} == EXPECTED
    assert found["deep/b.png"]["image"][0, 0].tolist() == [0, 0, 255]
    assert made["left_out"] == left


def test_csv_and_tsv_lists(listed, tmp_path):
    (listed / "l.csv").write_bytes(
        b'\xef\xbb\xbfid,File_Name,Caption\n1,a.png,"red, plain"\n2,a.png,also red\n'
        b"3,deep/b.png,blue\n\n4,none.png,nothing\n5,c.png,\n6\n7,/dev/zero,endless\n"
    )
    left = {"unreadable files": 2, "without caption": 1, "rows without an image": 1}
    check_list(listed / "l.csv", tmp_path, left)
    tabs = (listed / "l.csv").read_text().replace('"red, plain"', "red; plain").replace(",", "\t")
    (listed / "l.tsv").write_text(tabs.replace(";", ","))
    shutil.rmtree(tmp_path / "out")
    check_list(listed / "l.tsv", tmp_path, left)
    (listed / "no.csv").write_text("x,y\n1,2\n")
    with pytest.raises(UserError, match="header with one of image"):
        ingest.ingest(str(listed / "no.csv"), tmp_path / "no")


def test_json_lines(listed, tmp_path):
    lines = [
        {"image": "a.png", "text": ["red, plain", "also red"]},
        {"image": "deep/b.png", "text": "blue"},
        {"image": "c.png", "text": None},
        {"image": 3, "text": "x"},
        [1],
    ]
    text = "\n".join(map(json.dumps, lines)) + "\n{broken\n" + "[" * 10_000 + "\n"
    (listed / "metadata.jsonl").write_text(text)
    check_list(listed, tmp_path, {"without caption": 1, "rows without an image": 4})


def test_parquet_lists_hold_paths_or_bytes(listed, tmp_path, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = {"path": ["a.png", "a.png", "deep/b.png"], "caption": ["red, plain", "also red", "blue"]}
    parquet.write_table(pyarrow.table(rows), listed / "l.parquet")
    check_list(listed / "l.parquet", tmp_path, {})
    images = [{"bytes": picture("red"), "path": "x.png"}, {"bytes": None, "path": "deep/b.png"}]
    table = pyarrow.table({"image": images, "text": ["red", "blue"], "other": [1, 2]})
    parquet.write_table(table, listed / "hf.parquet")
    ingest.ingest(str(listed / "hf.parquet"), tmp_path / "hf", test_share=0.0)
    found = read_all(tmp_path / "hf")
    assert {k: e["captions"][0] for k, e in found.items()} == {
        "hf.parquet/1": "red",
        "deep/b.png": "blue",
    }
    (listed / "bad.parquet").write_bytes((listed / "l.parquet").read_bytes()[:-20])
    with pytest.raises(UserError, match="damaged lists"):
        ingest.ingest(str(listed / "bad.parquet"), tmp_path / "bad")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match="pip install pyarrow"):
        ingest.ingest(str(listed / "l.parquet"), tmp_path / "none")


def test_long_and_narrow_images_are_left_out(tmp_path):
    members = pairs(1)
    for name, size in (("wide", (210, 10)), ("tall", (10, 210)), ("fine", (200, 10))):
        buffer = io.BytesIO()
        Image.new("RGB", size).save(buffer, "PNG")
        members |= {f"{name}.png": buffer.getvalue(), f"{name}.txt": b"long"}
    write_tar(tmp_path / "x.tar", members)
    made = ingest.ingest(str(tmp_path / "x.tar"), tmp_path / "out", test_share=0.0)
    assert made["images"] == {"train": 2}
    assert made["left_out"] == {"too long and narrow": 2}


def sparse_tar(path, size):
    """A tar whose first image claims `size` bytes and takes none (GNU's old sparse format)."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        info = tarfile.TarInfo("big.png")
        info.type = tarfile.GNUTYPE_SPARSE
        head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        head[386:410] = b"00000000000\0" * 2  # one part of no bytes at place 0
        head[483:495] = f"{size:011o}\0".encode()
        head[148:156] = b" " * 8
        head[148:156] = f"{sum(head):06o}\0 ".encode()
        archive.fileobj.write(head)
        archive.offset += len(head)
        for name, data in ({"big.txt": b"big"} | pairs(1)).items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def gzip_bomb(path, names, mebibytes):
    """A tar.gz of members of zeros, written as many gzip streams in a row."""
    nothing = gzip.compress(bytes(2**20))
    with path.open("wb") as file:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = mebibytes << 20
            file.write(gzip.compress(info.tobuf(tarfile.GNU_FORMAT)) + nothing * mebibytes)
        file.write(gzip.compress(bytes(1024)))


def test_tars_that_expand_take_little_memory(tmp_path):
    sparse_tar(tmp_path / "sparse.tar", 2 * 2**30)
    gzip_bomb(tmp_path / "one.tar.gz", ["a.png"], 200)
    gzip_bomb(tmp_path / "many.tgz", ["0.png", "1.png"], 60)
    code = f"""
from pathlib import Path
from unclip_jax.core.errors import UserError
from unclip_jax.data import ingest
root = Path({str(tmp_path)!r})
made = ingest.ingest(str(root / "sparse.tar"), root / "out", test_share=0.0)
assert made["images"] == {{"train": 1}} and made["left_out"] == {{"oversized files": 1}}, made
from unclip_jax.data import tars
for name, words in (("one.tar.gz", "oversized files"), ("many.tgz", "expands to more than 0.1 G")):
    try:
        ingest.ingest(str(root / name), root / "none")
    except UserError as error:
        assert words in str(error), error
    else:
        raise AssertionError(name)
    tars.EXPANDED_LIMIT = 2**30 / 10
"""
    assert peak_mib(code) < 500


def test_two_at_once_are_one_too_many(tmp_path):
    write_tar(tmp_path / "x.tar", pairs(2))
    out, refusals, counted = tmp_path / "new" / "out", [], []

    def another():
        try:
            ingest.ingest(str(tmp_path / "x.tar"), out)
        except UserError as error:
            refusals.append(str(error))

    def meanwhile(stage, done, total):
        counted.append((stage, done, total))
        thread = threading.Thread(target=another)
        thread.start()
        thread.join()

    ingest.ingest(str(tmp_path / "x.tar"), out, report=meanwhile)
    assert counted[:2] == [("checking", 1, None), ("checking", 2, None)]
    assert counted[2:] == [("writing", 1, 2), ("writing", 2, 2)]
    assert len(refusals) == 4
    assert all("in use by unclip data ingest" in line for line in refusals)
    assert [path.name for path in out.parent.iterdir()] == ["out"]


@contextlib.contextmanager
def within(seconds):
    """Fails a block that waits; not by an Exception, which a reader might take for damage."""

    def stop(signum, frame):
        pytest.fail(f"still running after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    ("pipe", "left"),
    [
        ("a.txt", {"unreadable files": 1}),
        ("x.tar", None),
        ("dataset_info.json", {}),
        ("1.0.0/dataset_info.json", {}),
    ],
)
def test_a_pipe_in_a_folder_is_not_waited_for(tmp_path, pipe, left):
    root = tmp_path / "pictures"
    (root / "1.0.0").mkdir(parents=True)
    for name in ("a", "b"):
        (root / f"{name}.png").write_bytes(picture("red"))
        (root / f"{name}.txt").write_text("a red field")
    (root / pipe).unlink(missing_ok=True)
    os.mkfifo(root / pipe)
    with within(20):
        if left is None:
            with pytest.raises(UserError, match=r"1 unreadable files.*x\.tar is not a file"):
                ingest.ingest(str(root), tmp_path / "out")
        else:
            assert ingest.ingest(str(root), tmp_path / "out")["left_out"] == left


def test_a_pipe_in_a_prepared_set_is_not_waited_for(tmp_path):
    root = tmp_path / "set"
    root.mkdir()
    (root / "dataset_info.json").write_text("{}")
    os.mkfifo(root / "features.json")
    with within(20), pytest.raises(UserError, match=r"features\.json is missing or not a file"):
        ingest.ingest(str(root), tmp_path / "out")


def test_a_set_within_a_folder_of_images_does_not_stand_for_them(folder, tmp_path):
    ingest.ingest(str(folder), folder / "set", test_share=0.0)
    (folder / "c.png").write_bytes(picture("white"))
    (folder / "c.txt").write_text("a white field")
    ingest.ingest(str(folder), tmp_path / "again", test_share=0.0)
    assert set(read_all(tmp_path / "again")) == {"a.png", "c.png", "deep/b.JPG"}


def test_a_set_is_not_written_as_a_version_of_its_source(folder):
    with pytest.raises(UserError, match="version of .*pictures; choose another name"):
        ingest.ingest(str(folder), folder / "1.0.0", test_share=0.0)
    assert not (folder / "1.0.0").exists()


def test_the_newest_version_of_a_prepared_set_is_read(tmp_path):
    for name in ("9.0.0", "10.0.0", "11.0", "12.0.0.0", "v13.0.0", "set"):  # two versions
        (tmp_path / name).mkdir()
        (tmp_path / name / "dataset_info.json").write_text("{}")
    assert builder.find_prepared(tmp_path) == tmp_path / "10.0.0"


def test_a_pattern_of_many_names_ends_at_the_first_that_is_missing(tmp_path):
    for pattern in ("{000000..300000}.tar", "{000000..300000}{a,b}{a,b}{a,b}{a,b}"):
        with within(3), pytest.raises(UserError, match="000000.*does not exist"):
            ingest.ingest(str(tmp_path / pattern), tmp_path / "out")


def test_a_share_that_is_not_a_number_is_refused(folder, tmp_path):
    for share in (float("nan"), 1.0, -0.1):
        with pytest.raises(UserError, match="--test-share .* below 1"):
            ingest.ingest(str(folder), tmp_path / "out", test_share=share)
    assert not (tmp_path / "out").exists()


def test_flags_that_are_not_utf8(folder, tmp_path):
    with pytest.raises(UserError, match=r"--license \\udcff is not UTF-8"):
        ingest.ingest(str(folder), tmp_path / "out", license="\udcff")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match=r"o\\udcff is not UTF-8; choose another"):
        ingest.ingest(str(folder), tmp_path / "o\udcff")
    odd = folder.rename(folder.with_name("\udcff"))
    ingest.ingest(str(odd), tmp_path / "out", test_share=0.0)
    assert r"\udcff" in (tmp_path / "out" / "README.md").read_text()
