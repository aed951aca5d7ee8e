import numpy as np
import pytest

from unclip_jax.core.errors import UserError
from unclip_jax.data.sets import scenes, shapes
from unclip_jax.data.sources import fingerprint, load_source, split_sizes
from unclip_jax.evals.shape_reader import read_scene

NUMBERS = range(1, 7)


def objects_in(image):
    return sorted(f"{one.color} {one.form}" for one in read_scene(image))


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("number", NUMBERS)
def test_every_scene_can_be_read_back(number, split):
    """The reader has none of this source's code but the forms; 32 pixels are its hardest size."""
    source = load_source(f"scenes:size=32,objects={number}", split)
    for index in range(60):
        example = source[index]
        assert objects_in(example["image"]) == sorted(example["concept"].split(" + ")), index


def test_example_i_depends_on_nothing_but_i():
    few, many = load_source("scenes:count=20"), load_source("scenes:count=500")
    for i in (0, 7, 19):
        assert few.info(i) == many.info(i)
        np.testing.assert_array_equal(few[i]["image"], many[i]["image"])
    assert few.info(5) == {k: v for k, v in few[5].items() if k != "image"}
    assert [few.info(i) for i in range(5)] != [
        load_source("scenes", "test").info(i) for i in range(5)
    ]


def test_all_numbers_of_objects_occur_and_pairs_most_often():
    source = scenes.ScenesSource(count=400)
    counts = np.bincount([int(source.info(i)["category"]) for i in range(400)], minlength=7)
    assert counts[0] == 0 and counts[1:].min() > 20 and counts.argmax() == 2


def test_held_out_combinations_are_only_in_test():
    for split in ("train", "test"):
        source = scenes.ScenesSource(split, count=100)
        pairs = {p for i in range(100) for p in source.info(i)["concept"].split(" + ")}
        assert {shapes.is_held_out(*pair.split()) for pair in pairs} == {split == "test"}


def test_captions_list_the_objects_from_left_to_right_and_down():
    source = scenes.ScenesSource(objects=4)
    for index in range(20):
        example = source[index]
        names = example["concept"].split(" + ")
        at = {f"{one.color} {one.form}": one.center for one in read_scene(example["image"])}
        assert names == sorted(names, key=lambda name: (at[name][1] > 0.5, at[name][0]))
        told = example["captions"][0].replace(" and ", ", ").split(", ")
        assert told == [f"a{'n' * (name[0] == 'o')} {name}" for name in names]


def test_sizes_in_a_caption_are_those_drawn():
    source = scenes.ScenesSource(objects=2)
    for index in range(20):
        example = source[index]
        told = [word for word in example["captions"][-1].split() if word in ("big", "small")]
        assert told == ["big" if radius > 0.16 else "small" for *_, radius in source.scene(index)]
    assert len(scenes.ScenesSource(objects=6).info(0)["captions"]) == 1


def test_a_drawing_is_that_of_the_whole_canvas():
    """A form that leaves the image too; the box around it changes rounding only."""
    objects = [("red", "circle", (0.1, 0.5), 0.3), ("blue", "star", (0.8, 0.95), 0.2)]
    image = np.full((48, 48, 3), 255.0)
    for color, form, center, radius in objects:
        cover = shapes.coverage(form, 48, center, radius)[..., None]
        image = image * (1 - cover) + np.asarray(shapes.COLORS[color]) * cover
    difference = np.abs(scenes.draw(objects, 48) - image)
    assert difference.max() < 40 and np.mean(difference > 1) < 0.002


def test_a_set_that_is_drawn_has_sizes_but_no_files():
    assert split_sizes("scenes:count=30") == {"train": 30, "test": 30}
    assert fingerprint("scenes:size=32") is None
    with pytest.raises(UserError, match="have 1 to 6 objects, not 7"):
        load_source("scenes:objects=7")
    with pytest.raises(UserError, match="is not size=PIXELS or count=NUMBER or objects=NUMBER"):
        load_source("scenes:color=1")
    with pytest.raises(UserError, match="no split 'dev'"):
        load_source("scenes", "dev")
    with pytest.raises(IndexError):
        load_source("scenes:count=5")[5]
