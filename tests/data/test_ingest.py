"""Ingest: folders, tars and tfds sets become a set with a held-out part."""

import json
import pickle
import threading

import numpy as np
import pytest

from tests.data.ingest_sources import image_bytes, pairs, read_all, write_tar
from unclip_jax.core.errors import UserError
from unclip_jax.data import builder, ingest
from unclip_jax.data.sources import load_source


def test_folder_of_images_and_texts(folder, tmp_path):
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
        "x/0001.jpg": image_bytes("red", "JPEG"),
        "x/0001.txt": b"one\ntwo",
        "x/0001.pkl": boom,
        "0002.seg.png": image_bytes("blue"),
        "0002.json": caption,
        "0003.txt": b"no picture",
        "0004.webp": image_bytes("green", "WEBP"),
        "0004.json": b"{broken",
    }
    write_tar(shards / "00.tar", first)
    write_tar(shards / "01.tar", {"0002.png": image_bytes("red"), "0002.txt": "três".encode()})
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
    many = {f"{i:04}.png": image_bytes((i % 256, 0, 0)) for i in range(200)}
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
            yield "0", {"image": image_bytes("red"), "label": "oak_tree"}
            yield "1", {"image": image_bytes("blue"), "label": "car"}

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


def test_a_set_within_a_folder_of_images_does_not_stand_for_them(folder, tmp_path):
    ingest.ingest(str(folder), folder / "set", test_share=0.0)
    (folder / "c.png").write_bytes(image_bytes("white"))
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


def test_a_share_that_is_not_a_number_is_refused(folder, tmp_path):
    for share in (float("nan"), 1.0, -0.1):
        with pytest.raises(UserError, match="--test-share .* below 1"):
            ingest.ingest(str(folder), tmp_path / "out", test_share=share)
    assert not (tmp_path / "out").exists()
