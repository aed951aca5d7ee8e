"""DALL·E of the emoji family: a transformer over a caption's tokens and an image's 8 x 8.

    unclip train --config configs/emoji/dalle.py --workdir runs/dalle \
        --config.clip=BUNDLE --config.dvae=runs/dvae_bundle
    unclip export runs/dvae runs/dalle --out runs/dalle_bundle
    unclip sample "a red heart" --model runs/dalle_bundle

Of the CLIP only the vocabulary is used. Exported with it, the best of several images can be kept:

    unclip export runs/clip runs/dvae runs/dalle --out runs/best_of_8 --set dalle.num_candidates=8

"Paper" is DALL·E's (Ramesh et al. 2021, appendix B). configs/emoji/dvae.py says what it costs.
"""

from ml_collections import ConfigDict

from unclip_jax.configs import common
from unclip_jax.configs.emoji import dvae, use_emoji

VARIANTS = ("smoke",)


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config; "smoke": procedural images, an untrained CLIP and discrete VAE."""
    common.check_variant(variant, VARIANTS)
    config = common.base("dalle")
    config.model = model(variant)
    use_emoji(config, image_size=64, concepts="everyday", styles=("3d", "flat"))
    config.optim.update(
        {
            "learning_rate": 1e-3,  # paper: 4.5e-4
            "b2": 0.96,  # paper: 0.96
            "eps": 1e-8,  # paper: 1e-8
            "weight_decay": 4.5e-2,  # paper: 4.5e-2
            "decay": "matrices",  # paper: not on gains and biases
            "schedule": "cosine",  # paper: halved at plateaus
            "warmup_steps": 50,  # paper: 5K
            "clip_norm": 4.0,  # paper: 4
            "ema_decay": 0.995,  # paper: 0.999, for 430K updates
        }
    )
    config.train.update(
        {
            "steps": 437,  # paper: 430K
            "batch_size": 64,  # paper: 1024
            "caption_drop": 0.1,  # ours, for guidance
            "save_every": 100,
        }
    )
    config.eval.every = 200
    # Paper: temperature 1, no guidance, the best of 512 by its CLIP.
    config.sampling.update({"temperature": 1.0, "guidance": 1.0, "num_candidates": 1})
    if variant == "smoke":
        config.dvae = "random"
        common.smoke(config, image_size=16)
    return config


def model(variant: str = "") -> ConfigDict:
    """Returns the sizes of the transformer, also those of the variant "smoke"."""
    trunk = {"width": 256, "layers": 6, "heads": 4, "dropout": 0.1}  # paper: 3968, 64, 62, 0.1
    if variant == "smoke":
        trunk = {"width": 16, "layers": 1, "heads": 2}
    return ConfigDict(
        {
            "trunk": trunk,
            "dvae": dvae.model(variant),
            "vocab_size": None,  # paper: 16384
            "context": None,  # paper: 256
        }
    )
