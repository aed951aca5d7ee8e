"""Drawings of the procedural source are read back; its own scenes are the ground truth."""

import numpy as np
import pytest
from scipy import ndimage

from unclip_jax.data.sets.scenes import ScenesSource
from unclip_jax.data.sets.shapes import COLORS, FORMS, ShapesSource, coverage
from unclip_jax.evals.shape_reader import Seen, judge_scene, read_scene


def draw(*objects, size=64):
    """Draws (color, form, center, radius), later ones on top."""
    image = np.full((size, size, 3), 255.0)
    for color, form, center, radius in objects:
        cover = coverage(form, size, center, radius)[..., None]
        image = image * (1 - cover) + np.asarray(COLORS[color]) * cover
    return image.round().astype(np.uint8)


def pairs_of(example):
    return sorted(tuple(part.split(" ")) for part in example["concept"].split(" + "))


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("split", ["train", "test"])
def test_drawings_are_read_back(split, size):
    source = ShapesSource(split, size=size)
    for index in range(60):
        seen = read_scene(source[index]["image"])
        assert sorted((one.color, one.form) for one in seen) == pairs_of(source[index]), index


def test_centers_are_where_the_objects_are():
    """Every form, off the middle; to a third of a pixel of 64."""
    for form in FORMS:
        (seen,) = read_scene(draw(("blue", form, (0.4, 0.63), 0.2)))
        assert seen.form == form and seen.overlap > 0.9
        np.testing.assert_allclose(seen.center, (0.4, 0.63), atol=0.34 / 64)


def test_soft_and_noisy_drawings_are_read_back():
    """As a decoder draws them: blurred by 0.7 pixels, with noise of 8 gray levels."""
    source, rng, right = ShapesSource("train", size=64), np.random.default_rng(0), 0
    for index in range(30):
        soft = ndimage.gaussian_filter(source[index]["image"].astype(float), (0.7, 0.7, 0))
        noisy = (soft + rng.normal(0, 8, soft.shape)).clip(0, 255).round().astype(np.uint8)
        seen = read_scene(noisy)
        right += sorted((one.color, one.form) for one in seen) == pairs_of(source[index])
    assert right >= 29


def test_soft_scenes_of_six_are_read_back():
    """At 32 pixels: what a reader loses there would look like what a model cannot draw."""
    source, rng = ScenesSource("train", objects=6), np.random.default_rng(1)
    right = 0
    for index in range(12):
        soft = ndimage.gaussian_filter(source[index]["image"].astype(float), (0.7, 0.7, 0))
        noisy = (soft + rng.normal(0, 8, soft.shape)).clip(0, 255).round().astype(np.uint8)
        seen = sorted((one.color, one.form) for one in read_scene(noisy))
        right += seen == pairs_of(source[index])
    assert right >= 10


def test_objects_that_touch_are_two_if_their_colors_differ():
    image = draw(("red", "square", (0.3, 0.5), 0.2), ("green", "square", (0.64, 0.5), 0.2))
    assert sorted((one.color, one.form) for one in read_scene(image)) == [
        ("green", "square"),
        ("red", "square"),
    ]


def test_white_has_nothing_and_a_blot_has_no_form():
    assert read_scene(np.full((64, 64, 3), 255, np.uint8)) == []
    speck = np.full((64, 64, 3), 255, np.uint8)
    speck[5:8, 5:8] = COLORS["red"]
    assert read_scene(speck) == []
    blot = np.full((64, 64, 3), 255, np.uint8)
    blot[10:50, 10:14] = blot[46:50, 10:50] = blot[30:50, 46:50] = COLORS["red"]
    (seen,) = read_scene(blot)
    assert (seen.color, seen.form) == ("red", None)


def scene(*objects):
    return [Seen(color, form, center, 1.0) for color, form, center in objects]


WANTED = [("red", "circle"), ("blue", "square")]
LEFT, RIGHT = (0.2, 0.5), (0.8, 0.5)


def test_a_scene_as_wanted():
    seen = scene(("blue", "square", RIGHT), ("red", "circle", LEFT))
    verdict = judge_scene(WANTED, seen, "left of")
    assert verdict.count and verdict.bound and verdict.related and not verdict.swapped
    assert verdict.colors and verdict.forms
    assert judge_scene(WANTED, seen, "right of").related is False
    assert judge_scene(WANTED, seen).related is None
    more = judge_scene(WANTED, [*seen, *scene(("red", "star", (0.5, 0.1)))])
    assert more.bound and not more.count


def test_swapped_colors():
    seen = scene(("blue", "circle", LEFT), ("red", "square", RIGHT))
    verdict = judge_scene(WANTED, seen, "left of")
    assert verdict.swapped and not verdict.bound and verdict.related is None
    assert verdict.count and verdict.colors and verdict.forms
    half = judge_scene(WANTED, scene(("blue", "circle", LEFT), ("blue", "square", RIGHT)))
    assert not half.swapped and not half.bound and half.forms and not half.colors


def test_a_swap_needs_two_colors_and_two_forms():
    wanted = [("red", "circle"), ("blue", "circle")]
    assert judge_scene(wanted, scene(("red", "star", LEFT))).swapped is None
    assert judge_scene([("red", "circle"), ("red", "bar")], []).swapped is None
    assert judge_scene([("red", "circle")], []).swapped is None
    assert judge_scene(WANTED, []).swapped is False


def test_the_same_thing_twice_is_wanted_twice():
    twice, one = [("red", "star")] * 2, scene(("red", "star", LEFT))
    assert not judge_scene(twice, one).bound
    assert judge_scene(twice, [*one, *scene(("red", "star", RIGHT))]).bound
