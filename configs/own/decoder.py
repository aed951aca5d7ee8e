r"""Decoder on a data set of your own: 64-px images from an image embedding and a caption.

    unclip train --config configs/own/decoder.py --config.data.name=data/mine \
        --config.clip=BUNDLE --workdir runs/decoder

About 60M parameters: some days on one GPU. Sizes of the model that are not set are those of the
bundle's CLIP.
"""

from ml_collections import ConfigDict

from unclip_jax.configs import common

VARIANTS = ("smoke",)


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config; "smoke": procedural images unless a set is given, an untrained CLIP."""
    common.check_variant(variant, VARIANTS)
    config = common.base("decoder")
    config.model = model()
    config.embedding_norm.scale = None  # paper: 17.2 at width 1024, so 0.5375 sqrt(width)
    config.diffusion.update(
        {
            "prediction": "eps",  # GLIDE
            "variance": "learned_range",  # paper: learned
            "loss": "hybrid",  # GLIDE, as iDDPM
        }
    )
    config.sampling.update(
        {
            "steps": 250,  # paper: 250
            "guidance": 1.25,  # paper: of its FID figures
        }
    )
    config.data.update({"image_size": 64, "crop": "center"})
    config.optim.update(
        {
            "learning_rate": 1.2e-4,  # paper: 1.2e-4
            "b2": 0.999,  # paper: 0.999
            "eps": 1e-8,  # paper: 1e-8
            "warmup_steps": 1000,  # ours
            "clip_norm": 1.0,  # ours
            "ema_decay": 0.9999,  # paper: 0.9999
        }
    )
    common.on_a_workstation(config, steps=200_000, batch_size=64)
    config.train.update({"caption_drop": 0.5, "image_drop": 0.1})  # paper: 50%, 10%
    config.train.sample_every = 5000
    if variant == "smoke":
        config.model.context_dim = 16
        config.model.unet.update({"image_size": 16, "channels": 8, "channel_mult": (1, 2)})
        config.model.unet.update({"res_blocks": 1, "attention_resolutions": (8,)})
        config.model.unet.update({"head_channels": 8, "norm_groups": 4})
        config.sampling.steps = 5
        common.smoke(config, image_size=16)
        config.train.sample_every = 10
    return config


def model() -> ConfigDict:
    """Returns the sizes of the U-Net and how it is conditioned."""
    return ConfigDict(
        {
            "unet": {
                "image_size": 64,  # paper: 64
                "channels": 96,  # paper: 512
                "channel_mult": (1, 2, 3, 4),  # paper: 1, 2, 3, 4
                "res_blocks": 2,  # paper: 3
                "out_channels": 6,  # noise and variance
                "attention_resolutions": (16, 8),  # paper: 32, 16, 8
                "head_channels": 48,  # paper: 64
                "dropout": 0.1,  # paper: 0.1
            },
            "context_dim": 256,  # paper: 2048
            "text": "clip_states",  # paper: its own text encoder
            "text_emb_input": "unit",
            "image_tokens": 4,  # paper: 4
            "null_image": "learned",  # paper: zeros or a learned embedding
            "mask_text": True,
        }
    )
