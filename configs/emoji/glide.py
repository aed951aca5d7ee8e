"""GLIDE of the emoji family: a decoder of captions alone, with a text encoder of its own.

    unclip train --config configs/emoji/glide.py --config.clip=BUNDLE --workdir runs/glide
    unclip export runs/clip runs/glide --out runs/glide_bundle
    unclip sample "a red heart" --model runs/glide_bundle --prior none

It is the decoder of configs/emoji/decoder.py, whose image embedding is always dropped; of the CLIP
only the vocabulary is used. "GLIDE" is Nichol et al. 2021. It takes as many FLOPs as the other
baselines (configs/emoji/dvae.py).
"""

from ml_collections import ConfigDict

from unclip_jax.configs import common
from unclip_jax.configs.emoji import decoder

VARIANTS = ("smoke",)


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config; "smoke": procedural images, an untrained CLIP, a tiny model."""
    common.check_variant(variant, VARIANTS)
    is_smoke = variant == "smoke"
    config = decoder.get_config("smoke_glide" if is_smoke else "baseline")
    config.train.update({"image_drop": 1.0, "caption_drop": 0.2})  # GLIDE: 20% of captions
    config.model.update({"image_tokens": 1, "null_image": "zeros"})  # a constant
    if not is_smoke:
        config.train.steps = 735  # GLIDE: 2.5M
        transformer = {"width": 128, "layers": 4, "heads": 2}  # GLIDE: 2048, 24, 32
        config.model.text = "transformer"
        config.model.text_encoder = ConfigDict(
            {"vocab_size": None, "context": None, "transformer": transformer}  # GLIDE: context 128
        )
        config.sampling.guidance = 3.0  # GLIDE: 3
    return config
