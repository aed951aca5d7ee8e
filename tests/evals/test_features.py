"""Which features a text asks for, and what they are made of."""

import numpy as np
import pytest

from unclip_jax import api
from unclip_jax.core.errors import UserError
from unclip_jax.evals.features import load_features


def test_features_of_a_bundle_are_its_raw_image_embeddings(model):
    images = np.random.default_rng(0).integers(0, 256, (3, 20, 20, 3)).astype(np.uint8)
    seen = []
    features = load_features("clip", model, lambda what, done, total: seen.append((done, total)))
    assert (features.name, features.recipe) == ("CLIP", "CLIP features of toy")
    found = features.extract(images)
    assert list(found) == ["pool"]
    np.testing.assert_allclose(found["pool"], api.embed_image(model, images), atol=1e-5)
    assert seen and {total for _, total in seen} == {3}


@pytest.mark.parametrize("spec", ["", "clap", "clip:file", "inception3:f.pth"])
def test_unknown_features_are_refused_with_those_there_are(model, spec):
    with pytest.raises(UserError, match=r"unknown features .*; there are clip"):
        load_features(spec, model)
