"""The suite of new combinations, on embeddings and images whose answer is known."""

import dataclasses

import numpy as np
import pytest

from tests.evals.suites import SETTINGS, check_metrics
from unclip_jax.core.errors import UserError
from unclip_jax.evals.combinations import hit_metrics
from unclip_jax.evals.runner import run_suite


def test_samples_are_compared_with_the_nearest_training_images():
    """Of four samples three find their own image first, of the training images one does."""
    gallery = np.eye(6)
    relevant = np.eye(4, 6, dtype=bool)
    sampled = gallery[[0, 1, 2, 5]]
    nearest = gallery[[0, 4, 4, 4]]
    results = hit_metrics(sampled, nearest, gallery, relevant, np.array(list("abcd")))
    assert (results["top_1"].value, results["top_1"].baseline) == (0.75, 0.25)
    assert (results["over_nearest_1"].value, results["over_nearest_1"].baseline) == (0.5, 0.0)
    assert results["chance_1"].value == pytest.approx(1 / 6)
    assert results["chance_5"].value == pytest.approx(5 / 6)


def test_every_image_of_the_combination_counts():
    """Two images of one combination: finding either is a hit."""
    gallery = np.eye(3)
    relevant = np.array([[True, True, False]])
    results = hit_metrics(gallery[1:2], gallery[2:], gallery, relevant, np.array(["a"]))
    assert (results["top_1"].value, results["top_1"].baseline) == (1.0, 0.0)


def test_the_suite_samples_the_last_split(model, tmp_path):
    with pytest.raises(UserError, match="pass --eval-clip"):
        run_suite("combinations", model, SETTINGS)
    settings = dataclasses.replace(SETTINGS, eval_clip=model, image_folder=tmp_path, prompts=4)
    results = run_suite("combinations", model, settings)
    check_metrics(results)
    assert results["top_1"].n == 4
    assert (tmp_path / "combinations_images.png").stat().st_size > 0
