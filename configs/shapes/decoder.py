"""Decoder of the shapes family: 32-px images from an image embedding and, half of the time, a
caption that it reads by a text encoder of its own, as the paper's does.

    unclip train --config configs/shapes/decoder.py --config.clip=BUNDLE --workdir runs/decoder

glide.py is the same network without the image embedding.
"""

from ml_collections import ConfigDict

from unclip_jax.configs import common
from unclip_jax.configs.shapes import SIZE, text_encoder, use_shapes

VARIANTS = ("smoke",)


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config; "smoke": a tiny one, an untrained CLIP."""
    common.check_variant(variant, VARIANTS)
    config = common.base("decoder")
    config.model = model()
    config.embedding_norm.scale = None  # paper: 17.2 at width 1024, so 0.5375 sqrt(width)
    diffusion(config)
    use_shapes(config)
    optim(config)
    config.train.update(
        {
            "steps": 2_500,  # paper: 800K
            "batch_size": 64,  # paper: 2048
            "caption_drop": 0.5,  # paper: 50%
            "image_drop": 0.1,  # paper: 10%
            "cache_clip": True,  # images are not augmented
        }
    )
    if variant == "smoke":
        smoke(config)
    return config


def model() -> ConfigDict:
    """Returns the sizes of the U-Net and how it is conditioned."""
    return ConfigDict(
        {
            "unet": {
                "image_size": SIZE,  # paper: 64
                "channels": 64,  # paper: 512
                "channel_mult": (1, 2),  # paper: 1, 2, 3, 4
                "res_blocks": 1,  # paper: 3
                "out_channels": 3,  # paper: 6, noise and variance
                "attention_resolutions": (8,),  # paper: 32, 16, 8
                "head_channels": 64,  # paper: 64
                "dropout": 0.0,  # paper: 0.1
                "norm_groups": 16,  # ADM: 32
                "time_width": 256,  # ADM: 4 x channels
                "patch": 4,  # ours; ADM has no such stem
            },
            "context_dim": 96,  # paper: 2048
            "text": "transformer",  # paper: its own text encoder
            "text_encoder": text_encoder(),
            "image_tokens": 4,  # paper: 4
            "null_image": "learned",  # paper: zeros or a learned embedding
            "mask_text": True,
        }
    )


def diffusion(config: ConfigDict) -> None:
    """Sets what the network predicts, and how it is sampled; GLIDE's is the same."""
    config.diffusion.update(
        {
            "prediction": "x0",  # paper: the noise; a small net learns x_0 sooner
            "loss_weighting": "min_snr",  # ours
            "min_snr_floor": 1.0,  # ours: strong noise is where layout is learnt
        }
    )
    config.sampling.update(
        {
            "sampler": "ddim",  # paper: 250 strided steps with the learned variance
            "steps": 40,
            "guidance": 2.0,  # paper: 1.25 for FID
        }
    )


def optim(config: ConfigDict) -> None:
    """Sets the optimizer; GLIDE's is the same."""
    config.optim.update(
        {
            "learning_rate": 1e-3,  # paper: 1.2e-4
            "b2": 0.99,  # paper: 0.999
            "eps": 1e-8,  # paper: 1e-8
            "schedule": "cosine",  # ours
            "warmup_steps": 200,  # ours
            "clip_norm": 1.0,  # ours
            "ema_decay": 0.998,  # paper: 0.9999, for 800K iterations
        }
    )


def smoke(config: ConfigDict) -> None:
    """Makes the model tiny and the run short."""
    config.model.context_dim = 16
    config.model.text_encoder.context = 16
    config.model.text_encoder.transformer.update({"width": 16, "layers": 1, "heads": 2})
    config.model.unet.update({"image_size": 16, "channels": 16, "res_blocks": 1})
    config.model.unet.update({"head_channels": 16, "norm_groups": 8, "time_width": 32, "patch": 2})
    config.sampling.steps = 5
    common.smoke(config, image_size=16)
