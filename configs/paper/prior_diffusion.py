r"""Diffusion prior at the paper's size: 24 blocks of width 2048 over caption, z_t, t, noised z_i.

    unclip train --config configs/paper/prior_diffusion.py --config.clip=BUNDLE \
        --config.data.name=SET --workdir runs/prior
"""

from ml_collections import ConfigDict

from unclip_jax.configs import common

VARIANTS = ("smoke",)


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config; variant "smoke" is a tiny one on procedural images."""
    common.check_variant(variant, VARIANTS)
    config = common.base("prior_diffusion")
    config.model = model()
    config.embedding_norm.scale = 17.2  # paper: 17.2
    config.diffusion.update(
        {
            "schedule": "cosine",  # table 3: cosine, 1000 steps
            "prediction": "x0",  # paper: predicts z_i itself, mean squared error
            "variance": "analytic",  # table 3: analytic
        }
    )
    config.sampling.update(
        {
            "steps": 64,  # table 3: 64
            "num_candidates": 2,  # paper: 2, the one nearer to z_t is kept
            "guidance": 1.0,  # the paper's value is not stated
            "x0_bound": None,  # embeddings have no range
        }
    )
    # At this size train on stored embeddings, not on images: data.embeddings, eval.embeddings.
    config.data.update({"image_size": 256, "crop": "center"})
    config.optim.update(
        {
            "learning_rate": 1.1e-4,  # table 3: 1.1e-4
            "b1": 0.9,  # paper: 0.9
            "b2": 0.96,  # table 3: 0.96
            "eps": 1e-6,  # table 3: 1e-6
            "weight_decay": 6.0e-2,  # table 3: 6.0e-2
            "ema_decay": 0.9999,  # table 3: 0.9999
        }
    )
    config.train.update(
        {
            "steps": 600_000,  # table 3: 600K
            "batch_size": 4096,  # table 3: 4096
            "caption_drop": 0.1,  # paper: 10%, caption and z_t together
        }
    )
    common.on_a_pod(config)
    if variant == "smoke":
        config.model.transformer.update({"width": 16, "layers": 2, "heads": 2})
        config.model.update({"image_dim": None, "vocab_size": None, "context": None})
        common.smoke(config, image_size=16)
    return config


def model() -> ConfigDict:
    """Returns the sizes of the model."""
    return ConfigDict(
        {
            "transformer": {
                "width": 2048,  # table 3: 2048
                "layers": 24,  # table 3: 24
                "heads": 32,  # table 3: 32
                "scan_layers": True,  # ours
                "remat": "dots",  # ours: 19 GiB a chip of 64; "block": 4.8, takes 12% longer
            },
            "image_dim": 1024,  # paper: 1024
            "text": "tokens",  # our reading of "encoded text": table 3 gives it a context of 256
            "vocab_size": 49408,  # CLIP's
            "context": 256,  # table 3: 256
            "text_emb_input": "unit",  # ours
            "mask_text": False,  # not stated
        }
    )
