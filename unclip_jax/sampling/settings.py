"""Sampling settings of a call, and how they combine with the bundle's own.

None means the bundle's setting. `resolve` fills them all in: a Plan.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from unclip_jax.checkpoint.bundle import Bundle, CascadeStep
from unclip_jax.core.errors import UserError, shorten
from unclip_jax.diffusion.config import SAMPLER_NAMES, SamplingConfig
from unclip_jax.models.prior_ar import CodeSampling
from unclip_jax.models.stages import PRIORS, STAGES, Sampling, stages_of

PRIOR_CHOICES = (*PRIORS, "text", "none")
DTYPES = ("float32", "bfloat16")
PRIOR_SETTINGS = (
    "prior_guidance",
    "prior_guidance_interval",
    "prior_steps",
    "prior_temperature",
    "prior_top_p",
)
OF_DIFFUSION = ("prior_guidance_interval", "prior_steps")
HIGHEST_LEVEL = 1e9  # sigma / alpha; pure noise of 1000 cosine levels has some 20,000
GUIDANCE_LIMIT = 1000.0  # scales in use are below 20


@dataclasses.dataclass(frozen=True)
class SampleSettings:
    """Settings of `sample` and `inpaint`; None = the bundle's.

    Attributes:
        size: side of the square image in pixels: the decoder's own or one of the cascade's.
        prior: where z_i comes from: "diffusion" or "ar" (a trained prior, unCLIP §2.2), "text" (z_t
            itself) or "none" (caption only); the last two are the paper's baselines (§5.1). Not for
            a bundle whose decoder reads image tokens: there the settings of the prior are those of
            the stage that writes them.
        guidance: classifier-free guidance scale of the decoder, 0 to 1000; 1 is off.
        prior_guidance: the same of the prior.
        guidance_interval: noise levels (low, high) of the decoder: it is guided where low < sigma /
            alpha <= high, and elsewhere the unconditional half is not computed (Kynkäänniemi et al.
            2024). `inpaint` guides at every level.
        prior_guidance_interval: the same of the diffusion prior.
        steps: denoising steps of the decoder, from 1. They are spread over the first to the last
            timestep that the bundle visits; its own number of steps gives its own list.
        prior_steps: the same of the diffusion prior.
        prior_temperature: divides the logits of the autoregressive prior, from 0, which takes the
            likeliest code.
        prior_top_p: the autoregressive prior's codes are drawn from the likeliest that together
            have this probability, above 0 to 1 (all).
        sampler: of the decoder, "ddpm", "ddim" or "dpm++".
        negative: replaces the empty caption in the decoder's guidance.
        dtype: of the network's arithmetic, "float32" or "bfloat16"; diffusion itself is always
            float32.
    """

    size: int | None = None
    prior: str | None = None
    guidance: float | None = None
    prior_guidance: float | None = None
    guidance_interval: tuple[float, float] | None = None
    prior_guidance_interval: tuple[float, float] | None = None
    steps: int | None = None
    prior_steps: int | None = None
    prior_temperature: float | None = None
    prior_top_p: float | None = None
    sampler: str | None = None
    negative: str = ""
    dtype: str = "float32"


@dataclasses.dataclass(frozen=True)
class Plan:
    """Settings of one call with every value filled in, for one bundle."""

    size: int
    prior: str
    prior_stage: str | None
    prior_sampling: Sampling | None
    decoder_sampling: Sampling
    cascade: tuple[CascadeStep, ...]
    negative: str
    dtype: str

    def to_json(self) -> dict[str, Any]:
        """Returns the settings as JSON values, as the commands report them."""
        prior, decoder = self.prior_sampling, self.decoder_sampling
        is_diffused = isinstance(decoder, SamplingConfig)
        is_codes = isinstance(prior, CodeSampling)
        codes = {}
        if is_codes:
            codes = {"prior_temperature": prior.temperature, "prior_top_p": prior.top_p}
        return {
            "size": self.size,
            "prior": self.prior,
            "guidance": decoder.guidance if is_diffused else None,
            "prior_guidance": None if prior is None else prior.guidance,
            "sampler": decoder.sampler if is_diffused else None,
            "steps": num_steps(decoder) if is_diffused else None,
            "prior_steps": None if prior is None or is_codes else num_steps(prior),
            **codes,
            **_intervals(decoder, prior),
            "negative": self.negative,
            "dtype": self.dtype,
        }


def _intervals(decoder: Sampling, prior: Sampling | None) -> dict[str, list[float]]:
    """Returns the intervals of guidance that are set, as JSON values."""
    named = {"guidance_interval": decoder, "prior_guidance_interval": prior}
    found = {name: getattr(own, "guidance_interval", None) for name, own in named.items()}
    return {name: list(interval) for name, interval in found.items() if interval is not None}


def num_steps(config: SamplingConfig) -> int:
    """Returns the network evaluations of a run."""
    return config.steps if config.step_list is None else len(config.step_list)


def decoder_stage(model: Bundle) -> str:
    """Returns the name of the bundle's decoder."""
    return next(iter(model.of_kind("decoder") or stages_of("decoder")))


