"""Open settings are the bundle's; impossible ones are one line that names them."""

import pytest

from unclip_jax.core.errors import UserError
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
    assert (prior.guidance, prior.steps, prior.sampler, prior.draws) == (2.5, 9, "ddpm", 2)
    assert (plan.size, plan.cascade) == (16, ())


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
    ],
)
def test_impossible_settings_are_refused(toy, settings, words):
    with pytest.raises(UserError, match=words.replace("+", r"\+")):
        resolve(toy, SampleSettings(**settings))
