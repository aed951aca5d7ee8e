"""Loading a split: the seeded limit, several splits, styles, resizing."""

import dataclasses

import numpy as np
import pytest

from tests.evals.suites import SETTINGS
from unclip_jax.evals import examples
from unclip_jax.evals.examples import names_style, resized
from unclip_jax.evals.settings import Settings


def test_a_limit_draws_by_the_seed(model):
    whole = examples.load_examples(SETTINGS, "test", size=8)
    drawn = []
    for seed in range(4):
        settings = dataclasses.replace(SETTINGS, seed=seed)
        few = examples.load_examples(settings, "test", size=8, limit=3)
        same = (few.images[:, None] == whole.images[None]).all((2, 3, 4))
        drawn.append(tuple(same.argmax(1)))
        assert same.any(1).all() and list(drawn[-1]) == sorted(set(drawn[-1]))
    assert len(set(drawn)) > 1 and max(map(max, drawn)) >= 3


def test_splits_together_are_drawn_from_all():
    data = "shapes:size=32,count=24"
    apart = [examples.load_examples(SETTINGS, s, size=8) for s in ("train", "test")]
    both = examples.load_splits(Settings(data), ("train", "test"), size=8)
    assert len(both) == sum(map(len, apart))
    np.testing.assert_array_equal(both.images[-len(apart[1]) :], apart[1].images)
    few = examples.load_splits(Settings(data), ("train", "test"), size=8, limit=5)
    assert len(few) == 5


@pytest.mark.parametrize(
    ("caption", "style", "named"),
    [
        ("a 3d emoji of a red heart", "3d", True),
        ("red heart, flat icon", "flat", True),
        ("a red heart", "3d", False),
        ("a 3d emoji of a red heart", "flat", False),
        ("a flat tyre", "flat", False),
        ("a bored cat", "red", False),
        ("a red circle", "", False),
        ("a watercolor of the sun", "watercolor", True),
    ],
)
def test_names_style(caption, style, named):
    assert names_style(caption, style) == named


def test_resized_keeps_flat_color():
    images = np.full((2, 8, 8, 3), 77, np.uint8)
    assert resized(images, 4).shape == (2, 4, 4, 3)
    assert (resized(images, 4) == 77).all()
    assert resized(images, 8) is images


def test_resized_is_the_area_average():
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    expected = images.reshape(2, 4, 2, 4, 2, 3).mean((2, 4), dtype=np.float64)
    np.testing.assert_allclose(resized(images, 4), expected, atol=1.0)
