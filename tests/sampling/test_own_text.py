"""Stages with text transformers of their own: contexts of their own, and work done once a run."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import unclip_jax
from tests.toy import DIM, SIZE, random_params, root, unet
from unclip_jax.checkpoint.bundle import Stage
from unclip_jax.core.types import Cond
from unclip_jax.diffusion.samplers import init_state
from unclip_jax.evals.priors import sample_prior
from unclip_jax.evals.settings import Settings
from unclip_jax.models.decoder import DecoderConfig, TextEncoderConfig
from unclip_jax.models.prior_diffusion import PriorDiffusionConfig
from unclip_jax.nn.transformer import TransformerConfig
from unclip_jax.sampling.encode import encode_text
from unclip_jax.sampling.programs import prepare, steps_program
from unclip_jax.sampling.stage_sampler import StageSampler

PRIOR_CONTEXT, DECODER_CONTEXT = 6, 19  # shorter and longer than CLIP's 12
PROMPTS = ["the sun", "a red heart and a blue car and a green apple and a dog face"]  # one is cut
HIDDEN = 7 * 24  # of the text encoder's MLP: a size that nothing else has


@pytest.fixture(scope="module")
def model(toy):
    vocabulary = toy.tokenizer.vocab_size
    prior, decoder = toy.stage("prior_diffusion").spec, toy.stage("decoder").spec
    sampling = dataclasses.replace(prior.sampling, num_candidates=1, steps=2)
    prior = dataclasses.replace(
        prior,
        model=PriorDiffusionConfig(
            prior.model.transformer,
            image_dim=DIM,
            text="tokens",
            vocab_size=vocabulary,
            context=PRIOR_CONTEXT,
        ),
        sampling=sampling,
    )
    encoder = TransformerConfig(width=24, layers=1, heads=2, mlp_ratio=7.0)
    decoder = dataclasses.replace(
        decoder,
        model=DecoderConfig(
            unet(SIZE, out_channels=6, attention_resolutions=(8,)),
            image_dim=DIM,
            context_dim=24,
            text="transformer",
            text_encoder=TextEncoderConfig(vocabulary, DECODER_CONTEXT, encoder),
        ),
        sampling=dataclasses.replace(decoder.sampling, steps=2),
    )
    made = {spec.stage: Stage(spec, random_params(spec, 5)) for spec in (prior, decoder)}
    return dataclasses.replace(toy, stages={**toy.stages, **made})


def with_tokens_of(model, context):
    """Captions whose `tokens` are the tokenizer's own of one context."""
    tokens = model.tokenizer.encode(PROMPTS, context).tokens
    return encode_text(model, PROMPTS).replace(tokens=tokens)


@pytest.mark.parametrize(
    ("stage", "context"), [("prior", PRIOR_CONTEXT), ("decoder", DECODER_CONTEXT)]
)
def test_each_stage_reads_its_own_context(model, stage, context):
    text = unclip_jax.embed_text(model, PROMPTS)
    x_t = np.zeros((2, DIM) if stage == "prior" else (2, SIZE, SIZE, 3), np.float32)
    t = np.array([10, 700])
    found = unclip_jax.predict(model, stage, x_t, t, text=text)
    expected = unclip_jax.predict(model, stage, x_t, t, text=with_tokens_of(model, context))
    np.testing.assert_array_equal(found, expected)
    own = with_tokens_of(model, context)
    of_stage = unclip_jax.embed_text(model, PROMPTS, stage=stage)
    np.testing.assert_array_equal(of_stage.tokens, own.tokens)
    if stage == "prior":
        made = [
            unclip_jax.run_stage(model, stage, Cond(text=each), key=root()) for each in (text, own)
        ]
        np.testing.assert_array_equal(made[0], made[1])


def test_the_priors_suite_reads_the_priors_context(model):
    settings = Settings("none", batch=2)
    found = sample_prior(model, PROMPTS, settings, "prior_diffusion")
    assert found.shape == (2, DIM) and np.abs(found[0] - found[1]).max() > 1e-3


def test_a_left_over_text_encoder_is_not_read(toy, model):
    """In sampling as in training: both ask the config."""
    left_over = dataclasses.replace(
        toy.stage("decoder").spec.model,
        text_encoder=model.stage("decoder").spec.model.text_encoder,
    )
    spec = dataclasses.replace(toy.stage("decoder").spec, model=left_over)
    assert spec.model.own_context is None
    specs = [model.stage(name).spec for name in ("clip", "prior_diffusion", "decoder")]
    assert [spec.model.own_context for spec in specs] == [None, PRIOR_CONTEXT, DECODER_CONTEXT]


