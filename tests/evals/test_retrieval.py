"""Queries, relevance and recall on a gallery small enough to be worked by hand."""

import dataclasses

import numpy as np
import pytest

from tests.evals.suites import SETTINGS, check_metrics
from unclip_jax.evals.examples import Examples, main_captions
from unclip_jax.evals.retrieval import Query, make_queries, relevance, retrieval_metrics
from unclip_jax.evals.runner import run_suite

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


def test_retrieval_metrics(examples):
    queries = make_queries(examples)
    image_emb = np.eye(3)
    # "a red heart" finds its second picture, which counts; "flat icon" finds the 3d one, which
    # does not; both captions of the sun find it.
    text_emb = np.array(
        [[0.1, 0.9, 0.0], [1.0, 0.2, 0.0], [0.9, 0.5, 0.0], [0.0, 0.0, 1.0], [0.1, 0.0, 1.0]]
    )
    results = retrieval_metrics(queries, examples, text_emb, image_emb)
    assert results["recall_at_1"].value == pytest.approx(4 / 5)
    assert results["recall_at_1_styled"].value == pytest.approx(2 / 3)
    assert results["recall_at_1_plain"].value == 1.0
    assert results["recall_at_5"].value == 1.0
    assert results["recall_at_1"].baseline == pytest.approx((2 + 1 + 1 + 1 + 1) / 3 / 5)
    assert results["recall_at_1"].n == 5
    assert results["recall_at_1_styled"].baseline == pytest.approx(1 / 3)
    assert results["recall_at_1_plain"].baseline == pytest.approx((2 + 1) / 3 / 2)


def test_retrieval(model):
    said = []
    settings = dataclasses.replace(SETTINGS, report=lambda *part: said.append(part))
    results = run_suite("retrieval", model, settings)
    assert {what for what, _, _ in said} == {
        "reading test",
        "embedding images",
        "embedding captions",
    }
    assert all(0 <= done < total for _, done, total in said)
    check_metrics(results)
    assert {"test/recall_at_1", "test/recall_at_5"} <= set(results)
    assert results["test/recall_at_1"].value <= results["test/recall_at_5"].value
    assert 0.0 < results["test/recall_at_1"].baseline < results["test/recall_at_5"].baseline <= 1.0
