"""What a training run may be told, as frozen dataclasses; `core.config.build` fills them strictly.

The optimiser's fields are the rows of the paper's table (2204.06125, appendix C); warm-up, decay
of the learning rate and clipping are not stated there and default to off.
"""

import dataclasses
from typing import Literal


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
    final_fraction: float = 0.0  # of the learning rate, at the end of the cosine
    clip_norm: float | None = None
    ema_decay: float = 0.9999
    ema_warmup: bool = True  # decay min(d, (1 + n) / (10 + n)) after n updates
    frozen: str = r"(^|/)clip_(mean|std)$"  # parameters that match are not trained


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Sizes of the mesh axes; one of them may be -1: whatever devices are left."""

    data: int = -1
    fsdp: int = 1
    tensor: int = 1


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The loop: how long, how large a batch, and how often it does what."""

    steps: int
    batch_size: int  # over all devices and processes
    accumulation: int = 1  # micro-batches a step; same result, less memory
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the computation; parameters are float32
    mesh: MeshConfig = MeshConfig()
    log_every: int = 50
    save_every: int = 1000
    save_seconds: float | None = None  # also save when this long has passed since the last save
    sample_every: int = 0  # 0: no pictures
    keep_latest: int = 2
    keep_best: int = 1
    skip_limit: int = 10  # non-finite updates in a row that stop the run
    tensorboard: bool = True
    cache_clip: bool = False  # encode the un-augmented images and captions once, at the start
    caption_drop: float = 0.0  # share of examples that get the empty caption
    image_drop: float = 0.0  # share of examples that get the null image embedding
    crop_size: int | None = None  # upsampler: side of the random crop of the target
    blur_prob: float = 0.0  # upsampler: share of inputs that are blurred
    blur_sigma: float = 0.6
    blur_kernel: int = 3

    def __post_init__(self):
        """Refuses a batch that cannot be cut into the micro-batches."""
        if self.batch_size % self.accumulation:
            raise ValueError(f"{self.accumulation=} must divide {self.batch_size=}")


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Held-out loss: the same examples, timesteps and noise every time."""

    every: int = 1000
    split: str = "test_combinations"
    batches: int = 4
    batch_size: int = 64
    variance_passes: int = 16  # over the held-out batches, for the analytic variance's table
