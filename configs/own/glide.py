r"""GLIDE on a data set of your own: a decoder of captions alone, with a text encoder of its own.

    unclip train --config configs/own/glide.py --config.data.name=data/mine \
        --config.clip=BUNDLE --workdir runs/glide
    unclip export runs/clip runs/glide --out runs/glide_bundle
    unclip sample "a caption like yours" --model runs/glide_bundle --prior none

It is the decoder of configs/own/decoder.py, whose image embedding is always dropped; of the CLIP
only the vocabulary is used. "GLIDE" is Nichol et al. 2021.
"""

from ml_collections import ConfigDict

from unclip_jax.configs import common
from unclip_jax.configs.own import decoder

VARIANTS = ("smoke",)


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config; "smoke": procedural images unless a set is given, an untrained CLIP."""
    common.check_variant(variant, VARIANTS)
    config = decoder.get_config(variant)
    config.train.update({"image_drop": 1.0, "caption_drop": 0.2})  # GLIDE: 20% of captions
    config.model.update({"image_tokens": 1, "null_image": "zeros"})  # a constant
    transformer = {"width": 256, "layers": 6, "heads": 4}  # GLIDE: 2048, 24, 32
    config.model.text = "transformer"
    config.model.text_encoder = ConfigDict(
        {"vocab_size": None, "context": None, "transformer": transformer}  # those of the CLIP
    )
    config.sampling.guidance = 3.0  # GLIDE: 3
    if variant == "smoke":
        config.model.text_encoder.transformer.update({"width": 16, "layers": 1, "heads": 2})
    return config
