"""Upsampler 64 -> 256 px at the paper's size: 700M, convolutions only, trained on quarter crops.

unclip train --config configs/paper/upsampler_256.py --config.data.name=SET --workdir runs/upsampler
"""

from ml_collections import ConfigDict

from unclip_jax.configs import common

# GLIDE's 27 levels: 10, 10, 3, 2 and 2 in the fifths of 0..999 from the clean end (appendix B.2),
# and 999 replaced by 997 (its released code, against artifacts of the noisiest levels).
GLIDE_STEPS = (
    *(997, 800, 799, 600, 599, 500, 400),
    *(399, 377, 355, 333, 311, 288, 266, 244, 222, 200),
    *(199, 177, 155, 133, 111, 88, 66, 44, 22, 0),
)


VARIANTS = ("distill", "smoke", "smoke_distill")


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config; "distill" trains a few-step student, the smoke variants are tiny."""
    common.check_variant(variant, VARIANTS)
    config = common.base("upsampler_256")
    config.model = model()
    config.diffusion.update(
        {
            "schedule": "cosine",  # table 3: cosine, 1000 steps
            "prediction": "eps",  # ADM
        }
    )
    config.sampling.update(
        {
            "sampler": "ddim",  # table 3: DDIM
            "steps": 27,  # table 3: 27
            "step_list": GLIDE_STEPS,  # not stated; GLIDE's 27 by the same authors
            "initial_noise_scale": None,  # not stated, so 1; GLIDE's notebook takes 0.997
        }
    )
    config.data.update(
        {
            "image_size": 256,
            "min_side": 256,  # ours: smaller images would be enlarged, and taken for the truth
            "crop": "center",
        }
    )
    config.optim.update(
        {
            "learning_rate": 1.2e-4,  # table 3: 1.2e-4
            "b1": 0.9,  # paper: 0.9
            "b2": 0.999,  # table 3: 0.999
            "eps": 1e-8,  # table 3: 1e-8
            "ema_decay": 0.9999,  # table 3: 0.9999
        }
    )
    config.train.update(
        {
            "steps": 1_000_000,  # table 3: 1M
            "batch_size": 1024,  # table 3: 1024
            "crop_size": 64,  # table 3: crop fraction 0.25
            "blur_prob": 0.5,  # not stated; 0.5 as in DALLE2-pytorch
            "blur_sigma": 0.6,  # paper: 0.6
            "blur_kernel": 3,  # paper: 3
        }
    )
    if variant == "distill":  # ours: from 32 steps to 4
        config.sampling.update({"steps": 32, "step_list": None})
        common.distill(config, halvings=3, steps=100_000, learning_rate=1e-4)
    common.on_a_pod(config)
    if variant.startswith("smoke"):
        config.model.low_res_size = 8
        config.model.unet.update({"image_size": 32, "channels": 8, "channel_mult": (1, 2)})
        config.model.unet.update({"res_blocks": 1, "norm_groups": 4, "time_width": 32})
        config.sampling.update({"steps": 5, "step_list": None})
        common.smoke(config, image_size=32)
        config.train.crop_size = 16
    if variant == "smoke_distill":
        common.smoke_distill(config)
    return config


def model() -> ConfigDict:
    """Returns the sizes of the model."""
    return ConfigDict(
        {
            "unet": {
                "image_size": 256,  # table 3: 64 -> 256
                "channels": 320,  # table 3: 320
                "channel_mult": (1, 2, 3, 4),  # table 3: 1, 2, 3, 4
                "res_blocks": 3,  # table 3: depth 3
                "in_channels": 6,  # ADM: low-res image beside x_t
                "attention_resolutions": (),  # paper: none
                "mid_attention": False,  # paper: convolutions only
                "scale_shift": True,  # not stated; ADM
                "dropout": 0.1,  # table 3: 0.1
                "norm_groups": 32,  # ADM
                "time_width": 1280,  # ADM: 4 x channels
                "remat": "none",  # ours: 4.0 GiB a chip of 64; "block": 2.6, 19% more work
            },
            "low_res_size": 64,  # table 3: 64
            "resize": "cubic",  # not stated
        }
    )
