"""From text to images: what samplers hand on, what a seed means, and what changes no image."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import unclip_jax
from tests.toy import CONTEXT, DIM, SIZE, root
from unclip_jax.core.errors import UserError
from unclip_jax.core.types import Cond, TextFeatures
from unclip_jax.sampling import parallel, pipeline
from unclip_jax.sampling.settings import SampleSettings, resolve
from unclip_jax.sampling.stage_sampler import StageSampler

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
    monkeypatch.setattr(parallel, "BATCH_LIMIT", 1)
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
    with pytest.raises(UserError, match="decoder produced values that are not finite"):
        unclip_jax.sample(held, PROMPTS, size=16)
    with pytest.raises(UserError, match="guidance must be a number in"):
        unclip_jax.sample(toy, PROMPTS, prior_guidance=1e300)


def marked(value):
    """Features of a caption that show which it is."""
    return TextFeatures(text_emb=jnp.full((1, DIM), value, jnp.float32))


@pytest.fixture
def seen(monkeypatch):
    """What stages are called with: (name, what they read, unconditional caption).

    The n-th result is the number n.
    """
    calls = []

    def record(self, cond, keys, latent=None, *, uncond_text=None):
        calls.append((self.name, self.read(cond), self.read_text(uncond_text)))
        return np.full((1, 3), float(len(calls)), np.float32)

    monkeypatch.setattr(StageSampler, "__call__", record)
    return calls


def run(model, plan, text, uncond):
    samplers = pipeline.make_pipeline(model, plan)
    return pipeline.run_pipeline(samplers, Cond(text=text), root()[None], uncond)


def test_each_stage_gets_the_last_one_s_result_and_its_own_contrast(toy, seen):
    """--negative stands for the empty caption in the decoder's guidance alone."""
    plan = resolve(toy, SampleSettings(negative="dull"))
    made = run(toy, plan, marked(1), {"": marked(0), "dull": marked(5)})
    assert [name for name, _, _ in seen] == ["prior_diffusion", "decoder", "upsampler_256"]
    prior, decoder, upsampler = (cond for _, cond, _ in seen)
    contrasts = [c if c is None else float(c.text_emb[0, 0]) for _, _, c in seen]
    assert contrasts == [0.0, 5.0, None]
    assert prior.image_emb is None and decoder.image_emb[0, 0] == 1.0
    assert upsampler.low_res[0, 0] == 2.0 and upsampler.text is None
    assert made[0, 0] == 3.0


@pytest.mark.parametrize("prior", ["text", "none"])
def test_without_a_prior_z_i_is_z_t_or_missing(toy, prior, seen):
    """The paper's ablations (figure 8): the decoder gets the text embedding, or the caption."""
    plan = resolve(toy, SampleSettings(prior=prior, size=SIZE))
    run(toy, plan, marked(3), {"": marked(0)})
    ((name, cond, _),) = seen
    assert name == "decoder" and float(cond.text.text_emb[0, 0]) == 3.0
    assert cond.image_emb is None if prior == "none" else (cond.image_emb == 3.0).all()


def test_an_image_has_the_key_and_the_caption_of_its_request(toy, monkeypatch):
    """Ten requests in batches of eight, of prompts that are numbered from 5."""
    prompts, seen = ["a red heart", "the sun", "a cat face", "a blue car", "a dog face"], []

    def record(samplers, cond, keys, uncond):
        seen.append((jax.random.key_data(keys), cond.text.clip_tokens))
        return np.zeros((len(keys), 2, 2, 3), np.float32)

    monkeypatch.setattr(pipeline, "run_pipeline", record)
    monkeypatch.setattr(parallel, "BATCH_LIMIT", 1)
    requests = pipeline.requests_for(prompts, 2, first=5)
    plan = resolve(toy, SampleSettings())
    assert [len(made) for made in pipeline.generate(toy, requests, root(), plan)] == [8, 2]
    fold, numbers = jax.random.fold_in, [(5 + i, draw) for i in range(5) for draw in range(2)]
    keys = [jax.random.key_data(fold(fold(root(), i), draw)) for i, draw in numbers]
    np.testing.assert_array_equal(np.concatenate([k for k, _ in seen])[:10], keys)
    tokens = toy.tokenizer.encode(prompts, context=CONTEXT).tokens
    found = np.concatenate([t for _, t in seen])[:10]
    np.testing.assert_array_equal(found, np.repeat(tokens, 2, 0))
