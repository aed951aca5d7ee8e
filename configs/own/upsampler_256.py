"""Upsampler on a data set of your own, 64 -> 256 px: convolutions only, no caption, no embedding.

unclip train --config configs/own/upsampler_256.py --config.data.name=data/mine --workdir runs/up

Images whose shorter side has fewer than 256 pixels are not used: upsampled ones would teach it that
sharp images are blurred.
"""

from ml_collections import ConfigDict

from unclip_jax.configs import common

VARIANTS = ("smoke",)


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config; "smoke" is a tiny one, on procedural images unless a set is given."""
    common.check_variant(variant, VARIANTS)
    config = common.base("upsampler_256")
    config.model = ConfigDict(
        {
            "unet": {
                "image_size": 256,  # paper: 256
                "channels": 96,  # paper: 320
                "channel_mult": (1, 2, 3),  # paper: 1, 2, 3, 4
                "res_blocks": 2,  # paper: 3
                "in_channels": 6,
                "attention_resolutions": (),  # paper: none
                "mid_attention": False,  # paper: convolutions only
            },
            "low_res_size": 64,  # paper: 64
        }
    )
    config.diffusion.prediction = "eps"  # ADM
    config.sampling.update({"sampler": "ddim", "steps": 27})  # paper: DDIM, 27
    config.data.update({"image_size": 256, "min_side": 256, "crop": "center"})
    config.optim.update(
        {
            "learning_rate": 1.2e-4,  # paper: 1.2e-4
            "b2": 0.999,  # paper: 0.999
            "eps": 1e-8,  # paper: 1e-8
            "warmup_steps": 1000,  # ours
            "clip_norm": 1.0,  # ours
            "ema_decay": 0.9999,  # paper: 0.9999
        }
    )
    common.on_a_workstation(config, steps=100_000, batch_size=64)
    config.train.update(
        {
            "crop_size": 64,  # paper: crop fraction 0.25
            "blur_prob": 0.5,  # not stated; 0.5 as in DALLE2-pytorch
            "blur_sigma": 0.6,  # paper: 0.6
            "blur_kernel": 3,  # paper: 3
            "sample_every": 5000,
        }
    )
    if variant == "smoke":
        config.model.low_res_size = 16  # what the smoke decoder draws
        config.model.unet.update({"image_size": 32, "channels": 8, "channel_mult": (1, 2)})
        config.model.unet.update({"res_blocks": 1, "norm_groups": 4})
        config.sampling.steps = 5
        common.smoke(config, image_size=32)
        config.train.update({"crop_size": 16, "sample_every": 10})
    return config
