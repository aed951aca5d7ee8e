"""DALL·E from text to image: tokens drawn one by one, decoded, and the best of several kept."""

import dataclasses

import jax
import numpy as np
import pytest

import unclip_jax
from tests.toy import CAPTIONS, CONTEXT, random_params, toy_bundle
from unclip_jax.checkpoint import bundle
from unclip_jax.checkpoint.bundle import Bundle, Stage
from unclip_jax.core.errors import UserError
from unclip_jax.core.types import Cond
from unclip_jax.data.images import to_uint8
from unclip_jax.models.dalle import DalleConfig
from unclip_jax.models.dvae import DvaeConfig, TokenDecoding
from unclip_jax.models.prior_ar import CodeSampling
from unclip_jax.models.stages import StageSpec
from unclip_jax.nn.transformer import TransformerConfig
from unclip_jax.sampling.rerank import best

CODES, GRID, SIZE = 7, 4, 16
PROMPTS = CAPTIONS[:3]


def make(clip=False, **sampling):
    """A bundle of dvae and dalle, and the toy's CLIP."""
    full = toy_bundle()
    dvae = DvaeConfig(SIZE, CODES, 8, (1, 2), 1, code_width=6, patch=2, likelihood="l2")
    stack = TransformerConfig(width=16, layers=2, heads=2)
    dalle = DalleConfig(stack, dvae, full.tokenizer.vocab_size, CONTEXT)
    specs = [
        StageSpec("dvae", dvae, sampling=TokenDecoding()),
        StageSpec("dalle", dalle, sampling=CodeSampling(**sampling)),
    ]
    stages = {spec.stage: Stage(spec, random_params(spec, 3)) for spec in specs}
    if clip:
        stages["clip"] = full.stage("clip")
    return Bundle("drawn", stages, full.tokenizer)


@pytest.fixture(scope="module")
def model():
    return make()


@pytest.fixture(scope="module")
def images(model):
    return unclip_jax.sample(model, PROMPTS, num=2)


def test_a_caption_becomes_an_image_without_a_clip(model, images):
    assert images.shape == (6, SIZE, SIZE, 3) and images.dtype == np.uint8
    assert len({image.tobytes() for image in images}) == 6
    again = unclip_jax.sample(model, PROMPTS[0])
    np.testing.assert_allclose(np.int32(again[0]), np.int32(images[0]), atol=2)


def test_no_inpainting_without_noise_levels():
    canvas, mask = np.zeros((1, SIZE, SIZE, 3), np.uint8), np.ones((SIZE, SIZE), bool)
    with pytest.raises(UserError, match="makes images of tokens"):
        unclip_jax.inpaint(make(clip=True), canvas, [mask], PROMPTS[0])


def test_greedy_tokens_are_the_likeliest_of_the_whole_pass(model):
    """Each token of the scan is the arg max of `predict`'s logits given those before."""
    text = unclip_jax.embed_text(model, PROMPTS)
    greedy = CodeSampling(temperature=0.0)
    tokens = unclip_jax.run_stage(model, "dalle", Cond(text=text), sampling=greedy)
    assert tokens.shape == (3, GRID**2)
    logits = unclip_jax.predict(model, "dalle", tokens, np.zeros(3, np.int32), text=text)
    assert logits.shape == (3, GRID**2, CODES)
    np.testing.assert_array_equal(np.asarray(logits).argmax(-1), tokens)


def test_guidance_moves_away_from_the_empty_caption(model):
    """At a large scale greedy tokens are those of the difference of the two logits."""
    text = unclip_jax.embed_text(model, PROMPTS)
    scale = 200.0
    guided = CodeSampling(temperature=0.0, guidance=scale)
    tokens = unclip_jax.run_stage(model, "dalle", Cond(text=text), sampling=guided)
    t = np.zeros(3, np.int32)
    given = np.float64(unclip_jax.predict(model, "dalle", tokens, t, text=text))
    empty = np.float64(unclip_jax.predict(model, "dalle", tokens, t))
    mixed = empty + scale * (given - empty)
    np.testing.assert_array_equal(mixed.argmax(-1), tokens)


