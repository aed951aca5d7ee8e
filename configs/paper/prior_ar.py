r"""Autoregressive prior at the paper's size: 319 codes of z_i from a causal decoder of 24 blocks.

    unclip train --config configs/paper/prior_ar.py --config.clip=BUNDLE \
        --config.data.name=SET --config.pca=pca.safetensors --workdir runs/prior_ar

Table 3 says 1B; self-attention and MLPs of its two transformers are 1.21B + 0.80B, to which our
reading, cross-attention in every block and own token tables, adds 0.40B.
"""

from ml_collections import ConfigDict

from unclip_jax.configs import common

VARIANTS = ("smoke",)


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config; variant "smoke" is a tiny one on procedural images."""
    common.check_variant(variant, VARIANTS)
    config = common.base("prior_ar")
    config.model = model()
    config.sampling.update(
        {
            "guidance": 1.0,  # the paper's value is not stated
            "dot_percentile": 50.0,  # paper: the upper half, best of 50, 70, 85 and 95
        }
    )
    # At this size train on stored embeddings, not on images: data.embeddings, eval.embeddings.
    config.data.update({"image_size": 256, "crop": "center"})
    config.optim.update(
        {
            "learning_rate": 1.6e-4,  # table 3: 1.6e-4
            "b1": 0.9,  # paper: 0.9
            "b2": 0.91,  # table 3: 0.91
            "eps": 1e-10,  # table 3: 1e-10
            "weight_decay": 4.0e-2,  # table 3: 4.0e-2
            "ema_decay": 0.999,  # table 3: 0.999
        }
    )
    config.train.update(
        {
            "steps": 1_000_000,  # table 3: 1M
            "batch_size": 4096,  # table 3: 4096
            "caption_drop": 0.1,  # paper: 10%, caption and z_t together
        }
    )
    common.on_a_pod(config)
    if variant == "smoke":
        config.model.trunk.update({"width": 16, "layers": 2, "heads": 2})
        config.model.encoder.update({"width": 24, "layers": 2, "heads": 2})
        config.model.codec.update({"components": 6, "buckets": 16, "dot_buckets": 16})
        config.model.update({"image_dim": None, "vocab_size": None, "context": None})
        common.smoke(config, image_size=16)
    return config


def model() -> ConfigDict:
    """Returns the sizes of the model."""
    return ConfigDict(
        {
            "trunk": {
                "width": 1664,  # table 3: latent decoder width 1664
                "layers": 24,  # table 3: latent decoder depth 24
                "heads": 26,  # table 3: latent decoder heads 26
                "scan_layers": True,  # ours
                "remat": "dots",  # ours: 43 GiB a chip of 64; "block": 8, takes 13% longer
            },
            "encoder": {
                "width": 2048,  # table 3: text encoder width 2048
                "layers": 24,  # table 3: text encoder depth 24
                "heads": 32,  # table 3: text encoder heads 32
                "scan_layers": True,  # ours
                "remat": "dots",  # as the trunk
            },
            "codec": {
                "components": 319,  # paper: 319 of 1024
                "buckets": 1024,  # paper: 1024
                "limit": 4.0,  # not stated
                "dot_buckets": 1024,  # not stated
            },
            "image_dim": 1024,  # paper: 1024
            "text": "tokens",  # our reading: table 3 gives the text encoder a context of its own
            "vocab_size": 49408,  # CLIP's
            "context": 256,  # table 3: text encoder context 256
            "text_emb_input": "unit",  # ours
            "positions": 384,  # table 3: latent decoder context 384
        }
    )
