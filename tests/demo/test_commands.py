"""The page's images are those of the Python calls, bit for bit up to rounding."""

import json

import numpy as np
from PIL import Image

import unclip_jax
from tests.toy import root
from unclip_jax.demo.commands import ComparePriors, InterpolateCaptions, Sample
from unclip_jax.demo.requests import UPLOAD
from unclip_jax.demo.studio import Job
from unclip_jax.workflows.images import ImageOutputs
from unclip_jax.workflows.manipulations import Interpolate


def drawn(studio, command, images=()):
    *_, result = studio.run(Job(command, 3, images))
    return result, np.stack([np.asarray(Image.open(path)) for path, _ in result.images])


def test_a_sample_is_that_of_the_python_call(studio, toy):
    settings = {"prior": "diffusion", "size": 16}
    result, made = drawn(studio, Sample(("a red heart",), settings, 2))
    expected = unclip_jax.sample(toy, "a red heart", key=root(3), num=2, size=16)
    np.testing.assert_allclose(made.astype(int), expected, rtol=0, atol=1)
    manifest = json.loads((result.archive.parent / "manifest.json").read_text())
    assert manifest["settings"]["steps"] == 4 and manifest["settings"]["model"] == "toy"


def test_priors_share_their_keys(studio, toy):
    command = ComparePriors(("a red heart",), {"size": 16}, 1, ("diffusion", "text"))
    result, made = drawn(studio, command)
    assert [caption for _, caption in result.images] == ["prior diffusion", "prior text"]
    for image, prior in zip(made, ("diffusion", "text"), strict=True):
        expected = unclip_jax.sample(toy, "a red heart", key=root(3), size=16, prior=prior)[0]
        np.testing.assert_allclose(image.astype(int), expected, rtol=0, atol=1)


def test_ends_that_are_captions_are_drawn_in_their_places(studio, toy, monkeypatch):
    """Without the path itself, which the commands' own tests check."""
    ends = []

    def run(self, session, images):
        ends.extend(images)
        return ImageOutputs([], Image.new("RGB", (8, 8)), {}, {})

    monkeypatch.setattr(Interpolate, "run", run)
    image = np.full((16, 16, 3), 7, np.uint8)
    between = Interpolate(UPLOAD, {}, UPLOAD, 4, "slerp", 1)
    command = InterpolateCaptions(("the sun",), {"size": 16}, (False, True), between)
    list(studio.run(Job(command, 3, [image])))
    assert ends[0] is image
    expected = unclip_jax.sample(toy, "the sun", key=root(3), size=16)[0]
    np.testing.assert_allclose(ends[1].astype(int), expected, rtol=0, atol=1)
