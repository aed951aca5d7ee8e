"""Diffusion prior on a set of your own: from a caption's CLIP features to an image embedding.

    unclip train --config configs/own/prior_diffusion.py --config.data.name=data/mine \
        --config.clip=BUNDLE --workdir runs/prior

A 0 among the model's numbers means: as the CLIP of the bundle has it.
"""

from ml_collections import ConfigDict

from unclip_jax.configs import common


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config; "smoke": procedural images unless told a set, an untrained CLIP."""
    common.check_variant(variant, "smoke")
    config = common.base("prior_diffusion")
    config.model = ConfigDict(
        {
            "transformer": common.transformer(
                width=384,  # paper: 2048
                layers=8,  # paper: 24
                heads=6,  # paper: 32
                dropout=0.1,  # ours; the paper states none
            ),
            "image_dim": 0,
            "text": "clip_states",  # paper: own tokens (our reading); Karlo: CLIP's states
            "text_dim": 0,
            "context": 0,  # paper: 256
            "text_emb_input": "unit",
            "mask_text": True,
        }
    )
    config.embedding_norm = ConfigDict(
        {"kind": "l2", "scale": 0.0}  # 0: paper's 17.2 at width 1024, so 0.5375 sqrt(width)
    )
    config.diffusion = common.diffusion(
        prediction="x0",  # paper: predicts z_i itself, mean squared error
        variance="analytic",  # paper: analytic
    )
    config.sampling = common.sampling(
        steps=64,  # paper: 64
        num_candidates=2,  # paper: 2, the one nearer to z_t is kept
        guidance=1.0,  # the paper's value is not stated
    )
    config.data = common.captioned(image_size=64)
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
        config.clip = "random"
        config.model.transformer.update({"width": 16, "layers": 1, "heads": 2})
        config.data.vocab_size = 600
        common.smoke(config, image_size=16)
    return config
