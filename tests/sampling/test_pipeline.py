"""The whole chain: what a seed means, and what changes no image."""

import dataclasses

import jax
import numpy as np
import pytest

import unclip_jax
from tests.toy import root
from unclip_jax.core.errors import UserError

PROMPTS = ["a red heart", "the sun"]


@pytest.fixture(scope="module")
def images(toy):
    return unclip_jax.sample(toy, PROMPTS, key=root(), num=2)


def test_images_are_uint8_in_the_bundles_size(images):
    assert images.shape == (4, 32, 32, 3)
    assert images.dtype == np.uint8
    assert images.std() > 10  # not blank


def test_the_same_seed_gives_the_same_pixels(toy, images):
    np.testing.assert_array_equal(unclip_jax.sample(toy, PROMPTS, key=root(), num=2), images)
    np.testing.assert_array_equal(unclip_jax.sample(toy, PROMPTS, num=2), images)  # seed 0


def test_another_seed_prompt_or_draw_gives_another_image(toy, images):
    other = unclip_jax.sample(toy, PROMPTS, key=root(1), num=2)
    for first, second in [(other[0], images[0]), (images[0], images[1]), (images[0], images[2])]:
        assert (first != second).mean() > 0.5


def test_more_prompts_and_draws_change_no_earlier_image(toy, images):
    more = unclip_jax.sample(toy, [*PROMPTS, "a dog face"], num=2)
    np.testing.assert_array_equal(more[:4], images)
    more = unclip_jax.sample(toy, PROMPTS, num=3)
    np.testing.assert_array_equal(more[[0, 1, 3, 4]], images)


def test_more_images_than_a_batch_change_no_earlier_one(toy, images, monkeypatch):
    monkeypatch.setattr("unclip_jax.sampling.pipeline.BATCH_LIMIT", 1)
    many = unclip_jax.sample(toy, [*PROMPTS, "a", "b", "c"], num=2)
    assert many.shape[0] == 10
    np.testing.assert_array_equal(many[:4], images)


def test_the_decoders_size(toy):
    assert unclip_jax.sample(toy, PROMPTS, size=16).shape == (2, 16, 16, 3)


def test_z_t_as_z_i_is_another_image(toy, images):
    other = unclip_jax.sample(toy, PROMPTS, num=2, prior="text")
    assert (other != images).mean() > 0.2


def test_bfloat16_is_near_float32(toy, images):
    other = unclip_jax.sample(toy, PROMPTS, num=2, dtype="bfloat16")
    difference = np.abs(other.astype(int) - images.astype(int))
    # Eight bits of mantissa: errors of 0.4% at every layer, a few grey levels at the end.
    assert 0 < difference.mean() < 6


def test_negative_prompts_matter(toy, images):
    other = unclip_jax.sample(toy, PROMPTS, num=2, negative="a green apple")
    assert (other != images).mean() > 0.05


def test_a_list_without_prompts_is_refused(toy):
    with pytest.raises(UserError, match="no prompt"):
        unclip_jax.sample(toy, [])
    with pytest.raises(UserError, match="num"):
        unclip_jax.sample(toy, ["x"], num=0)
    with pytest.raises(UserError, match="surrogate"):
        unclip_jax.sample(toy, ["\ud800"])


def test_a_variance_table_that_is_missing_is_named(toy):
    held = dataclasses.replace(toy, arrays={})
    with pytest.raises(UserError, match="prior_diffusion.variance_table"):
        unclip_jax.sample(held, PROMPTS)


def test_values_that_are_not_finite_are_no_picture(toy):
    stage = toy.stage("decoder")
    params = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), stage.params)
    broken = dataclasses.replace(stage, params=params)
    held = dataclasses.replace(toy, stages={**toy.stages, "decoder": broken})
    with pytest.raises(UserError, match="decoder made values that are not finite"):
        unclip_jax.sample(held, PROMPTS, size=16)
    with pytest.raises(UserError, match="guidance must be a number in"):
        unclip_jax.sample(toy, PROMPTS, prior_guidance=1e300)
