"""CLIP at the paper's size: ViT-H/16 at 256 px and a text tower of 24 blocks.

    unclip train --config configs/paper/clip.py --config.data.name=SET --workdir runs/clip

The paper draws from two sets with equal probability, CLIP's and DALL-E's: a second one is shown as
often as the first with --config.data.mix="('SET2',)", otherwise with --config.data.mix_weights.
Where the paper states nothing it trains "as CLIP"; numbers marked CLIP are of 2103.00020.
"""

from ml_collections import ConfigDict

from unclip_jax.configs import common

PAIRS = 650_000_000  # paper: CLIP's and DALL-E's sets, drawn from with equal probability
EPOCHS = 32  # CLIP
VARIANTS = ("smoke",)


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config; variant "smoke" is a tiny one on procedural images."""
    common.check_variant(variant, VARIANTS)
    config = common.base("clip")
    config.model = model()
    # CLIP: a random square crop of the resized image is the only augmentation.
    config.data.update({"image_size": 256, "crop": "random", "vocab_size": 49408})
    config.optim.update(
        {
            "learning_rate": 3e-4,  # paper: 3e-4
            "b1": 0.9,  # paper: 0.9
            "b2": 0.98,  # CLIP
            "eps": 1e-6,  # CLIP
            "weight_decay": 0.2,  # CLIP
            "decay": "matrices",  # CLIP: all but gains and biases
            "schedule": "cosine",  # CLIP
            "warmup_steps": 2000,  # CLIP
            "ema_decay": 0.999,  # ours; none is stated
        }
    )
    config.train.update(
        {
            "steps": PAIRS * EPOCHS // 32768,
            "batch_size": 32768,  # CLIP
            "sam_rho": 0.1,  # paper: SAM, rho 0.1
            # Paper: 64, each replica by itself. Ours: more, as a group is spread over all chips,
            # which sum its gradients. It is the weaker form, which may leave z_i a higher rank:
            # see docs/plans.md, and before the AR prior `unclip embed --fit-pca`.
            "sam_group": 4096,
        }
    )
    common.on_a_pod(config)
    # Ours: every chip holds all parameters, 15 GiB with the optimizer, which the passes of SAM then
    # need not gather.
    config.train.mesh.update({"data": -1, "fsdp": 1})
    config.eval.update({"batches": 4, "batch_size": 1024})
    if variant == "smoke":
        config.model.embed_dim = 16
        config.model.vision.update({"image_size": 16, "patch_size": 8, "width": 16, "layers": 2})
        config.model.vision.heads = 2
        config.model.text.update({"vocab_size": None, "width": 16, "layers": 2, "heads": 2})
        config.model.text.context = 16
        common.smoke(config, image_size=16)
        config.train.sam_group = 4
    return config


def model() -> ConfigDict:
    """Returns the sizes of the model."""
    return ConfigDict(
        {
            "embed_dim": 1024,  # paper: 1024 (the PCA keeps 319 of 1,024)
            "vision": {
                "image_size": 256,  # paper: 256
                "patch_size": 16,  # paper: 16
                "width": 1280,  # paper: 1280
                "layers": 32,  # paper: 32
                "heads": 16,  # not stated; OpenCLIP's ViT-H
            },
            "text": {
                "vocab_size": 49408,  # CLIP
                "width": 1024,  # paper: 1024
                "layers": 24,  # paper: 24
                "heads": 16,  # not stated; OpenCLIP's ViT-H
                "context": 77,  # CLIP
            },
            "activation": "quick_gelu",  # CLIP
            "scan_layers": True,  # ours
            "remat": "dots",  # ours: 44 GiB a chip, parameters and all
        }
    )
