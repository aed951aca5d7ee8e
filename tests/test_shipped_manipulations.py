"""Manipulations with the bundle that ships: faithful, and going where they are told.

The pictures are the model's own, drawn from captions: the real held-out ones are not in the
repository. `unclip eval --suite inversion|edits` measures those.
"""

import numpy as np
import pytest

import unclip_jax
from unclip_jax.checkpoint.bundle import clip_digests
from unclip_jax.checkpoint.pca_file import save_pca
from unclip_jax.models.pca import fit_pca, unit_moments

CAPTIONS = [
    *("a red heart", "a banana", "a green apple", "a blue car", "the sun", "a cactus"),
    *("a 3d emoji of a red heart", "a flat emoji of a banana"),
]
EACH = 4
FAST = {"size": 64, "invert_steps": 10}  # faithful enough here; the default is 100


def psnr(a, b):
    error = (a.astype(np.float64) - b.astype(np.float64)) ** 2
    return 10 * np.log10(255.0**2 / error.mean((1, 2, 3)))


@pytest.fixture(scope="module")
def model():
    return unclip_jax.load("emoji")


@pytest.fixture(scope="module")
def images(model):
    few = {"prior_steps": 8, "guidance": 1.0}
    return unclip_jax.sample(model, CAPTIONS, num=EACH, size=64, **few)


@pytest.fixture(scope="module")
def drift(model, images):
    """Distance to the input of all 32 pictures at each eta."""
    etas = (0.0, 0.4, 1.0)
    return {eta: psnr(unclip_jax.vary(model, images, eta=eta, **FAST), images) for eta in etas}


def test_a_picture_is_rebuilt(drift):
    assert len(drift[0.0]) == 32
    assert drift[0.0].mean() > 25.0


def test_eta_grows_the_distance(drift):
    means = [values.mean() for values in drift.values()]
    assert means == sorted(means, reverse=True)
    assert means[0] > means[-1] + 3.0


def test_text_diffs_go_toward_the_text(model, images):
    """By the bundle's own CLIP, which stands in for an independent one."""
    chosen, target = images[::EACH], "a blue heart"
    made = unclip_jax.edit(model, chosen, target, frames=4, **FAST)
    assert psnr(made[::4], chosen).mean() > 25.0  # theta 0 rebuilds
    emb = unclip_jax.embed_image(model, made)
    z_t = unclip_jax.embed_text(model, target).text_emb[0]
    cosine = emb @ z_t / np.linalg.norm(emb, axis=1) / np.linalg.norm(z_t)
    means = cosine.reshape(-1, 4).mean(0)
    assert (np.diff(means) > 0).all(), means
    assert means[-1] > means[0] + 0.05


def test_first_components_carry_more_than_later_ones(model, images, tmp_path):
    """Each further group of four components changes the decoded pictures less."""
    emb = unclip_jax.embed_image(model, images)
    basis = fit_pca(unit_moments(emb), sorted(clip_digests(model))[0])
    save_pca(tmp_path / "pca.safetensors", basis)
    dims = (0, 4, 8, 28)
    made = unclip_jax.reconstruct(
        model, images[::EACH], dims=dims, pca=str(tmp_path / "pca.safetensors"), size=64
    )
    rows = made.reshape(-1, len(dims), 64, 64, 3).astype(np.float64)
    changes = np.sqrt(np.square(np.diff(rows, axis=1)).mean((0, 2, 3, 4)))
    assert changes[0] > 1.5 * changes[1] > 1.5 * changes[2] * 0.7, changes


def test_half_a_heart_is_completed(model):
    """The kept half stays; the filled half is red where a heart is red, and white beside it."""
    heart = unclip_jax.sample(model, "a red heart", num=1, size=64)
    mask = np.zeros((1, 64, 64), bool)
    mask[:, :, 32:] = True
    made = unclip_jax.inpaint(model, heart, mask, "a red heart", size=64, resamples=2)
    np.testing.assert_array_equal(made[:, :, :32], heart[:, :, :32])
    inside = made[0, 24:34, 38:46].astype(float).mean((0, 1))
    assert inside[0] > 1.5 * inside[1] and inside[0] > 1.5 * inside[2]
    assert made[0, :4, 60:].mean() > 230
