"""The optim, train and eval sections of a training config, as frozen dataclasses.

The optimizer's fields are the rows of the paper's table (2204.06125, appendix C); warm-up, decay
of the learning rate and clipping are not stated there and default to off.
"""

import dataclasses
import re
from typing import Literal

from unclip_jax.core.checks import (
    ANY,
    BELOW_ONE,
    COUNT,
    COUNT_OR_NONE,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    check_ranges,
)
from unclip_jax.diffusion.config import Prediction


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """Adam with decoupled weight decay, and the moving average of the parameters.

    Attributes:
        learning_rate: Peak learning rate, after the warm-up.
        b1: Decay rate of Adam's first moment.
        b2: Decay rate of Adam's second moment.
        eps: Added to the root of Adam's second moment.
        weight_decay: Decoupled weight decay, scaled by the learning rate.
        decay: Which parameters decay; "matrices" leaves out biases and gains, as CLIP does.
        schedule: Learning rate after the warm-up; "cosine" decays to 0 at the last step.
        warmup_steps: Steps of linear warm-up.
        clip_norm: Gradients are clipped to this global norm; None is off.
        ema_decay: Decay d of the exponential moving average (EMA) of the parameters.
        ema_warmup: Whether the EMA's decay warms up as min(d, (1 + n) / (10 + n)) after n updates.
        frozen: Regular expression of further parameter paths that are not trained; fitted
            statistics and codecs never are.
    """

    learning_rate: float
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    decay: Literal["all", "matrices"] = "all"
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = 0
    clip_norm: float | None = None
    ema_decay: float = 0.9999
    ema_warmup: bool = True
    frozen: str = ""

    def __post_init__(self):
        """Checks ranges, and that `frozen` is a regular expression."""
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
    """Sizes of the device mesh's axes; one of them may be -1, for all remaining devices.

    Attributes:
        data: Size of the axis over which the batch is split and parameters are replicated; -1 is 1
            if another axis is -1.
        fsdp: Size of the axis over which both the batch and the parameters are split.
        tensor: Size of the axis over which widths and attention heads are split.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1

    def __post_init__(self):
        """Checks that every size is positive or -1."""
        for name in ("data", "fsdp", "tensor"):
            if getattr(self, name) < 1 and getattr(self, name) != -1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1, or -1")


@dataclasses.dataclass(frozen=True)
class DistillConfig:
    """Training of a few-step student, one of whose steps spans several of its teacher's.

    The teacher is the bundle `config.init_from`, sampled as `config.sampling` says; the last two
    fields are filled in from there, and `config.sampling` then becomes the student's.

    Attributes:
        halvings: How often the teacher's steps are halved; 0 is ordinary training.
        first_span: Steps of the teacher that one of the student spans at first, 1 or 2. A student
            that predicts something else than its teacher first learns single steps.
        last_share: Share of the training in which a step spans as many as in the end.
        prediction: What the teacher's network predicts; "same" is what the student's does.
        step_list: The teacher's timesteps.
        guidance: The teacher's guidance scale.
    """

    halvings: int = 0
    first_span: int = 2
    last_share: float = 0.5
    prediction: Literal["same", "eps", "x0", "v"] = "same"
    step_list: tuple[int, ...] | None = None
    guidance: float | None = None

    def __post_init__(self):
        """Checks ranges."""
        check_ranges(self, halvings=(0, 16), first_span=(1, 2), last_share=SHARE, guidance=ANY)

    def teacher_prediction(self, own: Prediction) -> Prediction:
        """Returns what the teacher predicts, given what the student does."""
        return own if self.prediction == "same" else self.prediction

    @property
    def last_span(self) -> int:
        """Steps of the teacher that one of the finished student spans."""
        return 2**self.halvings


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The training loop, and what is specific to the training of a stage.

    Attributes:
        steps: Number of optimizer steps.
        batch_size: Global batch size, over all devices and processes.
        accumulation: Microbatches a step; the same result with less memory.
        dtype: Type of the computation; parameters are float32.
        mesh: Sizes of the device mesh's axes.
        sharding_rules: Pairs (logical axis, mesh axis or None) that take precedence over the
            default sharding rules; the first match wins.
        log_every: Steps between two rows of metrics.
        save_every: Steps between two checkpoints.
        save_seconds: Also save when this long has passed since the last checkpoint.
        sample_every: Steps between two grids of samples; 0 is never.
        keep_latest: Number of newest checkpoints that are kept.
        keep_best: Number of checkpoints kept by their held-out loss.
        skip_limit: Consecutive non-finite updates that stop the run.
        tensorboard: Whether to write TensorBoard events.
        cache_clip: Whether to encode all images and captions by CLIP once, at the start; only for
            images that are not augmented.
        caption_drop: Share of examples that get the empty caption.
        image_drop: Share of examples that get the null image embedding.
        prior_samples: File with a prior's samples (`unclip embed --prior-draws`); decoder only.
        prior_share: Share of examples whose z_i is drawn from `prior_samples`.
        prior_cosine: Least cosine of such a sample to the example's own z_i, which it keeps
            otherwise: where a caption has several images, a sample may mean another of them.
        crop_size: Side of a random crop of the target; upsamplers only.
        blur_prob: Share of low-resolution inputs that are blurred; upsamplers only.
        blur_sigma: Standard deviation of that blur in pixels.
        blur_kernel: Side of that blur's kernel in pixels.
        sam_rho: Radius of the sharpness-aware perturbation (SAM); CLIP only, None or 0 is off.
        sam_group: Examples that share one perturbation.
        gumbel_temperature: Temperature of the relaxed tokens at the end; the discrete VAE only.
        gumbel_steps: Steps in which it falls to that from 1.
        kl_weight: Weight beta of the KL to uniform tokens at the end; the discrete VAE only.
        kl_steps: Steps in which it rises to that from 0.
        distill: Few-step distillation; decoders and upsamplers only.
    """

    steps: int
    batch_size: int
    accumulation: int = 1
    dtype: Literal["float32", "bfloat16"] = "float32"
    mesh: MeshConfig = MeshConfig()
    sharding_rules: tuple[tuple[str, str | None], ...] = ()
    log_every: int = 50
    save_every: int = 500
    save_seconds: float | None = None
    sample_every: int = 0
    keep_latest: int = 2
    keep_best: int = 1
    skip_limit: int = 10
    tensorboard: bool = True
    cache_clip: bool = False
    caption_drop: float = 0.0
    image_drop: float = 0.0
    prior_samples: str = ""
    prior_share: float = 0.5
    prior_cosine: float = -1.0
    crop_size: int | None = None
    blur_prob: float = 0.0
    blur_sigma: float = 0.6
    blur_kernel: int = 3
    sam_rho: float | None = None
    sam_group: int = 64
    gumbel_temperature: float = 1 / 16
    gumbel_steps: int = 150_000
    kl_weight: float = 6.6
    kl_steps: int = 5_000
    distill: DistillConfig = DistillConfig()

    @property
    def is_student(self) -> bool:
        """Whether a few-step student is trained."""
        return self.distill.halvings > 0

    def __post_init__(self):
        """Checks ranges, and that the batch can be split into microbatches and groups."""
        counts = ("batch_size", "accumulation", "log_every", "save_every", "keep_latest")
        shares = ("caption_drop", "image_drop", "prior_share", "blur_prob")
        check_ranges(
            self,
            **dict.fromkeys(
                (*counts, "skip_limit", "crop_size", "blur_kernel", "sam_group"), COUNT
            ),
            **dict.fromkeys(("steps", "sample_every", "keep_best"), COUNT_OR_NONE),
            **dict.fromkeys(("gumbel_steps", "kl_steps"), COUNT_OR_NONE),
            gumbel_temperature=POSITIVE,
            kl_weight=NOT_NEGATIVE,
            **dict.fromkeys(shares, SHARE),
            prior_cosine=(-1.0, 1.0),
            save_seconds=NOT_NEGATIVE,
            blur_sigma=POSITIVE,
            sam_rho=NOT_NEGATIVE,
        )
        if self.batch_size % self.accumulation:
            raise ValueError(
                f"accumulation={self.accumulation} must divide batch_size={self.batch_size}"
            )
        if self.sam_rho and self.accumulation > 1:
            raise ValueError("sam_rho already works group by group: accumulation must be 1")
        if self.sam_rho and self.batch_size % self.sam_group:
            raise ValueError(f"sam_group={self.sam_group} must divide batch_size={self.batch_size}")


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Evaluation of the held-out loss, on the same examples, timesteps and noise every time.

    Attributes:
        every: Steps between two evaluations.
        split: Held-out split; several are joined by "+".
        batches: Batches that are evaluated; 0 turns evaluation off.
        batch_size: Global batch size of the evaluation.
        embeddings: Store of embeddings of `split`, if data.embeddings is one of data.split.
        variance_passes: Passes over the held-out batches that estimate the analytic variance.
    """

    every: int = 1000
    split: str = "test"
    batches: int = 4
    batch_size: int = 64
    embeddings: str = ""
    variance_passes: int = 16

    def __post_init__(self):
        """Checks ranges."""
        check_ranges(
            self,
            **dict.fromkeys(("every", "batch_size", "variance_passes"), COUNT),
            batches=COUNT_OR_NONE,
        )