def decoder_size(model: Bundle) -> int:
    """Returns the pixels of the decoder's images."""
    return model.stage(decoder_stage(model)).spec.model.sample_shape[0]


def check_bundle(model: object) -> None:
    """Refuses a bundle's name in place of the bundle."""
    if not isinstance(model, Bundle):
        raise UserError(
            f"model must be a bundle, not {shorten(repr(model), 60)}; "
            "load one: unclip_jax.load(NAME or FOLDER)"
        )


def check_dtype(name: str) -> None:
    """Refuses a dtype that no program computes in."""
    if name not in DTYPES:
        raise UserError(f"dtype must be one of {', '.join(DTYPES)}, not {name!r}")


def resolve(model: Bundle, settings: SampleSettings) -> Plan:
    """Fills unset settings from the bundle and checks the others against it."""
    check_bundle(model)
    check_dtype(settings.dtype)
    size, cascade = cascade_to(model, settings.size)
    prior, prior_stage = _prior(model, settings)
    prior_sampling = None
    if prior_stage is not None:
        prior_sampling = _prior_sampling(model, prior_stage, settings)
    else:
        _check_no_prior_settings(prior, settings)
    return Plan(
        size=size,
        prior=prior,
        prior_stage=prior_stage,
        prior_sampling=prior_sampling,
        decoder_sampling=_decoder_sampling(model, settings),
        cascade=cascade,
        negative=settings.negative,
        dtype=settings.dtype,
    )


def _prior(model: Bundle, settings: SampleSettings) -> tuple[str, str | None]:
    """Returns where the decoder's condition comes from, and the stage that makes it, if any."""
    decoder = model.stage(decoder_stage(model)).spec
    if decoder.diffusion is None:
        wanted = decoder.model.required_cond
        writers = [name for name in model.stages if STAGES[name].gives in wanted]
        if not writers:
            raise UserError(
                f"bundle {model.name!r} makes images of {', '.join(wanted)} and has no stage that "
                "writes these for a caption"
            )
        if settings.prior is not None:
            raise UserError(
                f"bundle {model.name!r} has no choice of a prior: {writers[0]} reads the caption"
            )
        return writers[0], writers[0]
    prior = settings.prior or model.sampling.prior
    if prior not in PRIOR_CHOICES:
        raise UserError(f"prior must be one of {', '.join(PRIOR_CHOICES)}, not {prior!r}")
    return prior, PRIORS.get(prior)


def _decoder_sampling(model: Bundle, settings: SampleSettings) -> Sampling:
    """Returns the decoder's settings with the call's own; one that it does not have is an error."""
    decoder = decoder_stage(model)
    base, diffusion = stage_sampling(model, decoder), model.stage(decoder).spec.diffusion
    if diffusion is None:
        for name in ("guidance", "guidance_interval", "steps", "sampler", "negative"):
            if getattr(settings, name):
                raise UserError(f"{name} is for a decoder that is diffused, not for {decoder}")
        return base
    return override(
        base,
        "",
        limit=diffusion.num_steps,
        guidance=settings.guidance,
        steps=settings.steps,
        sampler=settings.sampler,
        interval=settings.guidance_interval,
    )


def diffused_decoder(model: Bundle) -> str:
    """Returns the name of the bundle's decoder, which must be one that is diffused."""
    name = decoder_stage(model)
    if model.stage(name).spec.diffusion is None:
        raise UserError(
            f"bundle {model.name!r} makes images of tokens: this needs a decoder of CLIP image "
            "embeddings"
        )
    return name


def _check_no_prior_settings(prior: str, settings: SampleSettings) -> None:
    """Refuses settings of a prior where no prior runs."""
    for name in PRIOR_SETTINGS:
        if getattr(settings, name) is not None:
            for_which = "diffusion prior" if name in OF_DIFFUSION else "diffusion and ar priors"
            raise UserError(f"{name} is for the {for_which}, not for prior {prior!r}")


