"""CLIP on a data set of your own: 64-px images, captions of up to 32 tokens.

    unclip data ingest IMAGES --out data/mine
    unclip train --config configs/own/clip.py --config.data.name=data/mine --workdir runs/clip

About 17M parameters: some hours on one GPU. The paper's CLIP is a ViT-H/16 at 256 px; what differs
from the emoji family's is the size and that nothing here depends on what the images show.
"""

from ml_collections import ConfigDict

from unclip_jax.configs import common

VARIANTS = ("smoke",)


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config; "smoke" is a tiny one, on procedural images unless a set is given."""
    common.check_variant(variant, VARIANTS)
    config = common.base("clip")
    config.model = model()
    config.data.update(
        {
            "image_size": 64,
            "crop": "random",  # CLIP: a random square crop
            "vocab_size": 8192,  # CLIP: 49408
        }
    )
    config.optim.update(
        {
            "learning_rate": 5e-4,  # paper: 3e-4
            "b2": 0.98,  # CLIP's ViT: 0.98
            "eps": 1e-6,  # CLIP's ViT: 1e-6
            "weight_decay": 0.2,  # CLIP: 0.2, on all but gains and biases
            "decay": "matrices",
            "schedule": "cosine",  # CLIP: cosine
            "warmup_steps": 500,  # CLIP: 2000
            "clip_norm": 1.0,  # ours
            "ema_decay": 0.999,  # ours; CLIP states none
        }
    )
    common.on_a_workstation(config, steps=20_000, batch_size=512)
    if variant == "smoke":
        config.model.embed_dim = 16
        config.model.vision.update({"image_size": 16, "width": 16, "layers": 1, "heads": 2})
        config.model.text.update({"width": 16, "layers": 1, "heads": 2, "context": 16})
        common.smoke(config, image_size=16)
    return config


def model() -> ConfigDict:
    """Returns the sizes of the two towers."""
    return ConfigDict(
        {
            "embed_dim": 256,  # paper: 1024
            "vision": {
                "image_size": 64,  # paper: 256
                "patch_size": 8,  # paper: 16
                "width": 320,  # paper: 1280
                "layers": 8,  # paper: 32
                "heads": 5,  # not stated
            },
            "text": {
                "vocab_size": None,  # that of the vocabulary trained on the captions
                "width": 256,  # paper: 1024
                "layers": 6,  # paper: 24
                "heads": 4,  # not stated
                "context": 32,  # CLIP: 77
            },
            "resize": "center_crop",  # as the later stages' data.crop
        }
    )