def test_images_of_tokens(model):
    """`predict` of the discrete VAE rebuilds images; `run_stage` decodes tokens."""
    tokens = np.random.default_rng(0).integers(0, CODES, (2, GRID**2))
    decoded = unclip_jax.run_stage(model, "dvae", Cond(image_tokens=tokens))
    assert decoded.shape == (2, SIZE, SIZE, 3) and np.abs(decoded).max() <= 1
    rebuilt = unclip_jax.predict(model, "dvae", decoded, np.zeros(2, np.int32))
    assert rebuilt.shape == decoded.shape


def test_the_best_of_several_is_kept():
    """The kept tokens are one of the candidates', and no other has a larger cosine."""
    many, one = make(clip=True, num_candidates=3), make(clip=True)
    keys = jax.random.key(5)
    kept = unclip_jax.sample(many, PROMPTS[:2], key=keys)
    text = unclip_jax.embed_text(one, PROMPTS[:2])
    draws = unclip_jax.run_stage(one, "dalle", Cond(text=text), key=keys)
    assert draws.shape == (2, GRID**2)
    assert kept.shape == (2, SIZE, SIZE, 3)
    several = unclip_jax.run_stage(many, "dalle", Cond(text=text), key=keys)
    assert several.shape == (2, 3, GRID**2)
    # `sample` folds other numbers into its keys, so that its own candidates are drawn again here.
    from unclip_jax.core import prng
    from unclip_jax.sampling.stage_sampler import StageSampler

    own = StageSampler(many, "dalle")(Cond(text=text), prng.image_keys(keys, [0, 1], [0, 0]))
    flat = own.reshape(6, -1)
    images = to_uint8(unclip_jax.run_stage(many, "dvae", Cond(image_tokens=flat)))
    z = np.float64(unclip_jax.embed_image(many, images)).reshape(2, 3, -1)
    cosines = np.einsum("ncd,nd->nc", z / np.linalg.norm(z, axis=-1, keepdims=True), text.text_emb)
    expected = images.reshape(2, 3, SIZE, SIZE, 3)[np.arange(2), cosines.argmax(1)]
    np.testing.assert_allclose(np.int32(kept), np.int32(expected), atol=2)


def test_length_does_not_make_a_candidate_better():
    z = np.array([[[1.0, 1.0], [100.0, 0.0], [1.0, 0.9]]])
    np.testing.assert_array_equal(best(z, np.array([[2.0, 2.0]])), [0])
    np.testing.assert_array_equal(best(z, np.array([[3.0, 0.0]])), [1])


def test_a_saved_bundle_gives_the_same_images(model, images, tmp_path):
    loaded = bundle.load(bundle.save(model, tmp_path / "drawn", dtype="float32"))
    np.testing.assert_array_equal(unclip_jax.sample(loaded, PROMPTS, num=2), images)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"prior": "diffusion"}, "no choice of a prior"),
        ({"guidance": 2.0}, "guidance is for a decoder that is diffused, not for dvae"),
        ({"steps": 3}, "steps is for a decoder"),
        ({"negative": "blue"}, "negative is for a decoder"),
        ({"prior_steps": 3}, "prior_steps"),
        ({"size": 99}, "images of 16 pixels"),
    ],
)
def test_settings_that_it_does_not_have_are_one_line(model, settings, words):
    with pytest.raises(UserError, match=words):
        unclip_jax.sample(model, "a dog", **settings)


def test_what_is_missing_is_one_line(model):
    with pytest.raises(UserError, match="no CLIP to choose among num_candidates=4"):
        unclip_jax.sample(make(num_candidates=4), "a dog")
    alone = dataclasses.replace(model, stages={"dvae": model.stage("dvae")})
    with pytest.raises(UserError, match="makes images of image_tokens and has no stage"):
        unclip_jax.sample(alone, "a dog")
    with pytest.raises(UserError, match="makes images of tokens"):
        unclip_jax.vary(make(clip=True), np.zeros((1, 16, 16, 3), np.uint8))
    with pytest.raises(UserError, match="no stage 'clip'"):
        unclip_jax.embed_image(model, np.zeros((1, 16, 16, 3), np.uint8))


def test_stages_of_different_sizes_are_refused(model, tmp_path):
    own = model.stage("dvae")
    other = dataclasses.replace(own.spec, model=dataclasses.replace(own.spec.model, pixel_std=0.2))
    stages = {**model.stages, "dvae": Stage(other, own.params)}
    with pytest.raises(UserError, match="dalle was trained with another dvae"):
        bundle.save(dataclasses.replace(model, stages=stages), tmp_path / "x")
