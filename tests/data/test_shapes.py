import numpy as np
import pytest
from scipy import ndimage

from unclip_jax.core.errors import UserError
from unclip_jax.data.sets import shapes
from unclip_jax.data.sources import load_source

COUNT = 60


@pytest.fixture(scope="module")
def train():
    return shapes.ShapesSource("train", size=48, count=COUNT)


def test_example_i_depends_on_nothing_but_i(train):
    longer = shapes.ShapesSource("train", size=48, count=10 * COUNT)
    for i in (0, 7, COUNT - 1):
        assert train[i]["captions"] == longer[i]["captions"]
        np.testing.assert_array_equal(train[i]["image"], longer[i]["image"])
    assert not np.array_equal(train[0]["image"], train[1]["image"])


def test_info_is_the_example_without_its_pixels(train):
    example = train[5]
    assert train.info(5) == {k: v for k, v in example.items() if k != "image"}


def test_colors_in_the_image_are_those_of_the_caption(train):
    for i in range(COUNT):
        example = train[i]
        pixels = {tuple(p) for p in example["image"].reshape(-1, 3).tolist()}
        seen = {name for name, rgb in shapes.COLORS.items() if rgb in pixels}
        assert seen == {w for w in example["captions"][0].split() if w in shapes.COLORS}


def test_relations_are_where_the_pixels_are(train):
    checked = 0
    for i in range(COUNT):
        example = train[i]
        first, _, second = example["concept"].partition(" + ")
        colors = [c.split()[0] for c in (first, second) if c]
        if len(set(colors)) < 2:
            continue
        masks = [(example["image"] == np.asarray(shapes.COLORS[c])).all(-1) for c in colors]
        (y1, x1), (y2, x2) = (ndimage.center_of_mass(m) for m in masks)
        relation = example["captions"][0].removeprefix(f"a {first} ").removeprefix(f"an {first} ")
        if relation.startswith(("above", "below")):
            assert (y1 < y2) == relation.startswith("above")
        else:
            assert (x1 < x2) == relation.startswith("left")
        checked += 1
    assert checked > 10


def test_captions_of_one_and_of_two_forms(train):
    opposite = {"above": "below", "below": "above", "left of": "right of", "right of": "left of"}
    for i in range(COUNT):
        info = train.info(i)
        names = [f"a{'n' * (c[0] in 'aeiou')} {c}" for c in info["concept"].split(" + ")]
        if len(names) == 1:
            bare = info["concept"]
            expected = (names[0], f"a picture of {names[0]}", f"{bare} on white")
            assert (info["captions"], info["category"]) == (expected, "one")
        else:
            relation = info["captions"][0].removeprefix(names[0]).removesuffix(names[1]).strip()
            expected = f"{names[1]} {opposite[relation]} {names[0]}"
            assert (info["captions"][1:], info["category"]) == ((expected,), "two")


def test_held_out_combinations_are_only_in_test():
    test = shapes.ShapesSource("test", size=8, count=COUNT)
    pairs = [p for p in shapes.all_pairs() if shapes.is_held_out(*p)]
    assert len(pairs) == len(shapes.all_pairs()) / 8
    assert {c for c, _ in pairs} == set(shapes.COLORS)
    assert {f for _, f in pairs} == set(shapes.FORMS)
    held = {f"{c} {f}" for c, f in pairs}
    train = shapes.ShapesSource("train", size=8, count=500)
    assert all(set(test.info(i)["concept"].split(" + ")) <= held for i in range(COUNT))
    assert not any(set(train.info(i)["concept"].split(" + ")) & held for i in range(500))


@pytest.mark.parametrize(
    ("form", "area"),
    [("circle", np.pi), ("diamond", 2.0), ("square", 1.7**2), ("ring", 0.7 * np.pi), ("bar", 1.2)],
)
def test_forms_have_their_area(form, area):
    cover = shapes.coverage(form, 128, (0.5, 0.5), 0.25)
    assert cover.sum() / (128 * 0.25) ** 2 == pytest.approx(area, rel=0.01)


def test_star_points_up_and_is_a_pentagram():
    cover = shapes.coverage("star", 201, (0.5, 0.5), 0.45)
    assert cover[12:20, 100].min() == 1  # the tip
    assert cover[-12:, 100].max() == 0  # between the lower two
    np.testing.assert_allclose(cover, cover[:, ::-1], atol=0.35)
    # Area of the pentagram with circumradius 1: 10 tan(pi/10) / (3 - tan(pi/10)^2).
    tan = np.tan(np.pi / 10)
    assert cover.sum() / (201 * 0.45) ** 2 == pytest.approx(10 * tan / (3 - tan**2), rel=0.01)


def test_names_carry_size_and_count():
    source = load_source("shapes:size=16,count=5", "test")
    assert len(source) == 5
    assert source[4]["image"].shape == (16, 16, 3)
    assert len(load_source("shapes")) == 10_000


@pytest.mark.parametrize("name", ["shapes:size=x", "shapes:color=1", "shapes:count=0"])
def test_bad_options_are_named(name):
    with pytest.raises(UserError, match="is not size=PIXELS or count=NUMBER"):
        load_source(name)


def test_unknown_split_and_index():
    with pytest.raises(UserError, match="no split 'dev'"):
        load_source("shapes", "dev")
    with pytest.raises(IndexError):
        load_source("shapes:count=5")[5]
