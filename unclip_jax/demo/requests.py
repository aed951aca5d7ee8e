"""Turns what the page is sent into jobs; every value is checked here, whoever sent it.

Values come by the names of the page's components. None is a field that was left empty.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from unclip_jax.core.errors import UserError
from unclip_jax.demo import choices as offered
from unclip_jax.demo.choices import Choices, number, optional, pick, seed_of, text
from unclip_jax.demo.commands import ComparePriors, InterpolateCaptions, Sample
from unclip_jax.demo.studio import Job
from unclip_jax.models.stages import PRIORS
from unclip_jax.workflows.image_commands import Pixels
from unclip_jax.workflows.manipulations import Edit, Inpaint, Interpolate, Reconstruct, Vary
from unclip_jax.workflows.mix import Mix, MixItem

Given = Mapping[str, Any]
Request = Callable[[Choices, Given], Job]

UPLOAD = Path("upload.png")  # what an image is called whose own name nobody needs
RESAMPLES = (1, 3, 5)
MIXED = (1, 2, 3)  # numbers of the items of a mixture


def image(name: str, value: Any) -> Pixels:
    """Returns an uploaded image, which the page has decoded."""
    if value is None:
        raise UserError(f"{name} is missing; upload one")
    return value


def _guidance(given: Given, name: str = "guidance") -> float | None:
    return number(name.replace("_", " "), given[name], offered.MOST_GUIDANCE)


def _drawing(choices: Choices, given: Given) -> dict[str, Any]:
    """Returns the fields of SampleSettings."""
    prior = pick("prior", given["prior"], choices.priors)
    own = _guidance(given, "prior_guidance")  # checked even where it is not used
    used = own if prior in PRIORS else None
    return {"prior": prior, "prior_guidance": used, **_decoding(choices, given)}


def _decoding(choices: Choices, given: Given) -> dict[str, Any]:
    """Returns the settings of the decoder alone."""
    return {
        "size": pick("size", given["size"], choices.sizes),
        "steps": pick("steps", given["steps"], choices.steps),
        "guidance": _guidance(given),
    }


def _inverting(choices: Choices, given: Given) -> dict[str, Any]:
    """Returns the fields of LatentSettings where the image is inverted."""
    return {
        "size": pick("size", given["size"], choices.sizes),
        "invert_steps": pick("steps", given["invert_steps"], choices.inversions),
        "guidance": _guidance(given),
    }


def sample(choices: Choices, given: Given) -> Job:
    """Text to image."""
    prompt, settings = text("the prompt", given["prompt"]), _drawing(choices, given)
    num = pick("num", given["num"], offered.NUMS)
    return Job(Sample((prompt,), settings, num), seed_of(given["seed"]))


def compare(choices: Choices, given: Given) -> Job:
    """The same caption with every prior."""
    prompt, num = text("the prompt", given["prompt"]), pick("num", given["num"], offered.NUMS)
    settings = _decoding(choices, given)
    command = ComparePriors((prompt,), settings, num, choices.priors)
    return Job(command, seed_of(given["seed"]))


def vary(choices: Choices, given: Given) -> Job:
    """Variations of an image."""
    eta, num = pick("eta", given["eta"], offered.ETAS), pick("num", given["num"], offered.NUMS)
    source = image("the image", given["image"])
    command = Vary(UPLOAD, _inverting(choices, given), eta=eta, num=num)
    return Job(command, seed_of(given["seed"]), [source])


def interpolate(choices: Choices, given: Given) -> Job:
    """A path between two ends, each an image or a caption."""
    captions, images, names = [], [], []
    for end in ("first", "second"):
        if given[f"{end}_image"] is not None:
            images.append(given[f"{end}_image"])
            names.append(Path(f"{end}.png"))
        else:
            remedy = "upload an image or write a caption, one for each end"
            captions.append(text(f"the {end} end", given[f"{end}_caption"], remedy))
            names.append(Path(captions[-1].replace("/", " ")))
    frames = pick("frames", given["frames"], offered.FRAMES)
    settings = _inverting(choices, given)
    between = Interpolate(names[0], settings, names[1], frames, "slerp", 1)
    if not captions:
        return Job(between, seed_of(given["seed"]), images)
    ends = tuple(given[f"{end}_image"] is None for end in ("first", "second"))
    own = {"size": settings["size"]}
    command = InterpolateCaptions(tuple(captions), own, ends, between)
    return Job(command, seed_of(given["seed"]), images)


def mix(choices: Choices, given: Given) -> Job:
    """Captions and images by weight."""
    items, images = [], []
    for number_of in MIXED:
        weight = number(f"weight {number_of}", given[f"weight_{number_of}"], 1.0)
        if given[f"image_{number_of}"] is not None:
            images.append(given[f"image_{number_of}"])
            items.append(MixItem(None, Path(f"image {number_of}"), weight))
        elif caption := optional(f"caption {number_of}", given[f"caption_{number_of}"]):
            items.append(MixItem(caption, None, weight))
    if not items:
        raise UserError("there is nothing to mix; write captions or upload images")
    num = pick("num", given["num"], offered.NUMS)
    command = Mix(items, [], _drawing(choices, given), grid=None, num=num, linear=False)
    return Job(command, seed_of(given["seed"]), images)


def edit(choices: Choices, given: Given) -> Job:
    """An image on its way to a text."""
    command = Edit(
        UPLOAD,
        _inverting(choices, given),
        target=text("To", given["target"], "write what the image is to become"),
        source=optional("From", given["source"]),
        frames=pick("frames", given["frames"], offered.FRAMES),
        max_theta=pick("theta", given["max_theta"], offered.THETAS),
    )
    return Job(command, seed_of(given["seed"]), [image("the image", given["image"])])


def reconstruct(choices: Choices, given: Given) -> Job:
    """What is left of an image in the first components of its embedding."""
    command = Reconstruct(UPLOAD, _decoding(choices, given), dims=choices.dims, pca=None)
    return Job(command, seed_of(given["seed"]), [image("the image", given["image"])])


def inpaint(choices: Choices, given: Given) -> Job:
    """A part of an image drawn anew."""
    drawn = given["drawing"]
    if drawn is None:
        raise UserError("the image is missing; upload one and paint over what is to be filled")
    pixels, mask = drawn
    if not mask.any():
        raise UserError("nothing is painted; paint over what is to be filled")
    command = Inpaint(
        UPLOAD,
        _drawing(choices, given),
        prompt=text("the prompt", given["prompt"], "describe the whole image"),
        mask=Path("mask.png"),
        is_filled=mask,
        num=pick("num", given["num"], offered.NUMS),
        resamples=pick("resamples", given["resamples"], RESAMPLES),
    )
    return Job(command, seed_of(given["seed"]), [pixels])
