"""What several config files share: all sections with their defaults, scales of a run, smoke runs.

A config file returns `base(STAGE)` with its own numbers in it. What it leaves out has the default
of its dataclass (train/sections.py names them). Each number has its source in a comment: the
paper's table 3 (2204.06125, appendix C) or text, another paper, or "ours".
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

from unclip_jax.core.config_dict import with_defaults
from unclip_jax.models.stages import STAGES
from unclip_jax.train.sections import NAMES, section_classes


def base(stage: str) -> ConfigDict:
    """Returns all sections of a stage's config, with the defaults of their dataclasses.

    A config file fills in `model`, and the learning rate, the steps and the batch size, which have
    no default. `clip` is the bundle with the frozen CLIP, a folder or a shipped name; `init_from` a
    bundle to fine-tune from.
    """
    config = ConfigDict({"seed": 0, "stage": stage, **dict.fromkeys(NAMES, "")})
    for name, cls in section_classes(stage).items():
        config[name] = ConfigDict() if name == "model" else with_defaults(ConfigDict(), cls)
    return config


def check_variant(variant: str, known: Sequence[str]) -> None:
    """Rejects a misspelled variant, which would otherwise silently be the full config."""
    if variant not in ("", *known):
        raise ValueError(f"unknown variant {variant!r}; known: {', '.join(known)}")


def on_a_pod(config: ConfigDict) -> None:
    """Settings for a run of weeks on a pod; all of them ours."""
    config.train.update(
        {
            "dtype": "bfloat16",
            "mesh": {"data": 1, "fsdp": -1, "tensor": 1},
            "log_every": 100,
            "save_every": 2000,
            "sample_every": 0,
            "keep_latest": 3,
            "keep_best": 1,
        }
    )
    config.optim.update({"warmup_steps": max(config.optim.warmup_steps, 2000), "clip_norm": 1.0})
    config.eval.update({"every": 5000, "batches": 8, "batch_size": 512})
    config.data.update({"threads": 16, "prefetch": 8})  # of each process; a host has 100 and more


def on_a_workstation(config: ConfigDict, *, steps: int, batch_size: int) -> None:
    """Settings for a run of hours or days on one machine; all of them ours."""
    config.train.update({"steps": steps, "batch_size": batch_size, "dtype": "bfloat16"})
    config.train.update({"save_every": 1000, "save_seconds": 900.0})
    config.data.update({"threads": 8, "prefetch": 8})


def distill(config: ConfigDict, *, halvings: int, steps: int, learning_rate: float) -> None:
    """Settings of a few-step student of `config.init_from`; `config.sampling` is the teacher's.

    All of them ours, but for the learning rate that falls to 0 (Salimans & Ho 2022).
    """
    config.train.distill.halvings = halvings
    config.train.steps = steps
    config.optim.update({"learning_rate": learning_rate, "schedule": "cosine"})
    if config.diffusion.prediction == "eps":  # which has no x_0 in strong noise
        config.diffusion.prediction = "v"
        config.train.distill.update({"prediction": "eps", "first_span": 1})


def smoke_distill(config: ConfigDict) -> None:
    """Makes a student of seconds out of a smoke run: from 8 steps to 2."""
    config.sampling.update({"sampler": "ddim", "steps": 8, "step_list": None})
    distill(config, halvings=2, steps=20, learning_rate=config.optim.learning_rate)


def smoke(config: ConfigDict, *, image_size: int) -> None:
    """Makes a run of seconds out of a config with a small model: procedural images, random CLIP."""
    if config.stage == "clip" or STAGES[config.stage].needs_clip:
        config.data.vocab_size = 600
    if STAGES[config.stage].needs_clip:
        config.clip = "random"
    name = f"shapes:size={image_size},count=256"
    config.data.update({"name": name, "image_size": image_size, "concepts": "all", "styles": ()})
    config.data.update({"crop": "pad", "min_side": 0, "threads": 2, "prefetch": 4})
    config.train.update({"steps": 20, "batch_size": 8, "log_every": 2, "save_every": 5})
    config.train.update({"dtype": "float32", "save_seconds": None, "tensorboard": False})
    config.train.mesh.update({"data": -1, "fsdp": 1, "tensor": 1})
    config.eval.update({"every": 10, "split": "test", "batches": 1, "batch_size": 8})
    config.eval.variance_passes = 2
    config.optim.update({"warmup_steps": 2, "ema_decay": 0.9})
