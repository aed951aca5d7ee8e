"""Damaged sets and stores: one line that names the file and what to do."""

import json
import shutil

import numpy as np
import pytest

from unclip_jax.core.errors import UserError
from unclip_jax.data import builder, embeddings, images, readers
from unclip_jax.data.embeddings import Record, StoreMeta
from unclip_jax.data.sources import load_source, split_sizes
from unclip_jax.data.store_pipeline import StoredExamples

SHARD = "captioned_images-train.array_record-00000-of-00001"


def records():
    for i in range(3):
        image = images.encode_png(np.full((4, 4, 3), i, np.uint8))
        texts = {"concept": "c", "style": "", "category": "", "key": f"k{i}"}
        yield {"image": image, "captions": ["a", "b"], **texts}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "set"
    builder.write(out, {"train": records}, about="x", licenses=[])
    return out


def read_set(folder):
    split_sizes(str(folder))
    source = load_source(str(folder), "train")
    return [source[i] for i in range(len(source))]


def changed(data, change):
    """The bytes of a file after a change: cut to a length, or one byte other."""
    if change[0] == "cut":
        return data[: change[1]]
    data = bytearray(data)
    data[change[1]] ^= 255
    return bytes(data)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (SHARD, None),
        (SHARD, ("cut", 0)),
        (SHARD, ("cut", -50)),
        (SHARD, ("flip", 70)),
        (SHARD, ("flip", 500)),
        ("features.json", None),
        ("features.json", ("cut", 0)),
        ("features.json", ("cut", 40)),
        ("features.json", b"{}"),
        ("features.json", b'{"x": 3}'),
        ("features.json", b"null"),
        ("dataset_info.json", ("cut", 0)),
        ("dataset_info.json", ("cut", 40)),
        ("dataset_info.json", b"{}"),
        ("dataset_info.json", b"[]"),
        ("dataset_info.json", b'{"x": 3}'),
    ],
)
def test_a_damaged_set_is_one_line(whole, tmp_path, name, change):
    folder = tmp_path / "set"
    shutil.copytree(whole, folder)
    assert len(read_set(folder)) == 3
    if change is None:
        (folder / name).unlink()
    elif isinstance(change, bytes):
        (folder / name).write_bytes(change)
    else:
        (folder / name).write_bytes(changed((folder / name).read_bytes(), change))
    with pytest.raises(UserError, match="unclip data prepare or ingest") as caught:
        read_set(folder)
    assert name in str(caught.value)


def test_a_set_imports_no_module_of_its_own(whole, tmp_path, monkeypatch):
    """tfds imports the module of any class that features.json names."""
    folder = tmp_path / "set"
    shutil.copytree(whole, folder)
    (tmp_path / "payload.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    path = folder / "features.json"
    old = "tensorflow_datasets.core.features.text_feature.Text"
    path.write_text(path.read_text().replace(old, "payload.Text", 1))
    with pytest.raises(UserError, match=r"features\.json names 'payload.Text'"):
        read_set(folder)
    with pytest.raises(UserError, match="not a class of tfds"):
        next(readers.read_tfds(str(folder), "train"))
    assert not (tmp_path / "ran").exists()


def test_an_image_without_a_shape_is_damage(whole, tmp_path):
    """tfds asks for TensorFlow then, which is not here."""
    folder = tmp_path / "set"
    shutil.copytree(whole, folder)
    found = json.loads((folder / "features.json").read_text())
    found["featuresDict"]["features"]["image"]["image"] = {}
    (folder / "features.json").write_text(json.dumps(found))
    with pytest.raises(UserError, match=r"features\.json is damaged"):
        read_set(folder)


META = StoreMeta("c" * 64, {"name": "n"}, 3, 5, 4, 2)


def stored():
    for i in range(META.examples):
        z = np.full(META.width, i, np.float32)
        yield Record(f"{i}#0", z, z, np.arange(META.context, dtype=np.int32))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores") / "s"
    rows = list(stored())
    for shard in embeddings.begin_store(folder, META):
        embeddings.write_shard(folder, shard, META, [rows[i] for i in META.members(shard)])
    return folder


def read_store(folder):
    meta = embeddings.read_meta(folder)
    list(embeddings.read_shard(folder, 0, meta))
    examples = StoredExamples(folder, meta)
    return examples.read(range(len(examples)))


@pytest.mark.parametrize("change", [None, ("cut", 0), ("cut", -50), ("flip", 70), ("flip", 300)])
def test_a_damaged_shard_of_a_store_is_one_line(store, tmp_path, change):
    folder = tmp_path / "s"
    shutil.copytree(store, folder)
    path = embeddings.shard_path(folder, 0, META.shards)
    if change is None:
        path.unlink()
    else:
        path.write_bytes(changed(path.read_bytes(), change))
    with pytest.raises(UserError, match="run unclip embed again") as caught:
        read_store(folder)
    assert path.name in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        *({"width": v} for v in ("3", None, -1, 0, 2.5, True, 10**30)),
        *({"shard_size": v} for v in (0, -2, [])),
        {"clip": 3},
        {"data": None},
    ],
)
def test_a_store_whose_meta_is_wrong_is_one_line(store, tmp_path, value):
    folder = tmp_path / "s"
    shutil.copytree(store, folder)
    held = json.loads((folder / "meta.json").read_text()) | value
    (folder / "meta.json").write_text(json.dumps(held))
    with pytest.raises(UserError, match="meta.json.*unclip embed"):
        read_store(folder)
