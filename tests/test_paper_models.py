"""The paper's stages, as configs/paper has them, by shapes alone: sizes within half a percent."""

import functools

import pytest

from tests.shipped_configs import paper_specs, spec_of
from unclip_jax.core.trees import count_params, flatten_paths
from unclip_jax.diffusion.config import DiffusionConfig
from unclip_jax.models.stages import abstract_params, spec_from_dict, spec_to_dict

specs = functools.cache(paper_specs)
params_of = functools.cache(abstract_params)


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
    params = params_of(specs()[stage])
    for name in part.split("/") if part else ():
        params = params[name]
    record_property("paper says", paper)
    assert count_params(params) == pytest.approx(millions * 1e6, rel=5e-3)


@pytest.mark.parametrize(
    "stage, size, millions", [("upsampler_256", 256, 692), ("upsampler_1024", 1024, 267)]
)
def test_paper_upsamplers_without_scale_shift(stage, size, millions):
    spec = spec_of(f"configs/paper/{stage}.py", "--config.model.unet.scale_shift=False")
    assert spec.model.unet.image_size == size
    assert count_params(params_of(spec)) == pytest.approx(millions * 1e6, rel=5e-3)


def test_glide_has_its_size():
    """The paper of GLIDE: 2.3B of the images and 1.2B of the text, 3.5B."""
    assert count_params(params_of(spec_of("configs/paper/glide.py"))) == pytest.approx(
        3.5e9, rel=0.02
    )


def test_specs_survive_their_dictionaries():
    for stage, spec in specs().items():
        assert spec.stage == stage
        assert spec_from_dict(spec_to_dict(spec)) == spec


# Table 3 and section 2: steps, guidance, candidates, bound of x_0.
PUBLISHED = {
    "prior_diffusion": (64, 1.0, 2, None),
    "decoder": (250, 1.25, 1, 1.0),
    "upsampler_256": (27, 1.0, 1, 1.0),
    "upsampler_1024": (15, 1.0, 1, 1.0),
}


def test_stages_are_sampled_as_published():
    for stage, expected in PUBLISHED.items():
        sampling = specs()[stage].sampling
        found = (sampling.steps, sampling.guidance, sampling.num_candidates, sampling.x0_bound)
        assert found == expected, stage
        is_ddim = stage.startswith("upsampler")
        assert (sampling.sampler, sampling.eta) == ("ddim" if is_ddim else "ddpm", 0.0)


# Table 3: schedule, variance; section 2: what is predicted. GLIDE's and ADM's loss.
DIFFUSED = {
    "prior_diffusion": ("cosine", "x0", "analytic", "simple"),
    "decoder": ("cosine", "eps", "learned_range", "hybrid"),
    "upsampler_256": ("cosine", "eps", "fixed_small", "simple"),
    "upsampler_1024": ("linear", "eps", "fixed_small", "simple"),
}


def test_stages_are_diffused_as_published():
    for stage, spec in specs().items():
        cfg = spec.diffusion
        found = cfg and (cfg.schedule, cfg.prediction, cfg.variance, cfg.loss)
        assert found == DIFFUSED.get(stage), stage


def test_embeddings_have_the_papers_length():
    for stage, spec in specs().items():
        norm = (spec.norm.kind, spec.norm.scale)
        expected = ("l2", 17.2) if stage in ("prior_diffusion", "decoder") else ("none", 1.0)
        assert norm == expected, stage


def test_own_text_transformers_leave_clips_sizes_alone():
    """An unused width of CLIP's states made plans trace gigabytes of them."""
    for stage in ("prior_diffusion", "prior_ar", "decoder"):
        model = specs()[stage].model
        assert model.own_context == 256 and model.text_dim is None


def test_diffusion_settings_that_are_left_open_are_the_published_ones():
    """Nichol & Dhariwal 2021: cosine, eps, lambda 0.001; Hang et al. 2023: gamma 5, if at all."""
    cfg = DiffusionConfig()
    assert (cfg.schedule, cfg.num_steps, cfg.prediction) == ("cosine", 1000, "eps")
    assert (cfg.loss, cfg.vlb_weight, cfg.variance) == ("simple", 1e-3, "fixed_small")
    assert (cfg.loss_weighting, cfg.min_snr_gamma, cfg.min_snr_floor) == ("none", 5.0, 0.0)


def test_upsamplers_have_no_attention():
    params = params_of(specs()["upsampler_256"])
    assert not [path for path in flatten_paths(params) if "attn" in path]
