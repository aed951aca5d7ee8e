"""What the stages hand to each other: conditions, contrasts, keys, spaces, limits and masks."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.toy import CONTEXT, DIM, LARGE, SIZE, root
from unclip_jax import api
from unclip_jax.checkpoint.bundle import CascadeNet, CascadeStep
from unclip_jax.core.errors import UserError
from unclip_jax.core.types import Cond, TextFeatures
from unclip_jax.models.embedding_norm import EmbeddingNorm
from unclip_jax.sampling import pipeline, runs, stages
from unclip_jax.sampling.encode import encode_text
from unclip_jax.sampling.inpaint import any_in_block
from unclip_jax.sampling.pipeline import chain
from unclip_jax.sampling.runner import finite, image_keys
from unclip_jax.sampling.settings import SampleSettings, resolve


def marked(*values):
    """Caption features that show which they are."""
    return TextFeatures(text_emb=jnp.asarray(values, jnp.float32)[:, None] * jnp.ones((1, DIM)))


def test_the_unconditional_half_has_no_embedding_and_the_empty_caption():
    low_res = jnp.arange(2.0)[:, None, None, None] * jnp.ones((1, 2, 2, 3))
    cond = Cond(
        image_emb=jnp.eye(2),
        image_keep=jnp.array([True, False]),
        text=marked(1, 2),
        low_res=low_res,
    )
    both = stages.doubled(cond, marked(9), 2)
    np.testing.assert_array_equal(both.image_emb, np.tile(np.eye(2), (2, 1)))
    assert both.image_keep.tolist() == [True, False, False, False]
    assert both.text.text_emb[:, 0].tolist() == [1, 2, 9, 9]
    assert both.low_res[:, 0, 0, 0].tolist() == [0, 1, 0, 1]


def test_each_stage_gets_the_last_one_s_result_and_its_own_contrast(toy):
    """--negative stands for the empty caption in the decoder's guidance alone."""
    plan = resolve(toy, SampleSettings(negative="dull"))
    seen = []

    def captions(stage, contrast):
        return marked(1), marked({"": 0, "dull": 5}[contrast])

    def stage(run, cond, contrast):
        seen.append((run.name, cond, contrast))
        return np.full((1, 3), float(len(seen)), np.float32)

    made = chain(toy, plan, captions, stage)
    assert [name for name, _, _ in seen] == ["prior_diffusion", "decoder", "upsampler_256"]
    prior, decoder, upsampler = (cond for _, cond, _ in seen)
    contrasts = [c if c is None else float(c.text_emb[0, 0]) for _, _, c in seen]
    assert contrasts == [0.0, 5.0, None]
    assert prior.image_emb is None and decoder.image_emb[0, 0] == 1.0
    assert upsampler.low_res[0, 0] == 2.0 and upsampler.text is None
    assert made[0, 0] == 3.0


@pytest.mark.parametrize("prior", ["text", "none"])
def test_without_a_prior_z_i_is_z_t_or_missing(toy, prior):
    """The paper's ablations (figure 8): the decoder gets the text embedding, or the caption."""
    seen = []

    def stage(run, cond, contrast):
        seen.append((run.name, cond))
        return np.zeros((1, 3), np.float32)

    plan = resolve(toy, SampleSettings(prior=prior, size=SIZE))
    chain(toy, plan, lambda stage, contrast: (marked(3), marked(0)), stage)
    ((name, cond),) = seen
    assert name == "decoder" and float(cond.text.text_emb[0, 0]) == 3.0
    assert cond.image_emb is None if prior == "none" else (cond.image_emb == 3.0).all()


