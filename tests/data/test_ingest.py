import io
import json
import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image

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
    made = ingest.ingest(str(folder), tmp_path / "out", test_share=0.0, licence="CC0-1.0")
    assert made["images"] == {"train": 2}
    assert made["left_out"] == {"broken pictures": 1, "without caption": 1}
    examples = read_all(tmp_path / "out")
    assert set(examples) == {"a.png", "deep/b.JPG"}
    assert examples["a.png"]["captions"] == ("a red field", "red")
    assert examples["a.png"]["concept"] == "a red field"
    np.testing.assert_array_equal(examples["a.png"]["image"], np.full((10, 12, 3), (255, 0, 0)))
    licences = json.loads((tmp_path / "out" / "LICENSES.json").read_text())
    assert licences[0]["licence"] == "CC0-1.0"


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
    }
    examples = read_all(tmp_path / "out")
    assert {k: e["captions"] for k, e in examples.items()} == {
        "00.tar/x/0001": ("one", "two"),
        "00.tar/0002": ("from json",),
        "01.tar/0002": ("três",),
    }
    alone = ingest.ingest(str(shards / "01.tar"), tmp_path / "alone", test_share=0.0)
    assert alone["images"] == {"train": 1}


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
    made = ingest.ingest(str(prepared[0]), tmp_path / "copy", test_share=0.0)
    assert made["images"] == {"train": sum(builder.split_sizes(prepared[0]).values())}
    captions = {e["captions"][0] for e in read_all(tmp_path / "copy").values()}
    assert {"a red heart", "the sun"} <= captions
    with pytest.raises(UserError, match="has no split 'nope'"):
        next(ingest.read_tfds(str(prepared[0]), "nope"))


def test_tfds_class_names_become_captions(tmp_path):
    import tensorflow_datasets as tfds

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
    items = list(ingest.read_tfds(str(folder), "train"))
    assert sorted((i.captions, i.concept) for i in items) == [
        (("car",), "car"),
        (("oak tree",), "oak tree"),
    ]


def test_nested_caption_features_are_found():
    assert ingest._texts({"captions": {"text": [b"one", " two "]}}) == ("one", "two")
    assert ingest._texts({"caption": b"one"}) == ("one",)
    assert ingest._texts({"label": 3}) == ()


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
    with pytest.raises(UserError, match="1 broken pictures"):
        ingest.ingest(str(tmp_path / "empty"), tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["empty"]


def test_a_cut_tar_is_one_line(tmp_path):
    write_tar(tmp_path / "x.tar", {"0.png": picture("red"), "0.txt": b"red"})
    whole = (tmp_path / "x.tar").read_bytes()
    (tmp_path / "x.tar").write_bytes(whole[:600])
    with pytest.raises(UserError, match="cannot read"):
        ingest.ingest(str(tmp_path / "x.tar"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
