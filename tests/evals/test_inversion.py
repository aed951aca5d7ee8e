"""The inversion suite on a toy bundle and procedural images."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from tests.evals.suites import SETTINGS as WHOLE
from tests.toy import DIM
from unclip_jax import api
from unclip_jax.evals import examples, inversion
from unclip_jax.evals.runner import run_suite
from unclip_jax.sampling import manipulate

SETTINGS = dataclasses.replace(WHOLE, limit=4)


def test_inversion_reports_the_psnr_of_what_is_rebuilt(model, monkeypatch, tmp_path):
    monkeypatch.setattr(inversion, "LEVELS", (4, 8))
    settings = dataclasses.replace(SETTINGS, image_folder=tmp_path)
    results = run_suite("inversion", model, settings)
    assert list(results) == ["psnr_4", "latent_std_4", "psnr_8", "latent_std_8"]
    held_out = examples.load_splits(SETTINGS, ("test",), size=16, limit=4)
    made = api.vary(model, held_out.images, eta=0.0, size=16, invert_steps=8)
    error = (made.astype(np.float64) - held_out.images) ** 2
    expected = (10 * np.log10(255.0**2 / error.mean((1, 2, 3)))).mean()
    assert results["psnr_8"].value == pytest.approx(expected, abs=0.05)
    assert results["psnr_8"].n == 4
    with Image.open(tmp_path / "inversion_images.png") as image:
        assert image.width > 300


def test_a_latents_deviation_is_taken_within_each_image(model, monkeypatch):
    """+-2 about a mean of the image's own; what is decoded is five gray levels off."""
    monkeypatch.setattr(inversion, "LEVELS", (4,))
    signs = np.tile([[-2.0, 2.0]], (16, 8))[None, :, :, None]
    latent = (signs + np.arange(4)[:, None, None, None] * np.ones(3)).astype(np.float32)
    shown, z = [], np.ones((4, DIM), np.float32)

    def encode(model, images, plan, monitor):
        shown.append(np.minimum(images, 250))
        return manipulate.Inverted(z, latent)

    def decode(model, image_emb, keys, plan, *, latent, monitor):
        return shown[-1] + np.uint8(5)

    squares = lambda images, size, fit: np.minimum(images, 250)  # noqa: E731
    monkeypatch.setattr(inversion.manipulate, "encode", encode)
    monkeypatch.setattr(inversion.latents, "decode", decode)
    monkeypatch.setattr(inversion.latents, "squares", squares)
    results = inversion.inversion(model, SETTINGS)
    assert results["latent_std_4"].value == pytest.approx(2.0)
    assert results["psnr_4"].value == pytest.approx(20 * np.log10(255 / 5))
