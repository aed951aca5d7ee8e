"""Karlo at full size, by shapes alone: its parameters to the unit, sampled as published."""

from unclip_jax.convert.karlo_specs import karlo_specs
from unclip_jax.core.trees import count_params
from unclip_jax.models.stages import abstract_params, spec_from_dict, spec_to_dict

KARLO = karlo_specs()


def test_karlo_counts_are_exact():
    prior = abstract_params(KARLO["prior_diffusion"])
    statistics = count_params({k: v for k, v in prior.items() if k.startswith("clip_")})
    assert statistics == 2 * 768
    assert count_params(prior) - statistics == 1_022_028_544
    decoder = abstract_params(KARLO["decoder"])
    assert count_params(decoder["unet"]) == 885_439_686
    assert count_params(decoder) - count_params(decoder["unet"]) == 7_878_400
    assert KARLO["super_res_first"].model == KARLO["super_res_last"].model
    assert count_params(abstract_params(KARLO["super_res_first"])) == 691_579_523


def test_karlo_clip_is_vit_l_14():
    clip = abstract_params(KARLO["clip"])
    assert count_params(clip["text"]) == 123_650_304  # CLIPTextModelWithProjection
    assert count_params(clip["vision"]) == 303_966_208  # CLIPVisionModelWithProjection
    assert count_params(clip) == 427_616_513  # with the temperature


def test_specs_survive_their_dictionaries():
    for stage, spec in KARLO.items():
        assert spec.stage == stage
        assert spec_from_dict(spec_to_dict(spec)) == spec


# Of its own release: steps, guidance, candidates, bound of x_0.
PUBLISHED = {
    "prior_diffusion": (25, 4.0, 1, 10.0),
    "decoder": (50, 8.0, 1, 1.0),
    "super_res_first": (7, 1.0, 1, 1.0),
    "super_res_last": (7, 1.0, 1, 1.0),
}


def test_stages_are_sampled_as_published():
    for stage, expected in PUBLISHED.items():
        sampling = KARLO[stage].sampling
        found = (sampling.steps, sampling.guidance, sampling.num_candidates, sampling.x0_bound)
        assert found == expected, stage
        assert (sampling.sampler, sampling.eta) == ("ddpm", 0.0)
