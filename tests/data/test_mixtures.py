"""A mixture of a set with a part of another, or of itself."""

import pytest

from unclip_jax.core.errors import UserError
from unclip_jax.data.config import DataConfig
from unclip_jax.data.pipeline import open_source


def test_a_set_is_mixed_with_a_part_of_itself():
    name = "shapes:size=8,count=40"
    part = {"mix_concepts": "blue bar, blue cross"}
    source = open_source(DataConfig(image_size=8, name=name, mix=(name,), **part))
    whole, some = source.sources
    concepts = {whole.info(i)["concept"] for i in range(len(whole))}
    assert {some.info(i)["concept"] for i in range(len(some))} == {"blue bar", "blue cross"}
    assert len(concepts) > 2
    of_all = DataConfig(image_size=8, name=name, mix=(name,), concepts="blue bar")
    assert len(open_source(of_all).sources[1]) == len(open_source(of_all).sources[0])


def test_a_part_that_a_mixed_set_lacks_is_refused():
    sets = {"image_size": 8, "name": "shapes:size=8", "mix": ("shapes:size=8",)}
    with pytest.raises(UserError, match="config.data.mix_concepts=all"):
        open_source(DataConfig(**sets, mix_styles=("3d",)))
    with pytest.raises(UserError, match="config.data.concepts=all"):
        open_source(DataConfig(**sets, styles=("3d",)))
    with pytest.raises(ValueError, match="mix_concepts and mix_styles are of the sets in mix"):
        DataConfig(name="shapes", mix_concepts="blue bar")
