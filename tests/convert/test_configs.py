"""Settings of other libraries, there and back, and their defaults; a wrong kind is one line."""

import json

import pytest

from tests.karlo_golden import recorded
from unclip_jax.convert import diffusers_configs as configs
from unclip_jax.convert.clip_configs import clip_from_configs, text_config, vision_config
from unclip_jax.convert.config_files import read_config
from unclip_jax.convert.diffusers_configs import (
    decoder_from_configs,
    prior_from_config,
    super_res_from_config,
)
from unclip_jax.convert.name_tables import mlp_ratio
from unclip_jax.core.errors import UserError
from unclip_jax.diffusion.config import SamplingConfig
from unclip_jax.models.clip import ClipConfig, TextConfig, VisionConfig

PRIOR = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1, "embedding_dim": 16}


@pytest.mark.parametrize("value", ["2", -1, 0, 0.5, 10**12, [2], True, {"a": 1}])
def test_a_size_of_a_wrong_kind(tmp_path, value):
    (tmp_path / "config.json").write_text(json.dumps(PRIOR | {"attention_head_dim": value}))
    with pytest.raises(UserError, match="config.json: attention_head_dim"):
        prior_from_config(read_config(tmp_path))


def test_a_setting_that_is_null_is_the_default():
    towers = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 64}
    plain = clip_from_configs(towers, None, {}, 16)
    assert clip_from_configs(towers | {"hidden_act": None}, None, {}, 16) == plain


def saved(name, file="config.json"):
    """Settings as diffusers and transformers wrote them for the recorded Karlo."""
    return json.loads(recorded()[f"file/{name}/{file}"].tobytes())


def test_written_settings_are_those_that_the_libraries_wrote():
    clip = clip_from_configs(saved("text_encoder"), saved("image_encoder"), {})
    prior = prior_from_config(saved("prior"))
    decoder = decoder_from_configs(saved("decoder"), saved("text_proj"), 9)
    net = super_res_from_config("super_res_first", saved("super_res_first"), 8)
    written = {
        "text_encoder": text_config(clip),
        "image_encoder": vision_config(clip),
        "prior": configs.prior_config(prior),
        "decoder": configs.unet_config(decoder.unet, "decoder"),
        "super_res_first": configs.unet_config(net.unet, "super_res"),
    }
    written["super_res_first"].pop("attention_head_dim")  # of attention that is not there
    for name, values in written.items():
        theirs = {"pad_token_id": 0, "center_input_sample": False} | saved(name)
        assert {key: theirs[key] for key in values} == values
    assert (clip.vision.layers, clip.vision.heads, clip.vision.mlp_ratio) == (2, 4, 2.5)
    assert (clip.text.layers, clip.text.heads, clip.text.mlp_ratio) == (1, 2, 3.0)
    stack = prior.transformer
    assert (stack.width, stack.heads, stack.layers, prior.context) == (8, 1, 1, 9)
    assert (prior.image_dim, prior.text_dim, prior.mask_text) == (16, 16, True)
    assert (decoder.unet.attention_resolutions, decoder.unet.channel_mult) == ((4,), (1, 2))
    assert (decoder.context_dim, decoder.text_dim, decoder.image_tokens) == (12, 16, 4)
    assert (decoder.null_image, decoder.mask_text) == ("learned", True)
    assert (decoder.text_context, net.low_res_size) == (9, 8)


def test_settings_left_out_have_the_libraries_documented_defaults():
    clip = ClipConfig(  # ViT-B/32
        embed_dim=512,
        vision=VisionConfig(image_size=224, patch_size=32, width=768, layers=12, heads=12),
        text=TextConfig(vocab_size=49408, width=512, layers=12, heads=8, context=77),
        activation="quick_gelu",
        resize="center_crop",
    )
    assert clip_from_configs({}, {}, {}) == clip
    unet = {"sample_size": 64, "in_channels": 6, "out_channels": 3, "block_out_channels": [64, 128]}
    kinds = {"down_block_types": [configs.PLAIN_DOWN] * 2, "up_block_types": [configs.PLAIN_UP] * 2}
    net = super_res_from_config("x", unet | kinds, 32).unet
    assert (net.res_blocks, net.norm_groups, net.dropout, net.scale_shift) == (2, 32, 0.0, False)
    assert (net.mid_attention, net.head_channels) == (True, 8)
    assert prior_from_config(PRIOR).context == 77
    diffusion, bound = configs.scheduler_from_config("scheduler", {})
    assert (diffusion.num_steps, diffusion.prediction, diffusion.variance) == (
        1000,
        "eps",
        "fixed_small",
    )
    assert (diffusion.loss, bound) == ("simple", 1.0)


def test_a_scheduler_there_and_back():
    given = {
        "num_train_timesteps": 500,
        "prediction_type": "sample",
        "variance_type": "learned_range",
        "clip_sample": True,
        "clip_sample_range": 5.0,
        "beta_schedule": "squaredcos_cap_v2",
    }
    diffusion, bound = configs.scheduler_from_config("scheduler", given)
    assert (diffusion.num_steps, diffusion.prediction, diffusion.loss, bound) == (
        500,
        "x0",
        "hybrid",
        5.0,
    )
    assert configs.scheduler_config(diffusion, SamplingConfig(x0_bound=bound)) == given
    free = given | {"clip_sample": False, "clip_sample_range": 1.0}
    assert configs.scheduler_from_config("scheduler", free)[1] is None
    assert configs.scheduler_config(diffusion, SamplingConfig(x0_bound=None)) == free


def test_an_image_processor_says_how_images_are_fitted():
    cfg = clip_from_configs({}, {}, {"do_center_crop": False, "image_std": [0.1, 0.2, 0.3]})
    assert (cfg.resize, cfg.image_std) == ("squash", (0.1, 0.2, 0.3))
    # OpenAI's constants, https://github.com/openai/CLIP/blob/main/clip/clip.py
    assert cfg.image_mean == (0.48145466, 0.4578275, 0.40821073)
    cfg = clip_from_configs({}, {}, {"image_mean": [0.1, 0.2, 0.3]})
    assert cfg.image_mean == (0.1, 0.2, 0.3)
    assert cfg.image_std == (0.26862954, 0.26130258, 0.27577711)


def test_the_ratio_gives_exactly_the_hidden_units():
    for width in range(1, 120):
        for hidden in range(1, 120):
            assert int(width * mlp_ratio(width, hidden)) == hidden
