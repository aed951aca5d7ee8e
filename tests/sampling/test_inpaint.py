"""Inpainting: kept pixels are kept, by the sampler itself too, and a mask is never made smaller."""

import numpy as np
import pytest

import unclip_jax
from tests.toy import LARGE, SIZE, with_sampling
from unclip_jax.core.errors import UserError
from unclip_jax.diffusion.config import SamplingConfig
from unclip_jax.diffusion.timesteps import sampling_steps
from unclip_jax.sampling import inpaint
from unclip_jax.sampling.inpaint import any_in_block
from unclip_jax.sampling.settings import SampleSettings


def test_the_sampler_itself_keeps_what_is_kept(toy, images, monkeypatch):
    """Without pasting anything back. The bound is 0 levels, by RePaint's own formula.

    The kept part of every step is alpha_s known + sigma_s noise, and the last step goes to the
    clean level, where alpha is 1 and sigma 0.
    """
    drawn = []

    def only_drawn(made, canvas, rows):
        drawn.append(made)
        return made

    monkeypatch.setattr(inpaint, "composite", only_drawn)
    masks = np.zeros(images.shape[:3], bool)
    masks[:, 3:9, 5:] = True
    call = {"resamples": 2, "steps": 12, "size": SIZE, "num": 2}
    unclip_jax.inpaint(toy, images, masks, ["the sun", "a blue car", "a red heart"], **call)
    kept = ~masks.repeat(2, 0)
    np.testing.assert_array_equal(drawn[0][kept], images.repeat(2, 0)[kept])
    assert (drawn[0][~kept] != images.repeat(2, 0)[~kept]).mean() > 0.5


def test_inpainting_keeps_what_is_kept(toy, images):
    masks = np.zeros(images.shape[:3], bool)
    masks[:, 3:9, 5:] = True
    prompts = ["the sun", "a blue car", "a red heart"]
    for size in (SIZE, LARGE):
        made = unclip_jax.inpaint(
            toy, images, masks, prompts, num=2, resamples=2, steps=12, size=size
        )
        scale = size // SIZE
        fill = masks.repeat(scale, 1).repeat(scale, 2).repeat(2, 0)
        enlarged = unclip_jax.api.latents.squares(images, size, "squash").repeat(2, 0)
        np.testing.assert_array_equal(made[~fill], enlarged[~fill])
        assert (made[fill] != enlarged[fill]).mean() > 0.5
        assert (made[::2] != made[1::2]).any()
    with pytest.raises(UserError, match="fills nothing"):
        unclip_jax.inpaint(toy, images, masks & False, prompts)
    with pytest.raises(UserError, match="must agree"):
        unclip_jax.inpaint(toy, images, masks[:, 1:], prompts)


@pytest.mark.parametrize(
    ("own", "given", "steps"),
    [
        (SamplingConfig("dpm++", steps=6), None, 40),  # too few of a first-order solver
        (SamplingConfig("dpm++", steps=6), 12, 12),
        (SamplingConfig("dpm++", steps=50), None, 50),
        (SamplingConfig("dpm++", step_list=(20, 15, 11)), None, 10),  # as many as there are
        (SamplingConfig("ddim", steps=6), None, 6),
        (
            SamplingConfig("ddim", steps=4, distilled_guidance=1.5),
            None,
            4,
        ),  # a student's, whose eta is 0
    ],
)
def test_a_filling_takes_steps_of_ddim_enough(toy, own, given, steps):
    model = with_sampling(toy, "decoder", own)
    plan = inpaint.resolve_filling(model, SampleSettings(steps=given))
    filling = plan.decoder_sampling
    assert (filling.sampler, plan.to_json()["steps"]) == ("ddim", steps)
    assert len(sampling_steps(filling, 1000)) == steps


def test_a_small_pixel_is_filled_if_any_that_it_stands_for_is():
    mask = np.zeros((1, 6, 6), bool)
    mask[0, 1, 4] = True
    small = any_in_block(mask, 3)
    assert np.argwhere(small).tolist() == [[0, 0, 2]]
    both = any_in_block(mask, 4)  # blocks of 1.5 pixels overlap: row 1 lies in two of them
    assert np.argwhere(both).tolist() == [[0, 0, 2], [0, 0, 3], [0, 1, 2], [0, 1, 3]]
