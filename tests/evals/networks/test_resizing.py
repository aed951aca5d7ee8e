"""TensorFlow 1's bilinear filter against its definition in loops; Pillow's against MATLAB's."""

import jax.numpy as jnp
import numpy as np
import pytest

from unclip_jax.data import resampling
from unclip_jax.evals.networks.resizing import pillow_bicubic, tf1_bilinear


def in_loops(image: np.ndarray, size: int) -> np.ndarray:
    """Pixel (i, j) is interpolated at (i h / size, j w / size); float64."""
    h, w, _ = image.shape
    found = np.empty((size, size, 3))
    for i in range(size):
        for j in range(size):
            y, x = i * h / size, j * w / size
            top, left = int(y), int(x)
            bottom, right = min(top + 1, h - 1), min(left + 1, w - 1)
            above = image[top, left] * (1 - x % 1) + image[top, right] * (x % 1)
            below = image[bottom, left] * (1 - x % 1) + image[bottom, right] * (x % 1)
            found[i, j] = above * (1 - y % 1) + below * (y % 1)
    return found


@pytest.mark.parametrize("shape", [(5, 9), (37, 22)])
def test_tf1_bilinear_is_that_of_loops(shape):
    images = np.random.default_rng(0).integers(0, 256, (2, *shape, 3)).astype(np.uint8)
    made = np.asarray(tf1_bilinear(jnp.asarray(images), 14))
    expected = np.stack([in_loops(image.astype(np.float64), 14) for image in images])
    np.testing.assert_allclose(made, expected, atol=1e-3)


def test_tf1_bilinear_starts_at_the_first_pixel_and_repeats_the_last():
    row = jnp.asarray([[[[10.0], [30.0]], [[10.0], [30.0]]]])
    np.testing.assert_array_equal(tf1_bilinear(row, 4)[0, 0, :, 0], [10, 20, 30, 30])


def test_tf1_bilinear_leaves_images_of_its_size_alone():
    images = np.random.default_rng(0).integers(0, 256, (1, 11, 11, 3)).astype(np.uint8)
    np.testing.assert_array_equal(tf1_bilinear(jnp.asarray(images), 11), images)


@pytest.mark.parametrize("source", [12, 40])
def test_pillow_bicubic_averages_when_downsampling_and_is_not_rounded(source):
    """MATLAB's imresize has the same filter; the edges, where it mirrors, are left out."""
    images = np.random.default_rng(0).integers(0, 256, (2, source, source, 3)).astype(np.uint8)
    made = pillow_bicubic(images, 24)
    expected = [
        resampling.resize(image.astype(np.float32), (24, 24), "bicubic") for image in images
    ]
    inner = np.s_[:, 6:-6, 6:-6]
    np.testing.assert_allclose(made[inner], np.stack(expected)[inner].clip(0, 255), atol=1e-2)
    assert np.abs(made - np.round(made)).max() > 0.1


def test_pillow_bicubic_stays_in_the_range():
    images = np.zeros((1, 8, 8, 3), np.uint8)
    images[:, :, 4:] = 255
    made = pillow_bicubic(images, 16)
    assert (made.min(), made.max()) == (0, 255)
    assert set(np.unique(made)) > {0, 255}
