"""Which features a text asks for, and what they are made of."""

import numpy as np
import pytest

from unclip_jax import api
from unclip_jax.core.errors import UserError
from unclip_jax.evals import features as features_module
from unclip_jax.evals.features import load_features
from unclip_jax.evals.networks import inception


def test_features_of_a_bundle_are_its_raw_image_embeddings(model):
    images = np.random.default_rng(0).integers(0, 256, (3, 20, 20, 3)).astype(np.uint8)
    seen = []
    features = load_features("clip", model, lambda what, done, total: seen.append((done, total)))
    assert (features.name, features.recipe) == ("CLIP", "CLIP features of toy")
    found = features.extract(images)
    assert list(found) == ["pool"]
    np.testing.assert_allclose(found["pool"], api.embed_image(model, images), atol=1e-5)
    assert seen and {total for _, total in seen} == {3}


@pytest.mark.parametrize(
    "spec", ["", "clap", "clip:file", "inception", "inception:", "inception3:f.pth", "dinov2"]
)
def test_unknown_features_are_refused_with_those_there_are(model, spec):
    with pytest.raises(UserError, match=r"unknown features .*; there are clip"):
        load_features(spec, model)


@pytest.mark.parametrize(
    ("kind", "recipe", "side", "run"),
    [
        ("inception", "torch-fidelity", 40, None),
        ("inception-adm", "ADM evaluator", 40, 5000),
        ("inception-clean", "clean-fid", 299, None),
    ],
)
def test_each_recipe_of_inception_is_named_and_feeds_its_own_input(
    model, monkeypatch, kind, recipe, side, run
):
    """The network itself is left out: what reaches it is what differs."""
    monkeypatch.setattr(features_module, "load_inception", lambda path: {})
    seen = lambda rows: {"pool": rows.reshape(len(rows), -1).astype(np.float32)}  # noqa: E731
    monkeypatch.setattr(inception, "runner", lambda function, params, limit: seen)
    found = load_features(f"{kind}:weights.pth", model)
    assert (found.name, found.recipe.partition(":")[0]) == ("Inception", recipe)
    assert found.score_run == run
    made = found.extract(np.zeros((2, 40, 40, 3), np.uint8))
    assert made["pool"].shape == (2, side * side * 3)


def test_a_file_that_is_not_there_is_named(model, tmp_path):
    with pytest.raises(UserError, match=r"nothing\.pth is missing"):
        load_features(f"inception:{tmp_path / 'nothing.pth'}", model)
