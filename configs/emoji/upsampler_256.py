"""Upsampler of the emoji family, 64 -> 256 px: convolutions only, no caption, no embedding.

unclip train --config configs/emoji/upsampler_256.py --workdir runs/upsampler_256

A student that needs 2 steps: the same with :distill and --config.init_from=emoji.
"""

from ml_collections import ConfigDict

from unclip_jax.configs import common
from unclip_jax.configs.emoji import use_emoji

VARIANTS = ("distill", "smoke", "smoke_distill")


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config.

    Variant "distill" trains a few-step student; "smoke" is a tiny config on procedural images,
    "smoke_distill" a student's.
    """
    common.check_variant(variant, VARIANTS)
    config = common.base("upsampler_256")
    config.model = model()
    config.diffusion.update(
        {
            "prediction": "x0",  # ADM: the noise; a small net with a coarse stem learns x_0 sooner
            "loss_weighting": "min_snr",  # ours
        }
    )
    config.sampling.update({"sampler": "ddim", "steps": 4})  # paper: DDIM, 27
    use_emoji(config, image_size=256, concepts="common", styles=("3d", "flat"))
    config.optim.update(
        {
            "learning_rate": 1e-3,  # paper: 1.2e-4
            "b2": 0.999,  # paper: 0.999
            "eps": 1e-8,  # paper: 1e-8
            "schedule": "cosine",  # ours
            "warmup_steps": 200,  # ours
            "clip_norm": 1.0,  # ours
            "ema_decay": 0.999,  # paper: 0.9999, for 1M iterations
        }
    )
    config.train.update(
        {
            "steps": 3_000,  # paper: 1M
            "batch_size": 32,  # paper: 1024
            "crop_size": 64,  # paper: crop fraction 0.25
            "blur_prob": 0.5,  # not stated; 0.5 as in DALLE2-pytorch
            "blur_sigma": 0.6,  # paper: 0.6
            "blur_kernel": 3,  # paper: 3
            "sample_every": 1000,
        }
    )
    config.eval.batch_size = 32
    if variant == "distill":
        config.sampling.steps = 8
        common.distill(config, halvings=2, steps=800, learning_rate=3e-4)
        config.train.update({"save_every": 100, "sample_every": 200})
        config.optim.update({"warmup_steps": 50, "ema_decay": 0.99})
    if variant.startswith("smoke"):
        config.model.low_res_size = 16  # what the smoke decoder draws
        config.model.unet.update({"image_size": 32, "channels": 16, "channel_mult": (1, 2)})
        config.model.unet.update({"res_blocks": 1, "norm_groups": 8, "time_width": 32, "patch": 2})
        config.sampling.steps = 5
        common.smoke(config, image_size=32)
        config.train.update({"crop_size": 16, "sample_every": 10})
    if variant == "smoke_distill":
        common.smoke_distill(config)
    return config


def model() -> ConfigDict:
    """Returns the sizes of the U-Net."""
    return ConfigDict(
        {
            "unet": {
                "image_size": 256,  # paper: 256
                "channels": 64,  # paper: 320
                "channel_mult": (1, 1),  # paper: 1, 2, 3, 4
                "res_blocks": 1,  # paper: 3
                "in_channels": 6,
                "attention_resolutions": (),  # paper: none
                "mid_attention": False,  # paper: convolutions only
                "head_channels": 48,
                "scale_shift": True,  # not stated
                "dropout": 0.0,  # paper: 0.1
                "norm_groups": 16,  # ADM: 32
                "time_width": 192,  # ADM: 4 x channels
                "patch": 4,  # ours; ADM has no such stem
            },
            "low_res_size": 64,  # paper: 64
            "resize": "cubic",  # not stated
        }
    )
