r"""Diffusion prior on a data set of your own: from a caption's CLIP features to an image embedding.

    unclip train --config configs/own/prior_diffusion.py --config.data.name=data/mine \
        --config.clip=BUNDLE --workdir runs/prior

Sizes of the model that are None are those of the bundle's CLIP.
"""

from ml_collections import ConfigDict

from unclip_jax.configs import common

VARIANTS = ("smoke",)


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config; "smoke": procedural images unless a set is given, an untrained CLIP."""
    common.check_variant(variant, VARIANTS)
    config = common.base("prior_diffusion")
    config.model = ConfigDict(
        {
            "transformer": {
                "width": 384,  # paper: 2048
                "layers": 8,  # paper: 24
                "heads": 6,  # paper: 32
                "dropout": 0.1,  # ours; the paper states none
            },
            "text": "clip_states",  # paper: own tokens (our reading); Karlo: CLIP's states
            "context": None,  # paper: 256
            "text_emb_input": "unit",
            "mask_text": True,
        }
    )
    config.embedding_norm.scale = None  # paper: 17.2 at width 1024, so 0.5375 sqrt(width)
    config.diffusion.update(
        {
            "prediction": "x0",  # paper: predicts z_i itself, mean squared error
            "variance": "analytic",  # paper: analytic
        }
    )
    config.sampling.update(
        {
            "steps": 64,  # paper: 64
            "num_candidates": 2,  # paper: 2, the one nearer to z_t is kept
            "guidance": 1.0,  # the paper's value is not stated
            "x0_bound": None,  # embeddings have no range
        }
    )
    config.data.update({"image_size": 64, "crop": "center"})
    config.optim.update(
        {
            "learning_rate": 3e-4,  # paper: 1.1e-4
            "b2": 0.96,  # paper: 0.96
            "eps": 1e-6,  # paper: 1e-6
            "weight_decay": 6.0e-2,  # paper: 6.0e-2
            "schedule": "cosine",  # ours
            "warmup_steps": 500,  # ours
            "clip_norm": 1.0,  # ours
            "ema_decay": 0.999,  # paper: 0.9999, for 600K iterations
        }
    )
    common.on_a_workstation(config, steps=40_000, batch_size=256)
    config.train.caption_drop = 0.1  # paper: 10%, caption and z_t together
    if variant == "smoke":
        config.model.transformer.update({"width": 16, "layers": 1, "heads": 2})
        common.smoke(config, image_size=16)
    return config
