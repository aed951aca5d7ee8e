"""Static settings of the diffusion core: how a network is trained, and how it is sampled.

Both are frozen, hashable dataclasses of plain values, so they may be static arguments of `jax.jit`.
"""

import dataclasses
from typing import Literal, get_args

from unclip_jax.core.checks import ANY, COUNT, NOT_NEGATIVE, POSITIVE, SHARE, check_ranges
from unclip_jax.core.renamed import renamed

MOST_STEPS = 2**17  # noise levels; tables of them are made when a config is read

ScheduleName = Literal["cosine", "linear"]
Prediction = Literal["eps", "x0", "v"]
Variance = Literal["fixed_small", "fixed_large", "learned_range", "analytic"]
LossName = Literal["simple", "hybrid", "vlb"]
LossWeighting = Literal["none", "min_snr"]
SamplerName = Literal["ddpm", "ddim", "dpm++"]
SAMPLER_NAMES: tuple[SamplerName, ...] = get_args(SamplerName)
"""Names of `samplers.SAMPLERS`; this module imports no JAX, so that commands read them at once."""


@dataclasses.dataclass(frozen=True)
class DiffusionConfig:
    """What a denoising network predicts, over which noise levels, and its training loss.

    Attributes:
        schedule: noise schedule of the forward process.
        num_steps: timesteps of the forward process.
        prediction: what the network predicts: the noise, the data, or v (Salimans & Ho 2022).
        variance: of an ancestral (DDPM) step; "learned_range" doubles the network's channels.
        loss: "simple" is the squared error of the prediction; "hybrid" adds the variational bound
            with its mean frozen (iDDPM); "vlb" is the bound alone.
        vlb_weight: lambda of L_simple + lambda L_vlb, where L_vlb is the sum over all steps, in
            bits per dimension: 0.001 at 1000 steps puts weight 1 on the bound of the drawn step.
        loss_weighting: "min_snr" (Hang et al. 2023) is our option; unCLIP does not use it.
        min_snr_gamma: the signal-to-noise ratio at which that weight is cut off.
        min_snr_floor: least weight of x_0, which min-SNR lets go to 0 in strong noise, where the
            layout of an image is decided. Ours.
    """

    schedule: ScheduleName = "cosine"
    num_steps: int = 1000
    prediction: Prediction = "eps"
    variance: Variance = "fixed_small"
    loss: LossName = "simple"
    vlb_weight: float = 0.001
    loss_weighting: LossWeighting = "none"
    min_snr_gamma: float = 5.0
    min_snr_floor: float = 0.0

    def __post_init__(self) -> None:
        check_ranges(
            self,
            num_steps=(2, MOST_STEPS),
            vlb_weight=NOT_NEGATIVE,
            min_snr_gamma=POSITIVE,
            min_snr_floor=(0.0, self.min_snr_gamma),
        )
        if self.loss == "hybrid" and self.variance != "learned_range":
            raise ValueError(
                f"loss='hybrid' trains a learned variance, but variance={self.variance!r}; "
                "use variance='learned_range' or loss='simple'"
            )
        if self.loss == "vlb" and self.variance == "analytic":
            raise ValueError("loss='vlb' needs a variance known in training, not 'analytic'")

    @property
    def learns_variance(self) -> bool:
        """Whether the network returns twice its input's channels."""
        return self.variance == "learned_range"


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """How a trained network is sampled.

    Attributes:
        sampler: "ddpm" draws ancestral steps, "ddim" follows eta, "dpm++" is DPM-Solver++(2M).
        steps: number of network evaluations, spaced by OpenAI's rule (`respaced_steps`).
        step_list: explicit timesteps, descending; overrides `steps`.
        eta: DDIM's noise, 0 (deterministic) to 1 (the DDPM posterior); "ddim" only.
        guidance: classifier-free guidance scale; 1 is off.
        guidance_interval: noise levels (low, high): guidance acts where low < sigma / alpha <=
            high, and elsewhere the unconditional half is not computed (Kynkäänniemi et al. 2024).
            None for all levels.
        x0_bound: largest |x0| of an estimate, which is clipped to it; None for none.
        threshold: dynamic thresholding's quantile of |x0| in (0, 1], None for off; replaces
            `x0_bound`.
        num_candidates: samples drawn per example, of which the best is kept (the prior's two).
        initial_noise_scale: factor of the noise that sampling starts from, None for 1. GLIDE's
            released notebook starts its upsampler from 0.997 times the noise.
        distilled_guidance: scale of guidance that a few-step student has learned of its teacher;
            its own is then 1 and its sampler "ddim". None for any other network.
    """

    sampler: SamplerName = "ddpm"
    steps: int = 250
    step_list: tuple[int, ...] | None = None
    eta: float = 0.0
    guidance: float = 1.0
    guidance_interval: tuple[float, float] | None = None
    x0_bound: float | None = renamed("clip", default=1.0)
    threshold: float | None = None
    num_candidates: int = renamed("draws", default=1)
    initial_noise_scale: float | None = None
    distilled_guidance: float | None = None

    def __post_init__(self) -> None:
        check_ranges(
            self,
            steps=(1, MOST_STEPS),
            eta=SHARE,
            guidance=ANY,
            guidance_interval=NOT_NEGATIVE,
            x0_bound=POSITIVE,
            threshold=(5e-324, 1.0),
            num_candidates=COUNT,
            initial_noise_scale=POSITIVE,
            distilled_guidance=ANY,
        )
        interval = self.guidance_interval
        if interval is not None and not (len(interval) == 2 and interval[0] < interval[1]):
            raise ValueError(f"guidance_interval={interval} must be (low, high), with low < high")
        if self.distilled_guidance is not None:
            self._check_student()

    def _check_student(self) -> None:
        """Refuses settings that a few-step student has not learned."""
        for name, needed in (("sampler", "ddim"), ("eta", 0.0), ("guidance", 1.0)):
            value = getattr(self, name)
            if value != needed:
                raise ValueError(
                    f"{name}={value!r} is not for a few-step student, which is sampled with "
                    f"{name}={needed!r} (guidance {self.distilled_guidance:g} is in its weights)"
                )
