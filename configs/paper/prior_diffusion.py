"""Diffusion prior at the paper's size: 24 blocks of width 2048 over caption, z_t, t, noised z_i.

    unclip train --config configs/paper/prior_diffusion.py --config.clip=BUNDLE \
        --config.data.name=SET --workdir runs/prior
"""

from ml_collections import ConfigDict

from unclip_jax.configs import common


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config; variant "smoke" is a tiny one on procedural pictures."""
    common.check_variant(variant, "smoke")
    config = common.base("prior_diffusion")
    config.model = ConfigDict(
        {
            "transformer": {
                "width": 2048,  # table 3: 2048
                "layers": 24,  # table 3: 24
                "heads": 32,  # table 3: 32
                "mlp_ratio": 4.0,
                "activation": "gelu",
                "dropout": 0.0,
                "scan_layers": True,  # ours
                "remat": "block",  # ours
            },
            "image_dim": 1024,  # paper: 1024
            "text": "tokens",  # our reading of "encoded text": table 3 gives it a context of 256
            "vocab_size": 49408,  # CLIP's
            "context": 256,  # table 3: 256
            "text_emb_input": "unit",  # ours
            "mask_text": False,  # not stated
        }
    )
    config.embedding_norm = ConfigDict({"kind": "l2", "scale": 17.2})  # paper: 17.2
    config.diffusion = common.diffusion(
        schedule="cosine",  # table 3: cosine, 1000 steps
        prediction="x0",  # paper: predicts z_i itself, mean squared error
        variance="analytic",  # table 3: analytic
    )
    config.sampling = common.sampling(
        steps=64,  # table 3: 64
        num_candidates=2,  # paper: 2, the one nearer to z_t is kept
        guidance=1.0,  # the paper's value is not stated
    )
    # At this size not of pictures but of their embeddings: data.embeddings, eval.embeddings.
    config.data = common.captioned(image_size=256)
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
            "dtype": "bfloat16",  # ours
            "mesh": {"data": 1, "fsdp": -1, "tensor": 1},  # ours
            "caption_drop": 0.1,  # paper: 10%, caption and z_t together
        }
    )
    common.at_scale(config)
    if variant == "smoke":
        config.clip = "random"
        config.model.transformer.update({"width": 16, "layers": 2, "heads": 2})
        config.model.update({"image_dim": 16, "vocab_size": 0, "context": 16})
        config.data.vocab_size = 600
        common.smoke(config, image_size=16)
    return config
