"""What readers find, before anything is written: names, captions, and which member is whose."""

import io
import json
import tarfile

import pytest

from unclip_jax.core.errors import UserError
from unclip_jax.data import readers


def found(source):
    """Key -> (image, captions) of a source whose every item can be used."""
    items = list(readers.open_reader(str(source))())
    assert not [item.fault for item in items if item.fault]
    assert len({item.key for item in items}) == len(items)
    return {item.key: (item.image, item.captions) for item in items}


def write_tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    ("pattern", "names"),
    [  # as bash expands them
        ("{8..11}", ["8", "9", "10", "11"]),
        ("{08..11}", ["08", "09", "10", "11"]),
        ("{8..011}", ["008", "009", "010", "011"]),
        ("{b,a}{1,2}", ["b1", "b2", "a1", "a2"]),
        ("{x}", ["{x}"]),
    ],
)
def test_braces_name_files_in_order(tmp_path, pattern, names):
    for name in names:
        (tmp_path / f"{name}.tar").touch()
    assert [path.stem for path in readers.expand(f"{tmp_path}/{pattern}.tar")] == names
    with pytest.raises(UserError, match="does not exist"):
        readers.expand(f"{tmp_path}/{pattern}.tgz")


def test_members_of_a_tar_are_samples_by_the_name_up_to_the_first_dot(tmp_path):
    members = [
        ("a/1.JPEG", b"first"),
        ("a/1.seg.png", b"second image of the sample"),
        ("a/1.txt", b" one \n\ntwo\r\n"),
        ("a/1.json", b'{"caption": "not taken beside text"}'),
        ("b/1.v2.webp", b"other folder"),
        ("b/1.caption", b"three"),
        ("b/1.txt", b"before it"),
        ("2.gif", b"no folder"),
        ("2.JSON", b'{"text": ["four", " five "], "title": "not taken"}'),
        ("3.x.txt", b"ends otherwise"),
        ("3.png", b"mute"),
    ]
    assert found(write_tar(tmp_path / "t.tar", members)) == {
        "t.tar/a/1": (b"first", ("one", "two")),
        "t.tar/b/1": (b"other folder", ("before it", "three")),
        "t.tar/2": (b"no folder", ("four", "five")),
        "t.tar/3": (b"mute", ()),
    }


def test_images_of_a_folder_have_the_lines_of_the_text_beside_them(tmp_path):
    (tmp_path / "deep").mkdir()
    for name, data in (
        ("b.Png", b"1"),
        ("b.txt", b"one\n\n two \n"),
        ("deep/v1.5.jpg", b"2"),
        ("deep/v1.5.txt", b"three"),
        ("deep/v1.txt", b"of another"),
        ("a.bmp", b"3"),
        ("a.tiff", b"not read"),
    ):
        (tmp_path / name).write_bytes(data)
    assert found(tmp_path) == {
        "a.bmp": (b"3", ()),
        "b.Png": (b"1", ("one", "two")),
        "deep/v1.5.jpg": (b"2", ("three",)),
    }


def test_rows_of_a_list_are_images_from_its_folder(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("a.png", "b.png", "deep/c.png"):
        (tmp_path / name).write_bytes(name.encode())
    bom = b"\xef\xbb\xbf"
    (tmp_path / "l.csv").write_bytes(
        bom + b"Image , caption,file\nb.png,two,a.png\nb.png,also two,x\n deep/c.png ,three,\n"
    )
    expected = {"b.png": (b"b.png", ("two", "also two")), "deep/c.png": (b"deep/c.png", ("three",))}
    assert found(tmp_path / "l.csv") == expected
    (tmp_path / "l.tsv").write_bytes(b"caption\tfile_name\nsix, or so\ta.png\n")
    assert found(tmp_path / "l.tsv") == {"a.png": (b"a.png", ("six, or so",))}
    rows = [{"file": "a.png", "image": "b.png", "title": "last", "captions": ["first", "second"]}]
    (tmp_path / "l.jsonl").write_bytes(bom + json.dumps(rows[0]).encode())
    assert found(tmp_path / "l.jsonl") == {"b.png": (b"b.png", ("first", "second"))}


def test_rows_that_name_no_image_are_counted_from_one(tmp_path):
    (tmp_path / "l.csv").write_text("image,text\n,one\nnone.png,two\n")
    first, second = readers.open_reader(str(tmp_path / "l.csv"))()
    assert (first.key, first.fault) == ("l.csv/1", "rows without an image")
    assert (second.key, second.fault) == ("none.png", "unreadable files")


def test_the_usual_names_of_captions_in_their_order():
    usual = ("captions", "caption", "text", "sentences", "title", "txt")
    record = {name: name for name in reversed(usual)}
    for name in usual:
        assert readers.texts(record) == (name,)
        record[name] = [None, " ", 3]  # not a caption: the next name counts
    assert readers.texts(record) == ()
