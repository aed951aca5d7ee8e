"""Open settings are the bundle's; impossible ones are one line that names them."""

import dataclasses

import numpy as np
import pytest

import unclip_jax
from tests.toy import with_sampling
from unclip_jax.core.errors import UserError
from unclip_jax.diffusion.timesteps import sampling_steps
from unclip_jax.sampling.arguments import settings_of
from unclip_jax.sampling.latents import LatentSettings, resolve_latents
from unclip_jax.sampling.settings import SampleSettings, resolve


def test_open_settings_are_the_bundles(toy):
    plan = resolve(toy, SampleSettings())
    assert plan.decoder_sampling == toy.stage("decoder").spec.sampling
    assert plan.prior_sampling == toy.stage("prior_diffusion").spec.sampling
    assert (plan.size, plan.cascade, plan.prior) == (32, toy.cascade, "diffusion")


def test_given_settings_go_to_their_stage(toy):
    settings = SampleSettings(
        size=16, guidance=1.5, steps=7, sampler="ddim", prior_guidance=2.5, prior_steps=9
    )
    plan = resolve(toy, settings)
    decoder, prior = plan.decoder_sampling, plan.prior_sampling
    assert (decoder.guidance, decoder.steps, decoder.sampler) == (1.5, 7, "ddim")
    assert (prior.guidance, prior.steps, prior.sampler, prior.num_candidates) == (2.5, 9, "ddpm", 2)
    assert (plan.size, plan.cascade) == (16, ())


def with_list(model, stage, levels):
    """Returns the bundle with the levels that a stage visits."""
    sampling = dataclasses.replace(model.stage(stage).spec.sampling, step_list=levels)
    return with_sampling(model, stage, sampling)


UNEVEN = (900, 850, 500, 100)


@pytest.mark.parametrize(
    ("steps", "levels"),
    [
        (4, UNEVEN),  # as many as the list has: the list
        (3, (900, 500, 100)),  # else evenly from its first to its last
        (5, (900, 700, 500, 300, 100)),
        (1, (900,)),
        (801, tuple(range(900, 99, -1))),
    ],
)
def test_steps_keep_the_range_of_the_bundles_list(toy, steps, levels):
    """Of `sample` and `inpaint`, of a prior, and of decoding from fresh noise."""
    model = with_list(with_list(toy, "decoder", UNEVEN), "prior_diffusion", UNEVEN)
    plan = resolve(model, SampleSettings(steps=steps, prior_steps=steps))
    for sampling in (plan.decoder_sampling, plan.prior_sampling):
        assert tuple(sampling_steps(sampling, 1000)) == levels
    fresh = resolve_latents(model, LatentSettings(steps=steps), inverted=False)
    assert tuple(sampling_steps(fresh.decode, 1000)) == levels
    assert (plan.to_json()["steps"], plan.to_json()["prior_steps"]) == (steps, steps)


@pytest.mark.parametrize("steps", [0, 802])
def test_more_steps_than_the_range_has_levels_are_refused(toy, steps):
    model = with_list(toy, "decoder", UNEVEN)
    with pytest.raises(UserError, match=f"steps must lie in 1..801, not {steps}"):
        resolve(model, SampleSettings(steps=steps))


def test_decoding_from_a_latent_takes_the_inversions_levels(toy):
    """So many steps as the inversion left are those; x_T lies on the first of them."""
    default = resolve_latents(toy, LatentSettings(invert_steps=8)).decode.step_list
    same = resolve_latents(toy, LatentSettings(invert_steps=8, steps=7)).decode.step_list
    fewer = resolve_latents(toy, LatentSettings(invert_steps=8, steps=3)).decode.step_list
    assert same == default
    assert (fewer[0], fewer[-1], len(fewer)) == (default[0], default[-1], 3)


