"""Full-size presets by shapes alone: Karlo's counts exactly, the paper's within half a percent."""

import functools

import pytest

from unclip_jax.core.trees import count_params, flatten_paths
from unclip_jax.models import presets
from unclip_jax.models.stages import StageSpec, abstract_params, spec_from_dict, spec_to_dict


@functools.cache
def params_of(spec):
    return abstract_params(spec)


@functools.cache
def specs(family):
    return {"karlo": presets.karlo_specs, "paper": presets.paper_specs}[family]()


def test_karlo_counts_are_exact():
    karlo = specs("karlo")
    prior = params_of(karlo["prior_diffusion"])
    statistics = count_params({k: v for k, v in prior.items() if k.startswith("clip_")})
    assert statistics == 2 * 768
    assert count_params(prior) - statistics == 1_022_028_544
    decoder = params_of(karlo["decoder"])
    assert count_params(decoder["unet"]) == 885_439_686
    assert count_params(decoder) - count_params(decoder["unet"]) == 7_878_400
    assert karlo["super_res_first"].model == karlo["super_res_last"].model
    assert count_params(params_of(karlo["super_res_first"])) == 691_579_523


def test_karlo_clip_is_vit_l_14():
    clip = params_of(specs("karlo")["clip"])
    assert count_params(clip["text"]) == 123_650_304  # CLIPTextModelWithProjection
    assert count_params(clip["vision"]) == 303_966_208  # CLIPVisionModelWithProjection
    assert count_params(clip) == 427_616_513  # with the temperature


# (stage, part, our reading of the paper in millions, what the paper says)
PAPER = [
    ("clip", "vision", 632, "ViT-H/16"),
    ("clip", "text", 354, "24 blocks of width 1024"),
    ("prior_diffusion", "transformer", 1208.6, "1B"),
    ("prior_ar", "caption/transformer", 1208.6, "1B with the decoder"),
    ("prior_ar", "", 2412.8, "1B; 12 L w^2 of both stacks is 2.01B"),
    ("decoder", "unet", 2238, "3.5B with its text encoder"),
    ("decoder", "text_encoder/transformer", 1208.6, ""),
    ("upsampler_256", "", 730, "700M"),
    ("upsampler_1024", "", 282, "300M"),
]


@pytest.mark.parametrize("stage, part, millions, paper", PAPER)
def test_paper_counts(stage, part, millions, paper, record_property):
    params = params_of(specs("paper")[stage])
    for name in part.split("/") if part else ():
        params = params[name]
    record_property("paper says", paper)
    assert count_params(params) == pytest.approx(millions * 1e6, rel=5e-3)


@pytest.mark.parametrize(
    "stage, size, millions", [("upsampler_256", 256, 692), ("upsampler_1024", 1024, 267)]
)
def test_paper_upsamplers_without_scale_shift(stage, size, millions):
    model = getattr(presets, f"paper_{stage}")(scale_shift=False)
    spec = StageSpec(stage, model, presets.DiffusionConfig())
    assert model.unet.image_size == size
    assert count_params(params_of(spec)) == pytest.approx(millions * 1e6, rel=5e-3)


@pytest.mark.parametrize("family", ["karlo", "paper"])
def test_presets_survive_their_dictionaries(family):
    for stage, spec in specs(family).items():
        assert spec.stage == stage
        assert spec_from_dict(spec_to_dict(spec)) == spec


# The paper's table 3 and section 2; of Karlo its own release: steps, guidance, draws, bound of x_0.
PUBLISHED = {
    "paper": {
        "prior_diffusion": (64, 1.0, 2, None),
        "decoder": (250, 1.25, 1, 1.0),
        "upsampler_256": (27, 1.0, 1, 1.0),
        "upsampler_1024": (15, 1.0, 1, 1.0),
    },
    "karlo": {
        "prior_diffusion": (25, 4.0, 1, 10.0),
        "decoder": (50, 8.0, 1, 1.0),
        "super_res_first": (7, 1.0, 1, 1.0),
        "super_res_last": (7, 1.0, 1, 1.0),
    },
}


@pytest.mark.parametrize("family", ["karlo", "paper"])
def test_presets_are_sampled_as_published(family):
    for stage, expected in PUBLISHED[family].items():
        sampling = specs(family)[stage].sampling
        found = (sampling.steps, sampling.guidance, sampling.num_candidates, sampling.x0_bound)
        assert found == expected, stage
        is_ddim = family == "paper" and stage.startswith("upsampler")
        assert (sampling.sampler, sampling.eta) == ("ddim" if is_ddim else "ddpm", 0.0)


def test_diffusion_settings_that_are_left_open_are_the_published_ones():
    """Nichol & Dhariwal 2021: cosine, eps, lambda 0.001; Hang et al. 2023: gamma 5, if at all."""
    cfg = presets.DiffusionConfig()
    assert (cfg.schedule, cfg.num_steps, cfg.prediction) == ("cosine", 1000, "eps")
    assert (cfg.loss, cfg.vlb_weight, cfg.variance) == ("simple", 1e-3, "fixed_small")
    assert (cfg.loss_weighting, cfg.min_snr_gamma, cfg.min_snr_floor) == ("none", 5.0, 0.0)
    schedules = {
        name: spec.diffusion.schedule for name, spec in specs("paper").items() if spec.diffusion
    }
    assert {name for name, kind in schedules.items() if kind == "linear"} == {"upsampler_1024"}


def test_upsamplers_have_no_attention():
    params = params_of(specs("paper")["upsampler_256"])
    assert not [path for path in flatten_paths(params) if "attn" in path]
