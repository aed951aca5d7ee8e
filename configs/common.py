"""The sections every training config has, with the values that are the same for most stages.

A config file returns `base(...)` with its own model and numbers in it. The paper's table
(2204.06125, appendix C) is quoted beside each number; what it does not state is marked "ours".
"""

from ml_collections import ConfigDict, config_dict

CODEC = r"(^|/)codec_(mean|components|std|dots)$"  # what of an AR prior is fitted, not trained


def base(stage: str) -> ConfigDict:
    """Returns all sections; a stage fills in `model` and changes what differs."""
    config = ConfigDict()
    config.seed = 0
    config.stage = stage
    config.clip = ""  # bundle with the frozen CLIP: a folder or a shipped name
    config.init_from = ""  # bundle to fine-tune from
    config.model = ConfigDict()
    config.data = data()
    config.optim = optim()
    config.train = train()
    config.eval = ConfigDict(
        {
            "every": 1000,
            "split": "test_combinations+test_concepts",
            "embeddings": "",  # with data.embeddings: the store of this split
            "batches": 4,
            "batch_size": 64,
            "variance_passes": 16,
        }
    )
    return config


def check_variant(variant: str, *known: str) -> None:
    """Refuses a misspelt variant, which would otherwise silently be the full config."""
    if variant not in ("", *known):
        raise ValueError(f"unknown variant {variant!r}; there are {', '.join(known)}")


def optim() -> ConfigDict:
    """Adam with decoupled weight decay, b1 = 0.9 everywhere."""
    return ConfigDict(
        {
            "learning_rate": 1e-4,
            "b1": 0.9,  # paper: 0.9
            "b2": 0.999,
            "eps": 1e-8,
            "weight_decay": 0.0,
            "decay": "all",
            "schedule": "constant",  # the paper states no decay of the learning rate
            "warmup_steps": 0,
            "final_fraction": 0.0,
            "clip_norm": config_dict.placeholder(float),  # the paper states none
            "ema_decay": 0.9999,  # paper: 0.9999 (AR prior 0.999)
            "ema_warmup": True,  # ours
            "frozen": r"(^|/)clip_(mean|std)$",
        }
    )


def train() -> ConfigDict:
    """The loop's settings."""
    return ConfigDict(
        {
            "steps": 10_000,
            "batch_size": 64,
            "accumulation": 1,
            "dtype": "float32",
            "mesh": {"data": -1, "fsdp": 1, "tensor": 1},
            "log_every": 50,
            "save_every": 500,
            "save_seconds": config_dict.placeholder(float),
            "sample_every": 0,
            "keep_latest": 2,
            "keep_best": 1,
            "skip_limit": 10,
            "tensorboard": True,
            "cache_clip": False,
            "caption_drop": 0.0,
            "image_drop": 0.0,
            "prior_samples": "",  # decoder: a prior's samples (unclip embed --prior-draws)
            "prior_share": 0.5,  # share of examples that get one of them as z_i
            "crop_size": config_dict.placeholder(int),
            "blur_prob": 0.0,
            "blur_sigma": 0.6,
            "blur_kernel": 3,
        }
    )


def data(**values: object) -> ConfigDict:
    """The emoji set, not augmented."""
    fields = {
        "name": "emoji",
        "split": "train",
        "image_size": 64,
        "resize": "area",
        "crop": "pad",
        "concepts": "all",  # or "common", "no_flags", or labels joined by ", "
        "styles": (),
        "focus_concepts": "all",  # these are shown focus_times as often as the rest
        "focus_styles": (),
        "focus_times": 1,
        "captions": "random",
        "zoom": 0.0,
        "shift": 0.0,
        "window": 0,
        "degrade": "none",
        "embeddings": "",  # priors: store to train on in place of the pictures (unclip embed)
        "vocab_size": 0,  # of a vocabulary trained on the captions
    }
    return ConfigDict({**fields, **values})


def captioned(**values: object) -> ConfigDict:
    """A captioned set of your own (`unclip data ingest`): --config.data.name=FOLDER."""
    fields = {"name": "captioned", "crop": "center", **values}
    return data(**fields)


def at_scale(config: ConfigDict) -> None:
    """What a run of weeks on a pod wants; all of it ours."""
    config.optim.update({"warmup_steps": max(config.optim.warmup_steps, 2000), "clip_norm": 1.0})
    config.train.update({"log_every": 100, "save_every": 2000, "sample_every": 0})
    config.train.update({"keep_latest": 3, "keep_best": 1})
    config.eval.update({"every": 5000, "batches": 8, "batch_size": 512, "split": "test"})


def transformer(**values: object) -> ConfigDict:
    """A stack of pre-norm blocks; width, layers and heads are the caller's."""
    fields = {
        "mlp_ratio": 4.0,
        "activation": "gelu",
        "dropout": 0.0,
        "scan_layers": False,
        "remat": "none",
    }
    return ConfigDict({**fields, **values})


def diffusion(**values: object) -> ConfigDict:
    """The paper's noise: cosine, 1000 steps."""
    fields = {
        "schedule": "cosine",
        "num_steps": 1000,
        "prediction": "eps",
        "variance": "fixed_small",
        "loss": "simple",
        "vlb_weight": 0.001,
        "loss_weighting": "none",
        "min_snr_gamma": 5.0,
        "min_snr_floor": 0.0,
    }
    return ConfigDict({**fields, **values})


def sampling(**values: object) -> ConfigDict:
    """How the stage is sampled, for grids during training and as the bundle's default."""
    fields = {
        "sampler": "ddpm",
        "steps": 250,
        "step_list": config_dict.placeholder(tuple),
        "initial_noise_scale": config_dict.placeholder(float),
        "eta": 0.0,
        "guidance": 1.0,
        "clip": config_dict.placeholder(float),
        "threshold": config_dict.placeholder(float),
        "draws": 1,
    }
    made = ConfigDict(fields)
    made.update(values)
    return made


def code_sampling(**values: object) -> ConfigDict:
    """How an autoregressive prior is sampled."""
    fields = {
        "guidance": 1.0,
        "temperature": 1.0,  # not stated
        "top_p": 1.0,  # not stated
        "dot_percentile": 50.0,  # paper: the upper half
        "draws": 1,  # the paper keeps the better of two with the diffusion prior only
    }
    return ConfigDict({**fields, **values})


def smoke(config: ConfigDict, *, image_size: int) -> ConfigDict:
    """Makes a run of seconds out of a config whose model is already small: procedural pictures."""
    name = f"shapes:size={image_size},count=256"
    config.data.update({"name": name, "image_size": image_size, "concepts": "all", "styles": ()})
    config.data.crop = "pad"
    config.train.update({"steps": 20, "batch_size": 8, "log_every": 2, "save_every": 5})
    config.train.update({"dtype": "float32", "mesh": {"data": -1, "fsdp": 1, "tensor": 1}})
    config.train.tensorboard = False
    config.eval.update(
        {"every": 10, "split": "test", "batches": 1, "batch_size": 8, "variance_passes": 2}
    )
    config.optim.update({"warmup_steps": 2, "ema_decay": 0.9})
    return config
