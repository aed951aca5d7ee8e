"""Discrete VAE of the emoji family: 64-px images as 8 x 8 tokens, the first half of DALL·E.

    unclip train --config configs/emoji/dvae.py --workdir runs/dvae
    unclip export runs/dvae --out runs/dvae_bundle

"Paper" is DALL·E's (Ramesh et al. 2021, appendix A; sizes of its released weights). With
configs/emoji/dalle.py it takes 1.0e14 FLOPs (`unclip plan`): 0.2e14 here, 0.8e14 there. GLIDE takes
as many (configs/emoji/glide.py), and so does unCLIP (the variants `baseline` of the diffusion prior
and the decoder), so that the three can be compared. The CLIP is counted for none of them.
"""

from ml_collections import ConfigDict

from unclip_jax.configs import common
from unclip_jax.configs.emoji import use_emoji

VARIANTS = ("smoke",)


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config; "smoke": procedural images, a tiny model."""
    common.check_variant(variant, VARIANTS)
    config = common.base("dvae")
    config.model = model(variant)
    use_emoji(config, image_size=64, concepts="everyday", styles=("3d", "flat"))
    config.optim.update(
        {
            "learning_rate": 1e-3,  # paper: 1e-4
            "b2": 0.999,  # paper: 0.999
            "eps": 1e-8,  # paper: 1e-8
            "weight_decay": 1e-4,  # paper: 1e-4
            "schedule": "cosine",  # paper: cosine
            "warmup_steps": 50,  # ours
            "clip_norm": 1.0,  # ours
            "ema_decay": 0.995,  # paper: 0.999, for 3M updates
        }
    )
    config.train.update(
        {
            "steps": 650,  # paper: 3M
            "batch_size": 64,  # paper: 512
            "gumbel_temperature": 1 / 16,  # paper: 1 / 16
            "gumbel_steps": 500,  # paper: 150K
            "kl_weight": 1.0,  # paper: 6.6; ours is the bound itself
            "kl_steps": 150,  # paper: 5K
            "save_every": 100,
        }
    )
    config.eval.every = 200
    if variant == "smoke":
        common.smoke(config, image_size=16)
        config.train.update({"gumbel_steps": 10, "kl_steps": 5})
    return config


def model(variant: str = "") -> ConfigDict:
    """Returns the sizes of the two ResNets, also those of the variant "smoke"."""
    if variant == "smoke":
        sizes = {"image_size": 16, "codes": 16, "channels": 8, "channel_mult": (1, 2)}
        return ConfigDict(
            {**sizes, "res_blocks": 1, "code_width": 8, "patch": 2, "likelihood": "l2"}
        )
    return ConfigDict(
        {
            "image_size": 64,  # paper: 256
            "codes": 1024,  # paper: 8192
            "channels": 32,  # paper: 256
            "channel_mult": (1, 2, 4),  # paper: 1, 2, 4, 8
            "res_blocks": 2,  # paper: 2
            "code_width": 128,  # paper: 128
            "patch": 2,  # paper: 1; a token is 8 x 8 pixels in both
            # Paper: logit_laplace. Drawings have areas of one exact color, where its likelihood has
            # no upper bound.
            "likelihood": "l2",
            "pixel_std": 0.1,  # ours, of pixels in [-1, 1]
        }
    )
