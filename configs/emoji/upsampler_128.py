"""Upsampler of the emoji family, 64 -> 128 px.

unclip train --config configs/emoji/upsampler_128.py --workdir runs/upsampler_128
"""

from ml_collections import ConfigDict

from unclip_jax.configs.emoji import upsampler_256


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config of upsampler_256 at half the size; variant "smoke" is a tiny one."""
    config = upsampler_256.get_config(variant)
    config.stage = "upsampler_128"
    if variant != "smoke":
        config.model.unet.image_size = 128
        config.data.image_size = 128
    return config
