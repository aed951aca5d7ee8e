"""The reconstruction suite: on a toy bundle, and on embeddings whose answer is known."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from tests.evals.suites import SETTINGS as WHOLE
from tests.evals.suites import check_metrics, make_examples
from tests.toy import toy_bundle, with_prior_ar
from unclip_jax import api
from unclip_jax.core.errors import UserError
from unclip_jax.evals import examples, reconstruction
from unclip_jax.evals.networks.lpips import LpipsDistance
from unclip_jax.evals.reconstruction import (
    Rebuilt,
    identity_metrics,
    lpips_metrics,
    pixel_metrics,
)
from unclip_jax.evals.runner import run_suite
from unclip_jax.sampling.latents import LatentSettings

SETTINGS = dataclasses.replace(WHOLE, limit=3)


def test_held_out_images_are_inverted_and_varied(model, monkeypatch, tmp_path):
    """The inversion is that of `unclip vary --eta 0`; all held-out images are searched."""
    quick = lambda size: LatentSettings(size, invert_steps=4)  # noqa: E731
    monkeypatch.setattr(reconstruction, "LatentSettings", quick)
    monkeypatch.setattr(reconstruction, "DRAWS", 2)
    settings = dataclasses.replace(SETTINGS, eval_clip=toy_bundle(seed=1), image_folder=tmp_path)
    results = run_suite("reconstruction", with_prior_ar(model), settings)
    check_metrics(results)
    gallery = examples.load_splits(WHOLE, ("test",), size=16, model=model)
    source = gallery.images[reconstruction.choose_rows(len(gallery), 3, WHOLE.seed)]
    made = api.vary(model, source, eta=0.0, size=16, invert_steps=4).astype(np.float64)
    expected = 10 * np.log10(255.0**2 / ((made - source) ** 2).mean((1, 2, 3))).mean()
    assert results["inversion_psnr"].value == pytest.approx(expected, abs=0.05)
    assert results["inversion_psnr"].value > results["variation_psnr"].value
    assert [results[f"{name}_top_1"].n for name in ("inversion", "variation")] == [3, 6]
    assert results["variation_top_1"].baseline == pytest.approx(1 / len(gallery))
    assert "4 levels" in results["inversion_psnr"].recipe
    assert (
        results["variation_cosine"].reference == f"{len(gallery)} held-out images of {WHOLE.data}"
    )
    with Image.open(tmp_path / "reconstruction_images.png") as image:
        assert image.width > 800  # source, inversion, two variations, numbers of components


def test_lpips_is_of_each_draw_and_its_source(monkeypatch):
    """With a distance that is the difference of the first pixels; another image is 100 away."""
    monkeypatch.setattr(reconstruction, "DRAWS", 2)
    true = np.zeros((2, 4, 4, 3), np.uint8)
    true[1] = 100
    varied = np.stack([true + np.uint8(5), true + np.uint8(20)], axis=1)

    class Distance(LpipsDistance):
        def __init__(self):
            self.recipe = "LPIPS 0.1, none"

        def __call__(self, one, two):
            return np.abs(one[:, 0, 0, 0].astype(float) - two[:, 0, 0, 0])

    rebuilt = Rebuilt(true, true + np.uint8(1), varied)
    results = lpips_metrics(rebuilt, make_examples(["a", "b"]), Distance())
    assert results["inversion_lpips"].value == 1.0
    assert results["variation_lpips"].value == 12.5
    assert results["variation_lpips"].baseline == 100.0
    assert results["variation_lpips"].recipe == "LPIPS 0.1, none, 4 pixels"


@pytest.mark.parametrize("spec", ["alex", "alex:a.pth", "squeeze:a.pth,b.pth"])
def test_lpips_names_a_trunk_and_two_files(model, spec):
    settings = dataclasses.replace(SETTINGS, eval_clip=toy_bundle(seed=1), lpips=spec)
    with pytest.raises(UserError, match="--lpips takes alex:WEIGHTS,HEADS or vgg:WEIGHTS,HEADS"):
        run_suite("reconstruction", model, settings)


def test_it_needs_an_independent_clip(model):
    with pytest.raises(UserError, match="--eval-clip"):
        run_suite("reconstruction", model, SETTINGS)


def test_a_source_is_found_among_the_others():
    """Of two sources in a gallery of four, 60° apart or at right angles."""
    gallery = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 3**0.5 / 2, 0]])
    rows = np.array([1, 2])
    inverted = gallery[rows]
    varied = np.array([[[0, 1.0, 0], gallery[3]], [[1.0, 0, 0], [0, 0.1, 1]]])
    results = identity_metrics(inverted, varied, gallery, rows)
    found = {name: metric.value for name, metric in results.items()}
    assert found["inversion_top_1"] == found["inversion_top_5"] == 1.0
    assert found["variation_top_1"] == pytest.approx(0.5)
    assert found["inversion_cosine"] == pytest.approx(1.0)
    near = [1.0, 3**0.5 / 2, 0.0, 1 / 1.01**0.5]
    assert found["variation_cosine"] == pytest.approx(np.mean(near))
    assert results["variation_cosine"].baseline == pytest.approx(3**0.5 / 2 / 6)
    assert results["variation_top_1"].baseline == 0.25
    assert results["variation_top_5"].baseline == 1.0
    assert results["variation_top_1"].n == 4


def test_draws_of_an_image_are_compared_with_that_image(monkeypatch):
    monkeypatch.setattr(reconstruction, "DRAWS", 2)
    true = np.zeros((2, 4, 4, 3), np.uint8)
    true[1] = 100
    varied = np.stack([true + np.uint8(5), true + np.uint8(20)], axis=1)
    rebuilt = Rebuilt(true, true + np.uint8(1), varied)
    results = pixel_metrics(rebuilt, make_examples(["a", "b"]))
    decibel = lambda error: 20 * np.log10(255 / error)  # noqa: E731
    assert results["inversion_psnr"].value == pytest.approx(decibel(1))
    assert results["variation_psnr"].value == pytest.approx((decibel(5) + decibel(20)) / 2)
    assert results["variation_psnr"].baseline == pytest.approx(decibel(100))
    assert results["variation_psnr"].n == 4
