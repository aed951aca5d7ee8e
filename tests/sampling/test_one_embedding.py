"""One image has one z_i: `embed_image`'s, in every call, whatever the image's shape and the bundle.

The expected squares are NumPy's own: cut, stretched or padded by hand.
"""

import dataclasses

import numpy as np
import pytest

import unclip_jax
from tests.toy import DIM, SIZE, root
from unclip_jax.core.errors import UserError
from unclip_jax.core.types import Cond
from unclip_jax.evals import examples, retrieval
from unclip_jax.evals.settings import Settings
from unclip_jax.models.pca import fit_pca, unit_moments
from unclip_jax.sampling import latents, manipulate
from unclip_jax.sampling.monitor import Monitor

FITS = ("center_crop", "squash", "pad")


def fitted_by(model, fit):
    """Returns the toy with another `ClipConfig.resize`; its parameters stay."""
    held = model.stage("clip")
    spec = dataclasses.replace(held.spec, model=dataclasses.replace(held.spec.model, resize=fit))
    stages = {**model.stages, "clip": dataclasses.replace(held, spec=spec)}
    return dataclasses.replace(model, stages=stages)


@pytest.fixture(scope="module")
def image():
    """32 x 48: blocks of 4 pixels, so that shrinking by 2 or 3 keeps them apart."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (8, 12, 3)).astype(np.uint8).repeat(4, 0).repeat(4, 1)


def square_of(image, fit):
    """The square of full height that a bundle sees, by hand."""
    if fit == "center_crop":
        return image[:, 8:40]
    if fit == "pad":
        return np.pad(image, ((8, 8), (0, 0), (0, 0)), constant_values=255)
    return None


def cosine(a, b):
    a, b = np.float64(a).ravel(), np.float64(b).ravel()
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


@pytest.mark.parametrize("fit", FITS)
def test_every_call_takes_the_same_embedding(toy, image, fit, monkeypatch):
    model = fitted_by(toy, fit)
    model = dataclasses.replace(model, pca=fit_pca(unit_moments(np.eye(DIM))))
    true = unclip_jax.embed_image(model, image[None])
    seen = []

    def record(model, image_emb, keys, plan, *, latent=None, monitor):
        seen.append((image_emb, latent))
        return np.zeros((len(image_emb), SIZE, SIZE, 3), np.uint8)

    def no_inversion(model, images, image_emb, plan, monitor):
        seen.append((image_emb, None))
        return np.zeros((len(image_emb), SIZE, SIZE, 3), np.float32)

    monkeypatch.setattr(manipulate, "decode", record)
    monkeypatch.setattr(manipulate, "invert", no_inversion)
    call = {"key": root(), "size": SIZE}
    unclip_jax.vary(model, [image], **call)
    unclip_jax.interpolate(model, [image], [image], frames=1, **call)
    unclip_jax.interpolate(model, [image], [image], frames=1, noise="fixed", **call)
    unclip_jax.edit(model, [image], "the sun", frames=2, max_theta=0.0, **call)
    unclip_jax.reconstruct(model, [image], dims=(DIM,), **call)
    assert len(seen) == 9
    for image_emb, _ in seen:
        for row in image_emb:
            np.testing.assert_allclose(row, true[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("fit", ["center_crop", "pad"])
def test_the_embedding_is_of_the_square_that_the_field_says(toy, image, fit):
    """Flat at the edges of the cut, which is made after the shrinking: its filter sees across."""
    model, image = fitted_by(toy, fit), image.copy()
    image[:, 4:16], image[:, 32:44] = image[:, 8:9], image[:, 36:37]
    true = unclip_jax.embed_image(model, [square_of(image, fit)])
    found = unclip_jax.embed_image(model, [image])
    np.testing.assert_allclose(found, true, atol=1e-4)
    assert cosine(found, unclip_jax.embed_image(fitted_by(toy, "squash"), [image])) < 0.9999


@pytest.mark.parametrize("fit", FITS)
def test_the_inverted_image_is_fitted_likewise(toy, image, fit, monkeypatch):
    """x_T is of the square that z_i is of: no white that a model never saw."""
    model, seen = fitted_by(toy, fit), []

    def run_in_parts(steps, x, count, report):
        seen.append(np.asarray(x)[0])
        return x

    monkeypatch.setattr(latents, "run_in_parts", run_in_parts)
    plan = latents.resolve_latents(model, latents.LatentSettings(size=SIZE, invert_steps=4))
    latents.invert(model, [image], np.ones((1, DIM), np.float32), plan, Monitor())
    whole = image.astype(np.float64)
    if fit == "squash":  # averages over 2 x 3 pixels
        expected = whole.reshape(SIZE, 2, SIZE, 3, 3).mean((1, 3))
    else:  # over 2 x 2 of the cut square, 3 x 3 of the padded one
        side = np.float64(square_of(image, fit))
        k = len(side) // SIZE
        expected = side.reshape(SIZE, k, SIZE, k, 3).mean((1, 3))
    np.testing.assert_allclose((seen[0][0] + 1) * 127.5, expected, atol=1.0)


@pytest.mark.parametrize("fit", FITS)
def test_inpainting_keeps_the_square_and_its_mask_together(toy, image, fit, monkeypatch):
    """What is filled of the shown square is what the mask marks of the image: its left third."""
    from unclip_jax.sampling import inpaint as filling

    caught = []

    def catch(model, canvas, *rest, **settings):
        caught.append(canvas)
        return canvas.images

    monkeypatch.setattr(filling, "inpaint", catch)
    mask = np.zeros(image.shape[:2], bool)
    mask[:, :16] = True
    unclip_jax.inpaint(fitted_by(toy, fit), [image], [mask], "the sun", size=SIZE)
    fill = caught[0].fill[0]
    columns = {"center_crop": 4, "squash": 6, "pad": 6}[fit]  # 8 of 32, 16 of 48, 16 of 48 pixels
    rows = slice(2, 14) if fit == "pad" else slice(0, SIZE)  # 8 of 48 are white above and below
    expected = np.zeros((SIZE, SIZE), bool)
    expected[rows, :columns] = True
    np.testing.assert_array_equal(fill, expected)
    if fit == "center_crop":
        with pytest.raises(UserError, match="middle square"):
            outside = np.zeros_like(mask)
            outside[:, :8] = True
            unclip_jax.inpaint(fitted_by(toy, fit), [image], [outside], "the sun", size=SIZE)


@pytest.mark.parametrize("fit", FITS)
def test_suites_measure_the_same_embedding(toy, image, fit, monkeypatch):
    model = fitted_by(toy, fit)
    record = {"image": image, "captions": ["the sun"], "concept": "sun", "style": ""}
    monkeypatch.setattr(examples, "load_source", lambda *a, **k: [record])
    monkeypatch.setattr(examples, "select", lambda source, **k: source)
    seen = []

    def metrics(queries, examples, text_emb, image_emb):
        seen.append(image_emb)
        return {}

    monkeypatch.setattr(retrieval, "retrieval_metrics", metrics)
    retrieval.retrieval(model, Settings("none", splits=("test",)))
    assert cosine(seen[0], unclip_jax.embed_image(model, image[None])) > 0.9999


def test_images_of_several_shapes_embed_as_each_alone(toy, image):
    other = image[:16, :16]
    together = unclip_jax.embed_image(toy, [image, other])
    for row, alone in zip(together, (image, other), strict=True):
        np.testing.assert_allclose(row, unclip_jax.embed_image(toy, alone[None])[0], atol=1e-5)


def test_a_prior_of_unit_embeddings_needs_a_decoder_that_reads_them(toy, tmp_path):
    """At saving, which is what export does, and at loading what was saved before the check."""
    held = toy.stage("decoder")
    norm = dataclasses.replace(held.spec.embedding_norm, kind="none")
    raw = dataclasses.replace(held, spec=dataclasses.replace(held.spec, embedding_norm=norm))
    mixed = dataclasses.replace(toy, stages={**toy.stages, "decoder": raw})
    words = "prior_diffusion gives image embeddings of unit length"
    with pytest.raises(UserError, match=words) as caught:
        unclip_jax.save(mixed, tmp_path / "mixed")
    assert "\n" not in str(caught.value) and not (tmp_path / "mixed").exists()
    unclip_jax.save(toy, tmp_path / "toy")
    path = tmp_path / "toy" / "bundle.json"
    text = path.read_text()
    at = text.index('"kind": "l2"', text.index('"decoder": {'))
    path.write_text(text[:at] + text[at:].replace('"kind": "l2"', '"kind": "none"', 1))
    with pytest.raises(UserError, match=words):
        unclip_jax.load(tmp_path / "toy")
    assert unclip_jax.load("emoji").stage("prior_ar")  # its decoder takes unit vectors


def test_sampling_may_start_from_less_noise(toy):
    """GLIDE's 0.997: x_T is that many times the noise; `initial_noise_scale` in the settings."""
    spec = toy.stage("upsampler_256").spec
    sampling = dataclasses.replace(spec.sampling, steps=1, eta=0.0, x0_bound=None)
    scaled = dataclasses.replace(sampling, initial_noise_scale=0.997)
    low_res = np.zeros((1, SIZE, SIZE, 3), np.float32)
    noise = np.random.default_rng(1).standard_normal((1, 32, 32, 3)).astype(np.float32)
    made = []
    for settings, x in ((scaled, noise), (sampling, 0.997 * noise)):
        made.append(
            unclip_jax.run_stage(
                toy,
                "upsampler_256",
                Cond(low_res=low_res),
                noise=lambda step, shape, x=x: x,
                sampling=settings,
            )
        )
    np.testing.assert_allclose(made[0], made[1], atol=1e-5)
    assert np.abs(made[0]).max() > 1e-3
