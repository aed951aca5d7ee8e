"""Subsets, mixtures and selections of sources; what is read of a prepared set."""

import numpy as np
import pytest

from unclip_jax.core.errors import UserError
from unclip_jax.data import builder, images, sources
from unclip_jax.data.sources import (
    Mixture,
    Subset,
    all_captions,
    data_root,
    fingerprint,
    matching_indices,
    select,
)

ROWS = [  # concept, style, category
    ("red heart", "3d", "heart"),
    ("flag: France", "flat", "country-flag"),
    ("sun", "flat", "sky-weather"),
    ("flag: Wales", "3d", "subdivision-flag"),
    ("judge", "3d", "person-role"),
    ("chequered flag", "3d", "flag"),
]


class Listed:
    """Examples whose images are their number."""

    def __init__(self, rows=ROWS, first=0):
        self.rows, self.first = rows, first

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        picture = np.full((1, 1, 3), self.first + index, np.uint8)
        return {"image": picture, **self.info(index)}

    def info(self, index):
        concept, style, category = self.rows[index]
        captions = (f"{concept} {self.first + index}", "a picture")
        key = str(self.first + index)
        return dict(captions=captions, concept=concept, style=style, category=category, key=key)


def number(example):
    assert example["image"][0, 0, 0] == int(example["key"])
    return int(example["key"])


def test_a_subset_is_in_the_order_given():
    part = Subset(Listed(), [4, 0, 2])
    assert [number(part[i]) for i in range(len(part))] == [4, 0, 2]
    assert [part.info(i)["key"] for i in range(3)] == ["4", "0", "2"]


def test_a_mixture_has_its_sources_one_after_the_other():
    joined = Mixture([Listed(ROWS[:2]), Listed(ROWS[:3], 10), Listed(ROWS[:1], 20)])
    assert len(joined) == 6
    assert [number(joined[i]) for i in range(6)] == [0, 1, 10, 11, 12, 20]
    assert [joined.info(i)["key"] for i in range(6)] == ["0", "1", "10", "11", "12", "20"]
    assert joined.parts == (range(0, 2), range(2, 5), range(5, 6))
    assert joined.weights == (1.0, 1.0, 1.0)
    assert Mixture([Listed(), Listed()], [3.0, 1.0]).weights == (3.0, 1.0)


def test_examples_are_chosen_by_concept_style_and_category():
    source = Listed()
    assert matching_indices(source, styles=("3d",)) == [0, 3, 4, 5]
    assert matching_indices(source, concepts="no_flags") == [0, 2, 4]  # none of the three kinds
    assert matching_indices(source, concepts="no_flags", styles=("3d",)) == [0, 4]
    assert matching_indices(source, concepts="sun ,  red heart") == [0, 2]
    assert matching_indices(source, concepts="common") == [0, 2]  # of the packaged list
    assert select(source) is source
    with pytest.raises(UserError, match="no example"):
        matching_indices(source, concepts="sun", styles=("3d",))


def test_captions_of_a_large_source_are_of_examples_evenly_spread():
    rows = [("x", "", "")] * 101
    assert all_captions(Listed(rows), limit=3) == ["a picture", "x 0", "x 100", "x 50"]
    assert len(all_captions(Listed(rows))) == 102


def test_metadata_are_cached_for_small_sources_alone(tmp_path, monkeypatch):
    """Of 650M examples none is kept in memory."""

    def records():
        for i in range(3):
            texts = {"concept": "", "style": "", "category": "", "key": f"k{i}"}
            image = images.encode_png(np.zeros((2, 2, 3), np.uint8))
            yield {"image": image, "captions": [f"caption {i}"], **texts}

    class Counted:
        def __init__(self, records):
            self.records, self.reads = records, 0

        def __len__(self):
            return len(self.records)

        def __getitem__(self, index):
            self.reads += 1
            return self.records[index]

    builder.write(tmp_path / "set", {"train": records}, about="", licenses=[])
    for limit, reads in ((3, 3), (2, 6)):
        monkeypatch.setattr(sources, "INFO_LIMIT", limit)
        source = sources.load_source(tmp_path / "set")
        source._records = Counted(source._records)
        for _ in range(2):
            assert all_captions(source) == ["caption 0", "caption 1", "caption 2"]
        assert source._records.reads == reads


def test_a_fingerprint_is_of_names_sizes_and_small_texts(tmp_path, monkeypatch):
    def made(**files):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        for name, text in files.items():
            (folder / name.replace("__", ".")).write_text(text)
        return fingerprint(folder)

    monkeypatch.setattr("unclip_jax.data.sources.locate", lambda folder: folder)
    whole = made(dataset_info__json="{}", records="abc")
    assert whole == made(dataset_info__json="{}", records="abd")  # terabytes are not read
    others = [
        made(dataset_info__json="{}", records="abcd"),
        made(dataset_info__json="[]", records="abc"),
        made(dataset_info__json="{}", record="abc"),
    ]
    assert len({whole, *others}) == 4
    assert fingerprint("shapes:size=8") is None


def test_sets_lie_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("UNCLIP_DATA", str(tmp_path / "sets"))
    assert data_root() == tmp_path / "sets"
    monkeypatch.delenv("UNCLIP_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data_root() == tmp_path / "cache" / "unclip_jax" / "data"
