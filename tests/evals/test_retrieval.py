"""Queries, relevance and recall on a gallery small enough to be worked by hand."""

import numpy as np
import pytest

from unclip_jax.evals.examples import Examples, main_captions, names_style, resized
from unclip_jax.evals.retrieval import Query, make_queries, relevance, retrieval_figures

CAPTIONS = {
    ("heart", "3d"): ("a red heart", "a 3d emoji of a red heart"),
    ("heart", "flat"): ("a red heart", "red heart, flat icon"),
    ("sun", "3d"): ("the sun", "sun, 3d icon"),
}


@pytest.fixture
def examples():
    concepts, styles = zip(*CAPTIONS, strict=True)
    images = np.zeros((3, 4, 4, 3), np.uint8)
    return Examples(images, tuple(CAPTIONS.values()), concepts, styles)


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
        ("a watercolour of the sun", "watercolour", True),
    ],
)
def test_names_style(caption, style, named):
    assert names_style(caption, style) == named


def test_queries_and_relevance(examples):
    queries = make_queries(examples)
    assert queries == [
        Query("a red heart", "heart", ""),
        Query("a 3d emoji of a red heart", "heart", "3d"),
        Query("red heart, flat icon", "heart", "flat"),
        Query("the sun", "sun", ""),
        Query("sun, 3d icon", "sun", "3d"),
    ]
    expected = [[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]]
    np.testing.assert_array_equal(relevance(queries, examples), np.array(expected, bool))
    assert main_captions(examples)[0] == "a 3d emoji of a red heart"


def test_retrieval_figures(examples):
    queries = make_queries(examples)
    image_emb = np.eye(3)
    # "a red heart" finds its second picture, which counts; "flat icon" finds the 3d one, which
    # does not; both captions of the sun find it.
    text_emb = np.array(
        [[0.1, 0.9, 0.0], [1.0, 0.2, 0.0], [0.9, 0.5, 0.0], [0.0, 0.0, 1.0], [0.1, 0.0, 1.0]]
    )
    figures = retrieval_figures(queries, examples, text_emb, image_emb)
    assert figures["recall_at_1"].value == pytest.approx(4 / 5)
    assert figures["recall_at_1_styled"].value == pytest.approx(2 / 3)
    assert figures["recall_at_1_plain"].value == 1.0
    assert figures["recall_at_5"].value == 1.0
    assert figures["recall_at_1"].floor == pytest.approx((2 + 1 + 1 + 1 + 1) / 3 / 5)
    assert figures["recall_at_1"].n == 5
    assert figures["recall_at_1_styled"].floor == pytest.approx(1 / 3)
    assert figures["recall_at_1_plain"].floor == pytest.approx((2 + 1) / 3 / 2)


def test_resized_keeps_flat_colour():
    images = np.full((2, 8, 8, 3), 77, np.uint8)
    assert resized(images, 4).shape == (2, 4, 4, 3)
    assert (resized(images, 4) == 77).all()
    assert resized(images, 8) is images


def test_resized_is_the_area_average():
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    expected = images.reshape(2, 4, 2, 4, 2, 3).mean((2, 4), dtype=np.float64)
    np.testing.assert_allclose(resized(images, 4), expected, atol=1.0)