def test_the_shipped_bundles_own_number_of_steps_is_its_default():
    model = unclip_jax.load("emoji")
    default = resolve(model, SampleSettings())
    stated = resolve(model, SampleSettings(steps=15, prior_steps=8))
    for a, b in (
        (default.decoder_sampling, stated.decoder_sampling),
        (default.prior_sampling, stated.prior_sampling),
    ):
        assert tuple(sampling_steps(a, 1000)) == tuple(sampling_steps(b, 1000))
    levels = sampling_steps(resolve(model, SampleSettings(steps=20)).decoder_sampling, 1000)
    assert (levels[0], levels[-1], len(levels)) == (999, 100, 20)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: unclip_jax.sample(m, "a", guidence=2.0), "'guidence'; did you mean guidance?"),
        (lambda m: unclip_jax.vary(m, [], invertsteps=5), "'invertsteps'; did you mean invert_"),
        (lambda m: unclip_jax.inpaint(m, [], [], "a", zzz=1), "'zzz'; there are size, prior"),
        (lambda m: unclip_jax.edit(m, [], "a", sise=64), "'sise'; did you mean size?"),
    ],
)
def test_a_misspelt_setting_is_one_line_with_the_nearest(toy, call, words):
    with pytest.raises(UserError) as caught:
        call(toy)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("guidance", "3", "guidance must be a number, not '3'"),
        ("guidance", (1.0, 2.0), "guidance must be a number, not (1.0, 2.0)"),
        ("steps", 7.5, "steps must be an integer, not 7.5"),
        ("prior_steps", "8", "prior_steps must be an integer, not '8'"),
        ("sampler", 3, "sampler must be a string, not 3"),
        ("negative", None, "negative must be a string, not None"),
        ("guidance_interval", ("0.1", "2"), "guidance_interval must be two numbers"),
        ("guidance_interval", "12", "guidance_interval must be two numbers"),
        ("guidance_interval", 3.0, "guidance_interval must be two numbers"),
        ("guidance_interval", ("low", "high"), "guidance_interval must be two numbers"),
        ("guidance_interval", (1.0, 2.0, 3.0), "guidance_interval must be two numbers"),
    ],
)
def test_a_value_of_another_type_is_one_line(toy, setting, value, words):
    with pytest.raises(UserError) as caught:
        unclip_jax.sample(toy, "a", **{setting: value})
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_numbers_may_be_of_numpy():
    values = {"guidance": np.float32(1.5), "steps": np.int64(7), "size": None}
    assert settings_of(SampleSettings, "sample", values) == SampleSettings(guidance=1.5, steps=7)


@pytest.mark.parametrize("prior", ["text", "none"])
def test_the_ablations_have_no_prior_stage(toy, prior):
    plan = resolve(toy, SampleSettings(prior=prior))
    assert plan.prior_stage is None
    assert plan.to_json()["prior_steps"] is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"size": 48}, "16, 32 pixels, not 48"),
        ({"steps": 0}, "steps must lie in 1..1000"),
        ({"steps": 1001}, "steps must lie in 1..1000"),
        ({"prior_steps": -1}, "prior_steps"),
        ({"guidance": float("nan")}, "guidance"),
        ({"prior_guidance": -1.0}, "prior_guidance"),
        ({"sampler": "euler"}, "ddpm, ddim, dpm++"),
        ({"dtype": "float64"}, "float32, bfloat16"),
        ({"prior": "ar"}, "no stage 'prior_ar'"),
        (
            {"prior": "none", "prior_steps": 3},
            "prior_steps is for the diffusion prior, not",
        ),
        ({"prior": "text", "prior_guidance": 2.0}, "prior_guidance is for .*not for prior 'text'"),
        ({"prior": "text", "prior_top_p": 0.5}, "prior_top_p is for"),
    ],
)
def test_impossible_settings_are_refused(toy, settings, words):
    with pytest.raises(UserError, match=words.replace("+", r"\+")):
        resolve(toy, SampleSettings(**settings))
