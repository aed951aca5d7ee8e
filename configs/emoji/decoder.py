r"""Decoder of the emoji family: 64-px images from an image embedding and a caption.

    unclip train --config configs/emoji/decoder.py --config.clip=BUNDLE --workdir runs/decoder

learns from the embeddings of the images themselves, as the paper does. What ships is then tuned on
embeddings that the prior samples from the captions, since that is what it gets at sampling:

    unclip export runs/clip runs/prior_tuned --out runs/prior_bundle
    unclip embed --bundle runs/prior_bundle --concepts everyday --styles 3d,flat --crop pad \
        --prior-draws 1 --out runs/prior_samples
    unclip export runs/clip runs/decoder --out runs/decoder_bundle
    unclip train --config configs/emoji/decoder.py:tune --config.clip=BUNDLE \
        --config.init_from=runs/decoder_bundle --workdir runs/decoder_tuned \
        --config.train.prior_samples=runs/prior_samples/prior_samples.safetensors

A student that needs 5 steps, without guidance, in place of 40 with it:

    unclip train --config configs/emoji/decoder.py:distill --config.clip=emoji \
        --config.init_from=emoji --workdir runs/decoder_student

Sizes of the model that are None are those of the bundle's CLIP.
"""

from ml_collections import ConfigDict

from unclip_jax.configs import common
from unclip_jax.configs.emoji import use_emoji

VARIANTS = ("tune", "baseline", "distill", "smoke", "smoke_glide", "smoke_distill")


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config.

    The variant "tune" is the second phase, on a prior's samples; "baseline" costs as much as GLIDE
    and DALL·E together with that of the prior (configs/emoji/dvae.py); "distill" trains a few-step
    student. "smoke" has procedural images and an untrained CLIP; "smoke_glide" also reads captions
    as the paper does, by a text encoder of the decoder's own; "smoke_distill" is a student's.
    """
    common.check_variant(variant, VARIANTS)
    config = common.base("decoder")
    config.model = model()
    config.embedding_norm.scale = None  # paper: 17.2 at width 1024, so 0.5375 sqrt(width)
    diffusion(config)
    use_emoji(config, image_size=64, concepts="everyday", styles=("3d", "flat"))
    config.optim.update(
        {
            "learning_rate": 1.5e-3,  # paper: 1.2e-4
            "b2": 0.99,  # paper: 0.999
            "eps": 1e-8,  # paper: 1e-8
            "schedule": "cosine",  # ours
            "warmup_steps": 200,  # ours
            "clip_norm": 1.0,  # ours
            "ema_decay": 0.999,  # paper: 0.9999, for 800K iterations
        }
    )
    config.train.update(
        {
            "steps": 5_000,  # paper: 800K
            "batch_size": 256,  # paper: 2048
            "caption_drop": 0.5,  # paper: 50%
            "image_drop": 0.1,  # paper: 10%
            "cache_clip": True,  # images are not augmented
            "sample_every": 1000,
        }
    )
    if variant in ("", "tune"):
        few_steps(config)
    if variant == "tune":
        config.train.update({"steps": 1_300, "batch_size": 64})
        config.train.update({"prior_share": 0.7, "prior_cosine": 0.85})
        config.optim.update({"learning_rate": 4e-4, "warmup_steps": 100, "ema_decay": 0.997})
    if variant == "baseline":
        config.train.update({"steps": 693, "batch_size": 64, "save_every": 100})
        config.optim.update({"learning_rate": 1e-3, "warmup_steps": 50, "ema_decay": 0.995})
    if variant == "distill":
        student(config)
    if variant.startswith("smoke"):
        smoke(config)
    if variant == "smoke_distill":
        common.smoke_distill(config)
    if variant == "smoke_glide":
        transformer = {"width": 16, "layers": 1, "heads": 2}  # paper: 2048, 24, 32
        config.model.text = "transformer"
        config.model.text_encoder = ConfigDict(
            {"vocab_size": None, "context": None, "transformer": transformer}  # paper: context 256
        )
        config.model.unet.attention_resolutions = (8,)
    return config


def model() -> ConfigDict:
    """Returns the sizes of the U-Net and how it is conditioned."""
    return ConfigDict(
        {
            "unet": {
                "image_size": 64,  # paper: 64
                "channels": 64,  # paper: 512
                "channel_mult": (1, 2, 2),  # paper: 1, 2, 3, 4
                "res_blocks": 1,  # paper: 3
                "out_channels": 6,  # noise and variance
                "attention_resolutions": (8,),  # paper: 32, 16, 8
                "head_channels": 64,  # paper: 64
                "dropout": 0.0,  # paper: 0.1
                "norm_groups": 16,  # ADM: 32
                "time_width": 256,  # ADM: 4 x channels
                "patch": 4,  # ours; ADM has no such stem
            },
            "context_dim": 128,  # paper: 2048
            "text": "clip_states",  # paper: its own text encoder
            "text_emb_input": "unit",
            "image_tokens": 4,  # paper: 4
            "null_image": "learned",  # paper: zeros or a learned embedding
            "mask_text": True,
        }
    )


def diffusion(config: ConfigDict) -> None:
    """Sets what the network predicts, and how it is sampled."""
    config.diffusion.update(
        {
            # Paper: the noise; a small net with a coarse stem learns x_0 sooner.
            "prediction": "x0",
            "variance": "learned_range",  # paper: learned
            "loss": "hybrid",
            "vlb_weight": 1e-4,  # iDDPM: 1e-3; ours: less of it suits a small net
            "loss_weighting": "min_snr",  # ours
            "min_snr_floor": 1.0,  # ours: strong noise is where layout is learnt
        }
    )
    config.sampling.update(
        {
            "sampler": "ddim",  # paper: 250 strided steps with the learned variance
            "steps": 40,
            "step_list": step_list(40),
            "guidance": 1.5,  # paper: 1.25 for FID
        }
    )


def few_steps(config: ConfigDict) -> None:
    """Sets what the shipped decoder is sampled with: as good as 40 steps of DDIM, and faster."""
    config.sampling.update({"sampler": "dpm++", "steps": 15, "step_list": step_list(15)})


def step_list(steps: int) -> tuple[int, ...]:
    """Returns levels of which the last is t = 100: below, so small a net adds a pattern."""
    return tuple(round(999 - 899 * k / (steps - 1)) for k in range(steps))


def student(config: ConfigDict) -> None:
    """Makes a run of a few-step student: from 40 steps to 5."""
    common.distill(config, halvings=3, steps=800, learning_rate=3e-4)
    config.train.update({"batch_size": 32, "prior_share": 0.6, "caption_drop": 0.1})
    config.train.update({"save_every": 100, "sample_every": 200})
    config.optim.update({"warmup_steps": 50, "ema_decay": 0.99})


def smoke(config: ConfigDict) -> None:
    """Makes the model tiny and the run short."""
    config.model.context_dim = 16
    config.model.unet.update({"image_size": 16, "channels": 16, "channel_mult": (1, 2)})
    config.model.unet.update({"res_blocks": 1, "attention_resolutions": (), "head_channels": 16})
    config.model.unet.update({"norm_groups": 8, "time_width": 32, "patch": 2})
    config.sampling.update({"steps": 5, "step_list": None})
    common.smoke(config, image_size=16)
    config.train.sample_every = 10
