"""Autoregressive prior of the emoji family: from a caption's CLIP features to codes of z_i.

    unclip train --config configs/emoji/prior_ar.py --config.clip=BUNDLE --workdir runs/prior_ar

The codes are those of principal components: of --config.pca=FILE (unclip embed --fit-pca), else of
the bundle's PCA, else of one fitted to the training images. Sizes of the model that are None are
those of the bundle's CLIP.
"""

from ml_collections import ConfigDict

from unclip_jax.configs import common
from unclip_jax.configs.emoji import use_emoji

VARIANTS = ("smoke",)


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config; "smoke": procedural images, an untrained CLIP, caption tokens."""
    common.check_variant(variant, VARIANTS)
    config = common.base("prior_ar")
    config.model = model()
    use_emoji(config, image_size=64, concepts="everyday", styles=("3d", "flat"))
    config.optim.update(
        {
            "learning_rate": 1e-3,  # paper: 1.6e-4
            "b2": 0.91,  # paper: 0.91
            "eps": 1e-10,  # paper: 1e-10
            "weight_decay": 4.0e-2,  # paper: 4.0e-2
            "schedule": "cosine",  # ours
            "warmup_steps": 100,  # ours
            "clip_norm": 1.0,  # ours
            "ema_decay": 0.999,  # paper: 0.999
        }
    )
    config.train.update(
        {
            "steps": 2_000,  # paper: 1M
            "batch_size": 64,  # paper: 4096
            "caption_drop": 0.1,  # paper: 10%, caption and z_t together
            "cache_clip": True,  # images are not augmented
        }
    )
    config.eval.every = 250
    if variant == "smoke":
        config.model.text = "tokens"  # the paper's path, so that it too is exercised
        config.model.trunk.update({"width": 16, "layers": 1, "heads": 2})
        config.model.encoder = ConfigDict({"width": 16, "layers": 1, "heads": 2})
        config.model.codec.update({"components": 6, "buckets": 16, "dot_buckets": 16})
        common.smoke(config, image_size=16)
    return config


def model() -> ConfigDict:
    """Returns the sizes of the transformer and the codec."""
    return ConfigDict(
        {
            "trunk": {
                "width": 128,  # paper: 1664
                "layers": 3,  # paper: 24
                "heads": 2,  # paper: 26
                "dropout": 0.1,  # ours: some hundred images
            },
            "encoder": None,  # paper: 24 blocks; the CLIP's states have read the caption
            "codec": {
                "components": 20,  # paper: 319 of 1024, 99% of the variance; ours 98%
                "buckets": 32,  # paper: 1024
                "dot_buckets": 32,  # not stated
            },
            "text": "clip_states",  # paper: own tokens (our reading)
            "context": None,  # paper: 256
            "positions": 22,  # paper: 384
        }
    )
