"""Upsampler 256 -> 1024 px at the paper's size: 300M, convolutions only, trained on quarter crops.

unclip train --config configs/paper/upsampler_1024.py --config.data.name=SET --workdir runs/last
"""

from ml_collections import ConfigDict

from unclip_jax.configs import common

VARIANTS = ("distill", "smoke", "smoke_distill")


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config.

    Variant "distill" trains a few-step student; "smoke" is a tiny config on procedural images,
    "smoke_distill" a student's.
    """
    common.check_variant(variant, VARIANTS)
    config = common.base("upsampler_1024")
    config.model = model()
    config.diffusion.update(
        {
            "schedule": "linear",  # table 3: linear, 1000 steps
            "prediction": "eps",  # ADM
        }
    )
    config.sampling.update(
        {
            "sampler": "ddim",  # table 3: DDIM
            "steps": 15,  # table 3: 15
        }
    )
    config.data.update(
        {
            "image_size": 1024,
            "min_side": 1024,  # ours: smaller images would be enlarged, and taken for the truth
            "crop": "center",
            "window": 256,  # table 3: crop fraction 0.25
            "degrade": "bsr_light",  # paper: BSR, citing latent-diffusion, which uses this
        }
    )
    config.optim.update(
        {
            "learning_rate": 1.0e-4,  # table 3: 1.0e-4
            "b1": 0.9,  # paper: 0.9
            "b2": 0.999,  # table 3: 0.999
            "eps": 1e-8,  # table 3: 1e-8
            "ema_decay": 0.9999,  # table 3: 0.9999
        }
    )
    config.train.update(
        {
            "steps": 1_000_000,  # table 3: 1M
            "batch_size": 512,  # table 3: 512
        }
    )
    if variant == "distill":  # ours: from 16 steps to 4
        config.sampling.steps = 16
        common.distill(config, halvings=2, steps=100_000, learning_rate=1e-4)
    common.on_a_pod(config)
    if variant.startswith("smoke"):
        config.model.low_res_size = 16
        config.model.unet.update({"image_size": 64, "channels": 8, "channel_mult": (1, 1, 2)})
        config.model.unet.update({"res_blocks": 1, "norm_groups": 4, "time_width": 32})
        config.sampling.steps = 5
        common.smoke(config, image_size=64)
        config.data.window = 16
    if variant == "smoke_distill":
        common.smoke_distill(config)
    return config


def model() -> ConfigDict:
    """Returns the sizes of the model."""
    return ConfigDict(
        {
            "unet": {
                "image_size": 1024,  # table 3: 256 -> 1024
                "channels": 192,  # table 3: 192
                "channel_mult": (1, 1, 2, 2, 4, 4),  # table 3: 1, 1, 2, 2, 4, 4
                "res_blocks": 2,  # table 3: depth 2
                "in_channels": 6,  # ADM: low-res image beside x_t
                "attention_resolutions": (),  # paper: none
                "mid_attention": False,  # paper: convolutions only
                "scale_shift": True,  # not stated; ADM
                "dropout": 0.0,  # table 3: none
                "norm_groups": 32,  # ADM
                "time_width": 768,  # ADM: 4 x channels
                "remat": "none",  # ours: 8.0 GiB a chip of 64; "block": 5.0, takes 20% longer
            },
            "low_res_size": 256,  # table 3: 256
            "resize": "cubic",  # not stated
        }
    )
