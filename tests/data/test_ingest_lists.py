"""Ingest: lists of images, and patterns that name several files."""

import json
import shutil
import sys

import pytest

from tests.data.ingest_sources import image_bytes, pairs, read_all, within, write_tar
from unclip_jax.core.errors import UserError
from unclip_jax.data import ingest


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
    for name, color in (("a.png", "red"), ("deep/b.png", "blue"), ("c.png", "green")):
        (tmp_path / "set" / name).write_bytes(image_bytes(color))
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
    images = [{"bytes": image_bytes("red"), "path": "x.png"}, {"bytes": None, "path": "deep/b.png"}]
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


def test_a_pattern_of_many_names_ends_at_the_first_that_is_missing(tmp_path):
    for pattern in ("{000000..300000}.tar", "{000000..300000}{a,b}{a,b}{a,b}{a,b}"):
        with within(3), pytest.raises(UserError, match="000000.*does not exist"):
            ingest.ingest(str(tmp_path / pattern), tmp_path / "out")