def test_an_image_has_the_key_and_the_caption_of_its_request(toy, monkeypatch):
    """Ten requests in batches of eight, of prompts that are numbered from 5."""
    prompts, seen = ["a red heart", "the sun", "a cat face", "a blue car", "a dog face"], []

    def record(model, plan, captions, stage):
        keys = jax.random.key_data(stage.keywords["keys"])
        seen.append((keys, captions("decoder", "")[0].clip_tokens))
        return np.zeros((len(keys), 2, 2, 3), np.float32)

    monkeypatch.setattr(pipeline, "chain", record)
    monkeypatch.setattr(pipeline, "BATCH_LIMIT", 1)
    requests = pipeline.requests_for(prompts, 2, first=5)
    plan = resolve(toy, SampleSettings())
    assert [len(made) for made in pipeline.generate(toy, requests, root(), plan)] == [8, 2]
    fold, numbers = jax.random.fold_in, [(5 + i, draw) for i in range(5) for draw in range(2)]
    keys = [jax.random.key_data(fold(fold(root(), i), draw)) for i, draw in numbers]
    np.testing.assert_array_equal(np.concatenate([k for k, _ in seen]), keys)
    tokens = toy.tokenizer.encode(prompts, context=CONTEXT).tokens
    np.testing.assert_array_equal(np.concatenate([t for _, t in seen]), np.repeat(tokens, 2, 0))


def test_one_number_that_is_not_finite_is_too_many():
    made = np.zeros((2, 3), np.float32)
    np.testing.assert_array_equal(finite(made, "decoder"), made)
    for bad in (np.nan, np.inf):
        made[1, 2] = bad
        with pytest.raises(UserError, match="decoder made values that are not finite"):
            finite(made, "decoder")


@pytest.mark.parametrize("rounds", [True, False])
def test_the_bundle_says_whether_small_images_are_rounded(toy, rounds):
    model = dataclasses.replace(
        toy, sampling=dataclasses.replace(toy.sampling, round_low_res=rounds)
    )
    assert runs.cascade_run(model, toy.cascade[0], "float32").static.round_low_res == rounds


def test_an_image_s_key_is_folded_with_its_prompt_and_then_its_draw():
    keys = image_keys(root(), [3, 0], [1, 2])
    fold = jax.random.fold_in
    for key, (prompt, draw) in zip(keys, [(3, 1), (0, 2)], strict=True):
        expected = fold(fold(root(), prompt), draw)
        np.testing.assert_array_equal(jax.random.key_data(key), jax.random.key_data(expected))


def test_a_prior_s_result_leaves_the_space_that_is_diffused_within_its_limits(toy):
    """The same run, read as 4 z / |z| and as z itself: the former's result is a quarter of it."""
    held = toy.stage("prior_diffusion")
    cond = Cond(text=encode_text(toy, ["a red heart", "the sun"]))
    results = {}
    for norm in (EmbeddingNorm("l2", 4.0), EmbeddingNorm("none")):
        spec = dataclasses.replace(held.spec, embedding_norm=norm)
        stage = dataclasses.replace(held, spec=spec)
        model = dataclasses.replace(toy, stages={**toy.stages, "prior_diffusion": stage})
        sampling = dataclasses.replace(spec.sampling, steps=2, num_candidates=1, x0_bound=0.05)
        results[norm.kind] = api.run_stage(model, "prior", cond, key=root(), sampling=sampling)
    np.testing.assert_allclose(4.0 * results["l2"], results["none"], rtol=1e-5, atol=1e-7)
    largest = np.abs(results["none"]).max()
    assert 0.04 < largest <= 0.05 * (1 + 1e-6)  # the last step returns the clipped estimate


@pytest.mark.parametrize(
    ("given", "counts"), [((None, 1), (3, 1)), ((1, None), (1, 3)), ((2, 1), (2, 2))]
)
def test_the_nets_of_a_cascade_share_its_steps(toy, given, counts):
    """Of four steps: the net without a number takes the rest, else the last."""
    stage = toy.stage("upsampler_256")
    model = dataclasses.replace(toy, stages={**toy.stages, "super_res_last": stage})
    names = ("upsampler_256", "super_res_last")
    nets = tuple(CascadeNet(*net) for net in zip(names, given, strict=True))
    run = runs.cascade_run(model, CascadeStep(SIZE, LARGE, nets), "float32")
    assert tuple(count for _, count in run.statics) == counts


def test_a_small_pixel_is_filled_if_any_that_it_stands_for_is():
    mask = np.zeros((1, 6, 6), bool)
    mask[0, 1, 4] = True
    small = any_in_block(mask, 3)
    assert np.argwhere(small).tolist() == [[0, 0, 2]]
    both = any_in_block(mask, 4)  # blocks of 1.5 pixels overlap: row 1 lies in two of them
    assert np.argwhere(both).tolist() == [[0, 0, 2], [0, 0, 3], [0, 1, 2], [0, 1, 3]]
