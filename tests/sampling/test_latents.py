"""The levels of an inversion and of decoding from it, and what else a latent plan leaves open."""

import pytest

from tests.toy import with_sampling
from unclip_jax.core.errors import UserError
from unclip_jax.diffusion.config import SamplingConfig
from unclip_jax.diffusion.schedules import respaced_steps
from unclip_jax.sampling.latents import LatentSettings, resolve_latents, spread_levels


def test_levels_fit_between_inversion_and_decoding(toy):
    plan = resolve_latents(toy, LatentSettings(invert_steps=5))
    assert plan.invert.step_list == tuple(respaced_steps(1000, 5).tolist())
    assert plan.decode.step_list == plan.invert.step_list[1:]
    assert plan.decode.guidance == 1.0
    plan = resolve_latents(toy, LatentSettings(invert_steps=5, steps=3), eta=0.5)
    assert plan.decode.step_list[0] == plan.invert.step_list[1]
    assert (len(plan.decode.step_list), plan.decode.step_list[-1]) == (3, 0)
    assert spread_levels(999, 100, 40, "x")[:3] == (999, 976, 953)
    narrow = SamplingConfig("ddim", step_list=(900, 500, 100))
    plan = resolve_latents(with_sampling(toy, "decoder", narrow), LatentSettings(invert_steps=9))
    assert plan.invert.step_list == tuple(range(900, 99, -100))


@pytest.mark.parametrize(("own", "taken"), [("dpm++", "dpm++"), ("ddim", "ddim"), ("ddpm", "ddim")])
def test_fresh_noise_takes_the_bundles_sampler_where_it_draws_none(toy, own, taken):
    """A few steps of DPM-Solver++ are many fewer than DDIM needs; x_T is always one of DDIM."""
    model = with_sampling(toy, "decoder", SamplingConfig(own, steps=6))
    fresh = resolve_latents(model, LatentSettings(), inverted=False).decode
    assert (fresh.sampler, fresh.steps) == (taken, 6)
    assert resolve_latents(model, LatentSettings(invert_steps=8)).decode.sampler == "ddim"


def test_a_students_noise_is_one_line(toy):
    """Its weights hold its guidance at eta 0: more noise is refused as any other bad setting is."""
    student = SamplingConfig("ddim", steps=4, distilled_guidance=1.5)
    model = with_sampling(toy, "decoder", student)
    assert resolve_latents(model, LatentSettings(invert_steps=8)).decode.eta == 0.0
    for inverted in (True, False):
        with pytest.raises(UserError, match="eta=0.5 is not for a few-step student"):
            resolve_latents(model, LatentSettings(invert_steps=8), eta=0.5, inverted=inverted)


def test_fresh_noise_is_decoded_without_eta_whatever_the_bundle_samples_with(toy):
    sampling = SamplingConfig("ddim", steps=4, eta=0.7, guidance=3.0)
    model = with_sampling(toy, "decoder", sampling)
    for inverted, guidance in ((True, 1.0), (False, 3.0)):
        plan = resolve_latents(model, LatentSettings(invert_steps=8), inverted=inverted)
        assert (plan.decode.eta, plan.decode.guidance) == (0.0, guidance)