def in_loops(text):
    """Returns (products with HIDDEN in their result, those of them inside a loop) of a program."""
    blocks, name = {}, None
    for line in text.splitlines():
        header = re.match(r"^(?:ENTRY )?%?([\w.-]+) \(.*\{\s*$", line)
        if header:
            name = header[1]
            blocks[name] = []
        elif name is not None:
            blocks[name].append(line)
    reached, waiting = set(), []
    for lines in blocks.values():
        waiting += [re.search(r"body=%?([\w.-]+)", line)[1] for line in lines if " while(" in line]
    while waiting:
        block = waiting.pop()
        if block not in reached:
            reached.add(block)
            called = re.findall(r"%([\w.-]+)", "\n".join(blocks[block]))
            waiting += [other for other in called if other in blocks]

    def products(names):
        pattern = re.compile(rf"= \(?f32\[[\d,]*\b{HIDDEN}\b[\d,]*\][^=]* (dot|custom-call)\(")
        return [line for name in names for line in blocks[name] if pattern.search(line)]

    return products(blocks), products(reached)


def encoder_products(text):
    """Returns the products of a program, not yet compiled, with HIDDEN in their result."""
    pattern = re.compile(rf"stablehlo\.dot_general.*-> tensor<(\d+x)*{HIDDEN}x(\d+x)*f32>")
    return [line for line in text.splitlines() if pattern.search(line)]


def test_the_text_encoder_is_outside_of_the_denoising_loop(model):
    """XLA moves what no step changes out of the loop: the caption is encoded once a call."""
    (net,) = StageSampler(model, "decoder").nets
    text, empty = with_tokens_of(model, DECODER_CONTEXT), None
    empty = jax.tree.map(lambda leaf: leaf[:1], text)
    keys, cond = jax.random.split(root(), 2), jax.tree.map(jnp.asarray, Cond(text=text))
    params = model.stage("decoder").params
    steps = steps_program(net.program).__wrapped__  # of one device

    def program(x, span):
        prepared = prepare(net.program, params, cond, empty)
        return steps(params, np.float32(2.0), prepared, keys, span, init_state(x)).x

    x = jnp.zeros((2, SIZE, SIZE, 3))
    lowered = jax.jit(program).lower(x, (jnp.int32(0), jnp.int32(2)))
    everywhere, inside = in_loops(lowered.compile().as_text())
    assert everywhere and not inside

    # Nor is it in the program of the steps, which a run with progress calls some ten times.
    prepared = prepare(net.program, params, cond, empty)

    def stepped(params, prepared, x):
        span = jnp.int32(0), jnp.int32(2)
        return steps(params, np.float32(2.0), prepared, keys, span, init_state(x)).x

    lowered = jax.jit(stepped).lower(params, prepared, x)
    assert not encoder_products(lowered.as_text())
    whole = jax.jit(lambda params: prepare(net.program, params, cond, empty)).lower(params)
    assert encoder_products(whole.as_text())

    # The reader sees an encoder that is inside: one whose caption changes with the step.
    denoise = unclip_jax.denoise_fn(model, "decoder")
    ids = jnp.asarray(text.tokens)

    def step(i, x):
        moving = text.replace(tokens=jnp.where(i % 2 == 0, ids, jnp.roll(ids, 1, axis=0)))
        return denoise(params, x, jnp.full(2, i), Cond(text=moving))[..., :3]

    looped = jax.jit(lambda x, n: jax.lax.fori_loop(0, n, step, x))
    lowered = looped.lower(x, jnp.int32(3))
    assert in_loops(lowered.compile().as_text())[1]


def test_a_decoder_that_reads_captions_itself_needs_no_clip(model):
    """GLIDE: the same bundle without CLIP and prior draws the same images."""
    stages = {"decoder": model.stage("decoder")}
    alone = dataclasses.replace(model, stages=stages, cascade=())
    wanted, found = (
        unclip_jax.sample(m, PROMPTS, key=root(3), prior="none", size=SIZE) for m in (model, alone)
    )
    np.testing.assert_array_equal(found, wanted)
