r"""GLIDE at its own size, 3.5B: the decoder of decoder.py that is given captions alone.

    unclip train --config configs/paper/glide.py --config.clip=BUNDLE \
        --config.data.name=SET --workdir runs/glide
    unclip export runs/clip runs/glide --out runs/glide_bundle
    unclip sample "a red heart" --model runs/glide_bundle --prior none

unCLIP's decoder is GLIDE's network with projections of the image embedding; here that is always
dropped, and of the CLIP only the vocabulary is used. "GLIDE" is Nichol et al. 2021.
"""

from ml_collections import ConfigDict

from unclip_jax.configs import common
from unclip_jax.configs.paper import decoder

VARIANTS = ("smoke",)


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config; variant "smoke" is a tiny one on procedural images."""
    common.check_variant(variant, VARIANTS)
    config = decoder.get_config(variant)
    config.model.update({"image_tokens": 1, "null_image": "zeros"})  # a constant
    config.train.image_drop = 1.0  # GLIDE reads no image embedding
    config.train.caption_drop = 0.2  # GLIDE: 20%, in a finetuning after the 2.5M steps
    config.sampling.guidance = 3.0  # GLIDE: 3 for figures, 1.5 for FID
    if variant != "smoke":
        config.train.steps = 2_500_000  # GLIDE: 2.5M at batch 2048
    return config
