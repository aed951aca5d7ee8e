"""CLIP of the shapes family: 32-px images.

    unclip train --config configs/shapes/clip.py --workdir runs/clip

Sizes are ours. Patches are of 4 pixels, so that an object of six has several.
"""

from ml_collections import ConfigDict

from unclip_jax.configs import common
from unclip_jax.configs.shapes import CONTEXT, SIZE, use_shapes

VARIANTS = ("smoke",)


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config; "smoke": a tiny one."""
    common.check_variant(variant, VARIANTS)
    config = common.base("clip")
    config.model = model()
    use_shapes(config)
    config.data.vocab_size = 640  # CLIP: 49408; ours: the bytes and every word of the captions
    config.optim.update(
        {
            "learning_rate": 1e-3,  # paper: 3e-4
            "b2": 0.98,  # CLIP's ViT: 0.98
            "eps": 1e-6,  # CLIP's ViT: 1e-6
            "weight_decay": 0.2,  # CLIP: 0.2, on all but gains and biases
            "decay": "matrices",
            "schedule": "cosine",  # CLIP: cosine
            "warmup_steps": 100,  # CLIP: 2000
            "clip_norm": 1.0,  # ours
            "ema_decay": 0.99,  # ours; CLIP states none
        }
    )
    config.train.update({"steps": 1_000, "batch_size": 128})  # CLIP: batch 32768, 32 epochs
    if variant == "smoke":
        config.model.embed_dim = 16
        config.model.vision.update({"image_size": 16, "width": 16, "layers": 1, "heads": 2})
        config.model.vision.patch_size = 8
        config.model.text.update({"width": 16, "layers": 1, "heads": 2, "context": 16})
        common.smoke(config, image_size=16)
    return config


def model() -> ConfigDict:
    """Returns the sizes of the two towers."""
    return ConfigDict(
        {
            "embed_dim": 128,  # paper: 1024
            "vision": {
                "image_size": SIZE,  # paper: 256
                "patch_size": 4,  # paper: 16
                "width": 96,  # paper: 1280
                "layers": 3,  # paper: 32
                "heads": 2,  # not stated
            },
            "text": {
                "vocab_size": None,  # that of the vocabulary trained on the captions
                "width": 96,  # paper: 1024
                "layers": 2,  # paper: 24
                "heads": 2,  # not stated
                "context": CONTEXT,  # CLIP: 77
            },
            "activation": "gelu",  # CLIP: quick_gelu
            "image_mean": (0.5, 0.5, 0.5),  # ours: images on white
            "image_std": (0.5, 0.5, 0.5),
            "resize": "pad",  # ours: as data.crop
        }
    )
