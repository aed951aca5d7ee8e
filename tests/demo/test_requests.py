"""From the values of the page to jobs."""

from pathlib import Path

import numpy as np
import pytest

from unclip_jax.core.errors import UserError
from unclip_jax.demo import requests
from unclip_jax.demo.choices import Choices
from unclip_jax.demo.commands import ComparePriors, InterpolateCaptions, Sample
from unclip_jax.workflows.manipulations import Edit, Inpaint, Interpolate, Reconstruct, Vary
from unclip_jax.workflows.mix import Mix, MixItem

IMAGE = np.full((20, 30, 3), 200, np.uint8)
MASK = np.zeros((20, 30), bool)
MASK[2:5, 2:5] = True
GIVEN = {
    **{"prompt": "a red heart", "num": 2, "size": 32, "steps": 4, "guidance": 3.0, "seed": "3"},
    **{"prior": "diffusion", "prior_guidance": 1.5, "eta": 0.5, "invert_steps": 20, "frames": 4},
    **{"source": "a red heart", "target": "a blue heart", "max_theta": 0.25, "resamples": 1},
    **{"first_image": IMAGE, "second_image": None, "first_caption": "", "second_caption": "a sun"},
    **{"image": IMAGE, "drawing": (IMAGE, MASK)},
    **{"caption_1": "a red heart", "image_1": None, "weight_1": 0.75},
    **{"caption_2": "left out", "image_2": IMAGE, "weight_2": 0.25},
    **{"caption_3": "", "image_3": None, "weight_3": 0.5},
}
INVERTING = {"size": 32, "invert_steps": 20, "guidance": 3.0}
DECODING = {"size": 32, "steps": 4, "guidance": 3.0}
DRAWING = {**DECODING, "prior": "diffusion", "prior_guidance": 1.5}


@pytest.fixture(scope="module")
def choices(toy):
    return Choices.of(toy)


def test_text_to_image(choices):
    job = requests.sample(choices, GIVEN)
    assert job.command == Sample(("a red heart",), DRAWING, 2)
    assert job.seed == 3 and not job.images


def test_a_prior_that_is_no_network_has_no_guidance(choices):
    job = requests.sample(choices, {**GIVEN, "prior": "text"})
    assert job.command.settings["prior_guidance"] is None


def test_a_guidance_that_is_not_used_is_checked_too(choices):
    with pytest.raises(UserError, match=r"prior guidance must be a number in 0\.\.20"):
        requests.sample(choices, {**GIVEN, "prior": "text", "prior_guidance": "x"})


def test_priors_side_by_side(choices):
    command = requests.compare(choices, GIVEN).command
    assert command == ComparePriors(("a red heart",), DECODING, 2, ("diffusion", "ar", "text"))


def test_variations(choices):
    job = requests.vary(choices, GIVEN)
    assert job.command == Vary(requests.UPLOAD, INVERTING, eta=0.5, num=2)
    assert job.images[0] is IMAGE


def test_an_edit(choices):
    command = requests.edit(choices, GIVEN).command
    texts = {"target": "a blue heart", "source": "a red heart"}
    assert command == Edit(requests.UPLOAD, INVERTING, **texts, frames=4, max_theta=0.25)
    assert requests.edit(choices, {**GIVEN, "source": " "}).command.source is None


def test_a_mixture_has_the_items_that_are_there(choices):
    job = requests.mix(choices, GIVEN)
    items = [MixItem("a red heart", None, 0.75), MixItem(None, Path("image 2"), 0.25)]
    assert job.command == Mix(items, [], DRAWING, grid=None, num=2, linear=False)
    assert len(job.images) == 1 and job.images[0] is IMAGE
    with pytest.raises(UserError, match="weight 1 must be a number in 0..1"):
        requests.mix(choices, {**GIVEN, "weight_1": 2})
    nothing = {"caption_1": "", "caption_2": None, "image_2": None}
    with pytest.raises(UserError, match="nothing to mix"):
        requests.mix(choices, {**GIVEN, **nothing})


def test_components(choices):
    command = requests.reconstruct(choices, GIVEN).command
    assert command == Reconstruct(requests.UPLOAD, DECODING, dims=(16,), pca=None)


def test_inpainting(choices):
    command = requests.inpaint(choices, GIVEN).command
    assert isinstance(command, Inpaint) and command.settings == DRAWING
    assert command.is_filled is MASK and command.resamples == 1
    with pytest.raises(UserError, match="paint over what is to be filled"):
        requests.inpaint(choices, {**GIVEN, "drawing": (IMAGE, np.zeros_like(MASK))})
    with pytest.raises(UserError, match="image is missing"):
        requests.inpaint(choices, {**GIVEN, "drawing": None})


def test_the_ends_of_a_path_are_images_or_captions(choices):
    mixed = requests.interpolate(choices, GIVEN)
    assert isinstance(mixed.command, InterpolateCaptions)
    assert mixed.command.texts == ("a sun",) and mixed.command.ends == (False, True)
    assert len(mixed.images) == 1
    both = requests.interpolate(choices, {**GIVEN, "second_image": IMAGE})
    assert isinstance(both.command, Interpolate) and len(both.images) == 2
    with pytest.raises(UserError, match="the second end is empty"):
        requests.interpolate(choices, {**GIVEN, "second_caption": None})


@pytest.mark.parametrize("request_of", [requests.vary, requests.edit, requests.reconstruct])
def test_an_image_is_asked_for(choices, request_of):
    with pytest.raises(UserError, match="the image is missing; upload one"):
        request_of(choices, {**GIVEN, "image": None})
