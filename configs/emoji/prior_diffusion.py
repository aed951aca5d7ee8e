r"""Diffusion prior of the emoji family: from a caption's CLIP features to an image embedding.

    unclip train --config configs/emoji/prior_diffusion.py --config.clip=BUNDLE --workdir runs/prior

learns from all concepts but flags in all styles. What ships is then trained on with the drawings of
the decoder shown as often as all others together, and without dropout:

    unclip export runs/clip runs/prior --out runs/prior_bundle
    unclip train --config configs/emoji/prior_diffusion.py:tune --config.clip=BUNDLE \
        --config.init_from=runs/prior_bundle --workdir runs/prior_tuned

Sizes of the model that are None are those of the bundle's CLIP.
"""

from ml_collections import ConfigDict

from unclip_jax.configs import common
from unclip_jax.configs.emoji import use_emoji

VARIANTS = ("tune", "baseline", "smoke")


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config.

    The variant "tune" is the second phase. "baseline" costs as much as GLIDE and DALL·E together
    with that of the decoder (configs/emoji/dvae.py). "smoke" has procedural images, an untrained
    CLIP and caption tokens.
    """
    common.check_variant(variant, VARIANTS)
    config = common.base("prior_diffusion")
    config.model = model()
    config.embedding_norm.scale = None  # paper: 17.2 at width 1024, so 0.5375 sqrt(width)
    config.diffusion.update(
        {
            "prediction": "x0",  # paper: predicts z_i itself, mean squared error
            "variance": "analytic",  # paper: analytic
        }
    )
    config.sampling.update(
        {
            "steps": 8,  # paper: 64; here 8 come nearer to held-out embeddings, or as near
            "num_candidates": 8,  # paper: 2, the one nearest to z_t is kept
            "guidance": 3.0,  # the paper's value is not stated
            "x0_bound": None,  # embeddings have no range
        }
    )
    use_emoji(config, image_size=64, concepts="no_flags")
    config.optim.update(
        {
            "learning_rate": 5e-4,  # paper: 1.1e-4
            "b2": 0.96,  # paper: 0.96
            "eps": 1e-6,  # paper: 1e-6
            "weight_decay": 6.0e-2,  # paper: 6.0e-2
            "schedule": "cosine",  # ours
            "warmup_steps": 200,  # ours
            "clip_norm": 1.0,  # ours
            "ema_decay": 0.999,  # paper: 0.9999, for 600K iterations
        }
    )
    config.train.update(
        {
            "steps": 3_000,  # paper: 600K
            "batch_size": 256,  # paper: 4096
            "caption_drop": 0.1,  # paper: 10%, caption and z_t together
            "cache_clip": True,  # images are not augmented
        }
    )
    if variant == "tune":
        second_phase(config)
    if variant == "baseline":
        use_emoji(config, image_size=64, concepts="everyday", styles=("3d", "flat"))
        config.train.update({"steps": 1_200, "batch_size": 64})
        config.sampling.update({"num_candidates": 2, "guidance": 2.0})
    if variant == "smoke":
        config.model.text = "tokens"  # the paper's path, so that it too is exercised
        config.model.transformer.update({"width": 16, "layers": 1, "heads": 2})
        common.smoke(config, image_size=16)
    return config


def second_phase(config: ConfigDict) -> None:
    """Shows the decoder's drawings as often as all others together, and drops nothing out."""
    config.data.update({"mix": (config.data.name,), "mix_concepts": "everyday"})
    config.data.mix_styles = ("3d", "flat")
    config.model.transformer.dropout = 0.0
    config.train.update({"steps": 4_000, "batch_size": 128})
    config.optim.update({"learning_rate": 7e-4, "ema_decay": 0.995})


def model() -> ConfigDict:
    """Returns the sizes of the transformer and how it reads captions."""
    return ConfigDict(
        {
            "transformer": {
                "width": 128,  # paper: 2048
                "layers": 4,  # paper: 24
                "heads": 2,  # paper: 32
                "dropout": 0.15,  # ours; the paper states none
            },
            "text": "clip_states",  # paper: own tokens (our reading); Karlo: CLIP's states
            "context": None,  # paper: 256
            "text_emb_input": "unit",
            "mask_text": True,
        }
    )
