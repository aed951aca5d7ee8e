"""The GLIDE baseline of the shapes family: decoder.py's network, trained on captions only.

    unclip train --config configs/shapes/glide.py --config.clip=BUNDLE --workdir runs/glide
    unclip export runs/clip runs/glide --out runs/glide_bundle
    unclip sample "a red circle" --model runs/glide_bundle --prior none --out samples

Of the CLIP only the vocabulary is read. The image embedding is always dropped.
"""

from ml_collections import ConfigDict

from unclip_jax.configs import common
from unclip_jax.configs.shapes import decoder as unclip
from unclip_jax.configs.shapes import use_shapes

VARIANTS = ("smoke",)


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config; "smoke": a tiny one, an untrained CLIP."""
    common.check_variant(variant, VARIANTS)
    config = common.base("decoder")
    config.model = unclip.model()
    config.embedding_norm.scale = None
    unclip.diffusion(config)
    use_shapes(config)
    unclip.optim(config)
    config.train.update(
        {
            # Training FLOPs as unCLIP's by `unclip plan`: 2,000 x 7.663 G of the prior and 2,500 x
            # 33.971 G of the decoder are 100.3 T, and so are these 2,951 x 33.971 G. The CLIP,
            # 1,000 x 23.6 G, is not counted: as in the paper, it was there before.
            "steps": 2_951,
            "batch_size": 64,  # GLIDE: 2048
            "caption_drop": 0.1,  # GLIDE: 20% of the finetuning
            "image_drop": 1.0,  # GLIDE reads no image embedding
            "cache_clip": True,
        }
    )
    if variant == "smoke":
        unclip.smoke(config)
    return config
