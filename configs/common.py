"""The sections every training config has, with the values that are the same for most stages.

A config file returns `base(...)` with its own model and numbers in it; what it leaves out has the
default of its dataclass (train/config.py, data/config.py, …). The paper's table (2204.06125,
appendix C) is quoted beside each number; what it does not state is marked "ours".
"""

from ml_collections import ConfigDict, config_dict

from unclip_jax.core.config_dict import with_defaults
from unclip_jax.data.config import DataConfig
from unclip_jax.diffusion.config import DiffusionConfig, SamplingConfig
from unclip_jax.models.prior_ar import CodeSampling
from unclip_jax.nn.transformer import TransformerConfig
from unclip_jax.train.config import EvalConfig, OptimConfig, TrainConfig


def base(stage: str) -> ConfigDict:
    """Returns all sections; a stage fills in `model` and changes what differs."""
    config = ConfigDict()
    config.seed = 0
    config.stage = stage
    config.clip = ""  # bundle with the frozen CLIP: a folder or a shipped name
    config.init_from = ""  # bundle to fine-tune from
    config.model = ConfigDict()
    config.data = data()
    config.optim = with_defaults(ConfigDict({"learning_rate": 1e-4}), OptimConfig)
    config.train = with_defaults(ConfigDict({"steps": 10_000, "batch_size": 64}), TrainConfig)
    config.eval = with_defaults(ConfigDict(), EvalConfig)
    return config


def check_variant(variant: str, *known: str) -> None:
    """Refuses a misspelt variant, which would otherwise silently be the full config."""
    if variant not in ("", *known):
        raise ValueError(f"unknown variant {variant!r}; known: {', '.join(known)}")


def data(**values: object) -> ConfigDict:
    """A set, the emoji unless `name` says another, not augmented.

    `vocab_size` is that of a vocabulary trained on the captions.
    """
    return with_defaults(ConfigDict({"vocab_size": 0, **values}), DataConfig)


def captioned(**values: object) -> ConfigDict:
    """A captioned set of your own (`unclip data ingest`): --config.data.name=FOLDER."""
    return data(**{"name": "captioned", "crop": "center", **values})


def emoji_splits(config: ConfigDict) -> None:
    """Evaluates on what the emoji set holds out: combinations of style and concept; concepts."""
    config.eval.split = "test_combinations+test_concepts"


def at_scale(config: ConfigDict) -> None:
    """What a run of weeks on a pod wants; all of it ours."""
    config.optim.update({"warmup_steps": max(config.optim.warmup_steps, 2000), "clip_norm": 1.0})
    config.train.update({"log_every": 100, "save_every": 2000, "sample_every": 0})
    config.train.update({"keep_latest": 3, "keep_best": 1})
    config.eval.update({"every": 5000, "batches": 8, "batch_size": 512})
    config.data.update({"threads": 16, "prefetch": 8})  # of each process; a host has 100 and more


def on_a_workstation(config: ConfigDict, *, steps: int, batch_size: int) -> None:
    """What a run of hours or days on one machine wants; all of it ours."""
    config.train.update({"steps": steps, "batch_size": batch_size, "dtype": "bfloat16"})
    config.train.update({"save_every": 1000, "save_seconds": 900.0})
    config.data.update({"threads": 8, "prefetch": 8})


def transformer(**values: object) -> ConfigDict:
    """A stack of pre-norm blocks; width, layers and heads are the caller's."""
    return with_defaults(ConfigDict(values), TransformerConfig)


def diffusion(**values: object) -> ConfigDict:
    """The paper's noise: cosine, 1000 steps."""
    return with_defaults(ConfigDict(values), DiffusionConfig)


def sampling(**values: object) -> ConfigDict:
    """How the stage is sampled, for grids during training and as the bundle's default.

    x_0 is clipped where the caller says so: images have a range, embeddings have none.
    """
    section = with_defaults(
        ConfigDict({"x0_bound": config_dict.placeholder(float)}), SamplingConfig
    )
    section.update(values)
    return section


def code_sampling(**values: object) -> ConfigDict:
    """How an autoregressive prior is sampled; the paper states `dot_percentile` alone."""
    return with_defaults(ConfigDict(values), CodeSampling)


def smoke(config: ConfigDict, *, image_size: int) -> ConfigDict:
    """Makes a run of seconds out of a config whose model is already small: procedural images."""
    name = f"shapes:size={image_size},count=256"
    config.data.update({"name": name, "image_size": image_size, "concepts": "all", "styles": ()})
    config.data.update({"crop": "pad", "threads": 2, "prefetch": 4})
    config.train.update({"steps": 20, "batch_size": 8, "log_every": 2, "save_every": 5})
    config.train.update({"dtype": "float32", "save_seconds": None})
    config.train.mesh.update({"data": -1, "fsdp": 1, "tensor": 1})
    config.train.tensorboard = False
    config.eval.update(
        {"every": 10, "split": "test", "batches": 1, "batch_size": 8, "variance_passes": 2}
    )
    config.optim.update({"warmup_steps": 2, "ema_decay": 0.9})
    return config
