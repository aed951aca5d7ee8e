"""What a training run may be told, as frozen dataclasses; `core.config.build` fills them strictly.

The optimiser's fields are the rows of the paper's table (2204.06125, appendix C); warm-up, decay
of the learning rate and clipping are not stated there and default to off.
"""

import dataclasses
import re
from typing import Literal

from unclip_jax.core.checks import (
    BELOW_ONE,
    COUNT,
    COUNT_OR_NONE,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    check_ranges,
)


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """Adam with decoupled weight decay, and the moving average of the parameters."""

    learning_rate: float
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    decay: Literal["all", "matrices"] = "all"  # "matrices": CLIP's, off for biases and gains
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = 0
    clip_norm: float | None = None
    ema_decay: float = 0.9999
    ema_warmup: bool = True  # decay min(d, (1 + n) / (10 + n)) after n updates
    frozen: str = ""  # further parameters that are not trained; fitted ones never are

    def __post_init__(self):
        """Refuses numbers with which nothing can be trained."""
        check_ranges(
            self,
            learning_rate=NOT_NEGATIVE,
            b1=BELOW_ONE,
            b2=BELOW_ONE,
            eps=NOT_NEGATIVE,
            weight_decay=NOT_NEGATIVE,
            warmup_steps=COUNT_OR_NONE,
            clip_norm=POSITIVE,
            ema_decay=SHARE,
        )
        try:
            re.compile(self.frozen)
        except re.error as error:
            raise ValueError(
                f"frozen={self.frozen!r} is not a regular expression: {error}"
            ) from error


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Sizes of the mesh axes; one of them may be -1: whatever devices are left."""

    data: int = -1
    fsdp: int = 1
    tensor: int = 1

    def __post_init__(self):
        """Refuses sizes that are neither a count nor -1."""
        for name in ("data", "fsdp", "tensor"):
            if getattr(self, name) < 1 and getattr(self, name) != -1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1, or -1")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The loop: how long, how large a batch, and how often it does what."""

    steps: int
    batch_size: int  # over all devices and processes
    accumulation: int = 1  # micro-batches a step; same result, less memory
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the computation; parameters are float32
    mesh: MeshConfig = MeshConfig()
    sharding_rules: tuple[tuple[str, str | None], ...] = ()  # (logical axis, mesh axis), first wins
    log_every: int = 50
    save_every: int = 500
    save_seconds: float | None = None  # also save when this long has passed since the last save
    sample_every: int = 0  # 0: no pictures
    keep_latest: int = 2
    keep_best: int = 1
    skip_limit: int = 10  # non-finite updates in a row that stop the run
    tensorboard: bool = True
    cache_clip: bool = False  # encode the un-augmented images and captions once, at the start
    caption_drop: float = 0.0  # share of examples that get the empty caption
    image_drop: float = 0.0  # share of examples that get the null image embedding
    prior_samples: str = ""  # decoder: file of a prior's samples (unclip embed --prior-draws)
    prior_share: float = 0.5  # share of examples whose z_i is one of them
    crop_size: int | None = None  # upsampler: side of the random crop of the target
    blur_prob: float = 0.0  # upsampler: share of inputs that are blurred
    blur_sigma: float = 0.6
    blur_kernel: int = 3
    sam_rho: float | None = None  # CLIP: size of the sharpness-aware perturbation; None, 0 = none
    sam_group: int = 64  # examples that are perturbed together

    def __post_init__(self):
        """Refuses numbers out of range, and a batch that cannot be cut into micro-batches."""
        counts = ("batch_size", "accumulation", "log_every", "save_every", "keep_latest")
        shares = ("caption_drop", "image_drop", "prior_share", "blur_prob")
        check_ranges(
            self,
            **dict.fromkeys(
                (*counts, "skip_limit", "crop_size", "blur_kernel", "sam_group"), COUNT
            ),
            **dict.fromkeys(("steps", "sample_every", "keep_best"), COUNT_OR_NONE),
            **dict.fromkeys(shares, SHARE),
            save_seconds=NOT_NEGATIVE,
            blur_sigma=POSITIVE,
            sam_rho=NOT_NEGATIVE,
        )
        if self.batch_size % self.accumulation:
            raise ValueError(
                f"accumulation={self.accumulation} must divide batch_size={self.batch_size}"
            )
        if self.sam_rho and self.accumulation > 1:
            raise ValueError("sam_rho goes group by group already: accumulation must be 1")
        if self.sam_rho and self.batch_size % self.sam_group:
            raise ValueError(f"sam_group={self.sam_group} must divide batch_size={self.batch_size}")


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Held-out loss: the same examples, timesteps and noise every time."""

    every: int = 1000
    split: str = "test"
    batches: int = 4
    batch_size: int = 64
    embeddings: str = ""  # store of `split`, where data.embeddings is one of data.split
    variance_passes: int = 16  # over the held-out batches, for the analytic variance's table

    def __post_init__(self):
        """Refuses counts out of range."""
        check_ranges(
            self,
            **dict.fromkeys(("every", "batch_size", "variance_passes"), COUNT),
            batches=COUNT_OR_NONE,
        )
