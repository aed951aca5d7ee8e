"""What the page offers of a bundle, and the checks of what it is sent.

Number of images, steps and eta are part of a compiled program, so that each comes from a short
list: a visitor must not make the server compile without end. Guidance is an argument of the
programs and may have any value.
"""

import dataclasses
import math
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.errors import UserError, shorten
from unclip_jax.models.stages import CLIP, PRIORS
from unclip_jax.sampling import manipulate
from unclip_jax.sampling.latents import INVERT_STEPS, LatentSettings, resolve_latents
from unclip_jax.sampling.prompts import check_prompt, is_blank, is_of_emoji, visible
from unclip_jax.sampling.settings import (
    SampleSettings,
    decoder_size,
    decoder_stage,
    num_steps,
    resolve,
    stage_sampling,
)

NUMS = (1, 2, 4, 8)  # images a request
FRAMES = (4, 6, 8, 12)
ETAS = (0.0, 0.25, 0.5, 0.75, 1.0)
THETAS = (0.25, 0.5, 0.75, 1.0)
STEPS = (10, 20, 40, 80)
INVERSIONS = (50, 20, INVERT_STEPS)  # the first is the default: a page has to be quick
MOST_GUIDANCE = 20.0
MOST_SEED = 2**31 - 1
PROMPTS = (
    *("a strawberry", "a rocket", "a butterfly", "a frog", "a rainbow", "a blue car"),
    *("a yellow bus", "a guitar", "a 3d emoji of a house", "a flat emoji of a horse"),
)
"""Of those of docs/prompts.json that the emoji model draws right, by eye and by a second CLIP."""


@dataclasses.dataclass(frozen=True)
class Choices:
    """What the page offers; each list begins with the default.

    Attributes:
        sizes: of images, in pixels.
        priors: names of the priors.
        steps: of the decoder.
        inversions: steps of the inversion.
        dims: numbers of principal components.
        prompts: that the bundle is known to draw.
        guidance: the bundle's own of the decoder.
        prior_guidance: the bundle's own of each prior that is a network.
    """

    sizes: tuple[int, ...]
    priors: tuple[str, ...]
    steps: tuple[int, ...]
    inversions: tuple[int, ...]
    dims: tuple[int, ...]
    prompts: tuple[str, ...]
    guidance: float
    prior_guidance: Mapping[str, float]

    @classmethod
    def of(cls, model: Bundle) -> "Choices":
        """Lists what a bundle can do; one without CLIP, decoder or vocabulary is a UserError."""
        model.stage(CLIP)
        own = num_steps(stage_sampling(model, decoder_stage(model)))
        if model.tokenizer is None:
            raise UserError(f"bundle {model.name!r} has no vocabulary, which the demo needs")
        priors = [name for name, stage in PRIORS.items() if stage in model.stages] + ["text"]
        first = model.sampling.prior if model.sampling.prior in priors else priors[0]
        plan = resolve(model, SampleSettings(prior=first))
        sizes = [decoder_size(model), *(step.output_size for step in model.cascade)]
        sampling = lambda n: resolve(model, SampleSettings(prior=first, steps=n))  # noqa: E731
        inverting = lambda n: resolve_latents(model, LatentSettings(invert_steps=n))  # noqa: E731
        components = () if model.pca is None else manipulate.PAPER_DIMS
        return cls(
            sizes=_leading(plan.size, sizes[::-1]),
            priors=_leading(first, priors),
            steps=_leading(own, [n for n in STEPS if is_allowed(sampling, n)]),
            inversions=tuple(n for n in INVERSIONS if is_allowed(inverting, n)),
            dims=manipulate.usable_dims(components, model.pca) if components else (),
            prompts=PROMPTS if is_of_emoji(model) else (),
            guidance=plan.decoder_sampling.guidance,
            prior_guidance={
                name: stage_sampling(model, PRIORS[name]).guidance
                for name in priors
                if name in PRIORS
            },
        )


def _leading(first: Any, others: Sequence[Any]) -> tuple[Any, ...]:
    return (first, *(other for other in others if other != first))


def is_allowed(resolving: Callable[[int], object], steps: int) -> bool:
    """Whether a number of steps can be resolved to a plan."""
    try:
        resolving(steps)
    except UserError:
        return False
    return True


def pick(name: str, value: Any, choices: Sequence[Any]) -> Any:
    """Returns the choice that equals a value."""
    for choice in choices:
        if type(value) in (type(choice), int, float) and value == choice:
            return choice
    listed = ", ".join(map(str, sorted(choices)))
    raise UserError(f"{name} must be one of {listed}, not {shorten(repr(value), 60)}")


def number(name: str, value: Any, most: float) -> float | None:
    """Returns a value in 0..most; None, which stands for the bundle's own, stays None."""
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not 0 <= value <= most:
        raise UserError(f"{name} must be a number in 0..{most:g}, not {shorten(repr(value), 60)}")
    return float(value)


def seed_of(value: Any) -> int:
    """Returns a seed: a number or its digits; a fresh one for None and for an empty text."""
    if value is None or value == "":
        return secrets.randbelow(MOST_SEED + 1)
    digits = str(value).strip()
    if (
        isinstance(value, bool)
        or not re.fullmatch("[0-9]{1,10}", digits)
        or int(digits) > MOST_SEED
    ):
        shown = shorten(repr(value), 60)
        raise UserError(f"seed must be a whole number in 0..{MOST_SEED}, not {shown}")
    return int(digits)


def optional(name: str, value: Any) -> str | None:
    """Returns a text, or None for one that is missing or empty."""
    is_missing = value is None or (isinstance(value, str) and is_blank(value))
    return None if is_missing else text(name, value)


def text(name: str, value: Any, remedy: str = "describe the image") -> str:
    """Returns a text that is not empty, without characters that cannot be seen."""
    if not isinstance(value, str) or is_blank(value):
        raise UserError(f"{name} is empty; {remedy}")
    found = visible(value).strip()
    check_prompt(name, found)
    return found