def _prior_sampling(model: Bundle, stage: str, settings: SampleSettings) -> Sampling:
    """Returns a prior's settings with the call's own; one that it does not have is an error."""
    base, diffusion = stage_sampling(model, stage), model.stage(stage).spec.diffusion
    codes = {"temperature": settings.prior_temperature, "top_p": settings.prior_top_p}
    codes = {name: value for name, value in codes.items() if value is not None}
    if diffusion is None and settings.prior_guidance_interval is not None:
        raise UserError("prior_guidance_interval is for the diffusion prior: it has noise levels")
    if diffusion is None and settings.prior_steps is not None:
        raise UserError("prior_steps is for the diffusion prior; the ar prior has a step per code")
    if diffusion is not None and codes:
        raise UserError(f"prior_{next(iter(codes))} is for the ar prior: pass --prior ar")
    base = override(
        base,
        "prior_",
        limit=diffusion.num_steps if diffusion else None,
        guidance=settings.prior_guidance,
        steps=settings.prior_steps,
        interval=settings.prior_guidance_interval,
    )
    try:
        return dataclasses.replace(base, **codes)
    except ValueError as error:
        raise UserError(f"prior_{error}") from error


def stage_sampling(model: Bundle, stage: str) -> Sampling:
    """Returns the bundle's sampling settings of a stage."""
    sampling = model.stage(stage).spec.sampling
    if sampling is None:
        raise UserError(f"bundle {model.name!r} has no sampling settings for {stage}")
    return sampling


def override(
    base: Sampling,
    prefix: str,
    *,
    limit: int | None = None,
    guidance: float | None = None,
    steps: int | None = None,
    sampler: str | None = None,
    interval: tuple[float, float] | None = None,
    eta: float | None = None,
) -> Sampling:
    """Returns `base` with what is not None replaced; `prefix` names the setting in messages."""
    changes: dict[str, Any] = {}
    if guidance is not None:
        if not 0.0 <= guidance <= GUIDANCE_LIMIT:
            raise UserError(
                f"{prefix}guidance must be a number in 0..{GUIDANCE_LIMIT:g}, not {guidance}"
            )
        changes["guidance"] = float(guidance)
    if interval is not None:
        changes["guidance_interval"] = _checked_interval(interval, prefix)
    if eta is not None:
        changes["eta"] = float(eta)
    if steps is not None:
        changes |= _respaced(base, prefix, int(steps), limit)
    if sampler is not None:
        if sampler not in SAMPLER_NAMES:
            raise UserError(f"sampler must be one of {', '.join(SAMPLER_NAMES)}, not {sampler!r}")
        changes["sampler"] = sampler
    try:
        return dataclasses.replace(base, **changes)
    except ValueError as error:
        raise UserError(f"{prefix}{error}") from error


def _checked_interval(interval: tuple[float, float], prefix: str) -> tuple[float, float]:
    """Returns an interval of noise levels as floats."""
    if len(interval) == 2 and 0.0 <= interval[0] < interval[1] <= HIGHEST_LEVEL:
        return float(interval[0]), float(interval[1])
    raise UserError(
        f"{prefix}guidance_interval must be two noise levels, low and high, with 0 <= low < high "
        f"<= {HIGHEST_LEVEL:g}, not {interval}"
    )


def _respaced(base: Sampling, prefix: str, steps: int, limit: int | None) -> dict[str, Any]:
    """Returns the changes that make a run of `steps` levels over the range that `base` visits."""
    if getattr(base, "step_list", None) is not None:
        return {"steps": steps, "step_list": spread_list(base.step_list, steps, f"{prefix}steps")}
    if steps < 1 or (limit is not None and steps > limit):
        raise UserError(f"{prefix}steps must lie in 1..{limit}, not {steps}")
    return {"steps": steps}


def spread_list(levels: Sequence[int], count: int, name: str, least: int = 1) -> tuple[int, ...]:
    """Returns `count` levels over the range of a descending list; its own count gives the list.

    A single level is the first one, where sampling begins.
    """
    if count == len(levels):
        return tuple(levels)
    return spread_levels(levels[0], levels[-1], count, name, least)


def spread_levels(first: int, last: int, count: int, name: str, least: int = 2) -> tuple[int, ...]:
    """Returns `count` evenly spaced timesteps from `first` down to `last`, both included."""
    most = first - last + 1
    if not least <= count <= most:
        raise UserError(f"{name} must lie in {least}..{most}, not {count}")
    return tuple(int(t) for t in np.round(np.linspace(first, last, count)))


def cascade_to(model: Bundle, size: int | None) -> tuple[int, tuple[CascadeStep, ...]]:
    """Returns the size and the upsampling steps from the decoder's images to it."""
    reached = decoder_size(model)
    sizes = [reached]
    steps: list[CascadeStep] = []
    wanted = size if size is not None else model.sampling.size
    for step in model.cascade:
        if reached == wanted:
            break
        if step.input_size == reached:
            steps.append(step)
            reached = step.output_size
            sizes.append(reached)
    if wanted is not None and wanted != reached:
        possible = ", ".join(str(s) for s in sizes)
        raise UserError(f"bundle {model.name!r} makes images of {possible} pixels, not {wanted}")
    return reached, tuple(steps)
