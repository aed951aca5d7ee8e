import jax
import numpy as np
import pytest
from scipy import ndimage

from unclip_jax.train.tasks.degradations import gaussian_blur, gaussian_kernel, random_blur


@pytest.fixture(scope="module")
def images():
    return jax.random.uniform(jax.random.key(0), (4, 8, 8, 3), minval=-1, maxval=1)


def test_kernel_is_a_normalized_gaussian():
    kernel = np.asarray(gaussian_kernel(0.6, 3), np.float64)
    assert kernel.sum() == pytest.approx(1)
    assert kernel[0] == pytest.approx(kernel[2])
    assert kernel[0] / kernel[1] == pytest.approx(np.exp(-1 / (2 * 0.36)), rel=1e-6)


def test_blur_is_scipys(images):
    expected = ndimage.gaussian_filter(
        np.asarray(images, np.float64),
        sigma=(0, 0.6, 0.6, 0),
        radius=(0, 1, 1, 0),
        mode="nearest",
    )
    np.testing.assert_allclose(gaussian_blur(images, 0.6), expected, atol=1e-6)


def test_each_image_has_its_own_sigma(images):
    sigmas = np.asarray([0.3, 0.6, 1.0, 2.0], np.float32)
    blurred = gaussian_blur(images, jax.numpy.asarray(sigmas))
    for i, sigma in enumerate(sigmas):
        alone = gaussian_blur(images[i : i + 1], float(sigma))
        np.testing.assert_allclose(blurred[i : i + 1], alone, atol=1e-6)


def test_random_blur_is_all_or_nothing_by_each_key(images):
    keys = jax.random.split(jax.random.key(3), 4)
    out = np.asarray(random_blur(keys, images, probability=0.5))
    blurred = np.asarray(gaussian_blur(images))
    which = [np.array_equal(out[i], blurred[i]) for i in range(4)]
    assert all(w or np.array_equal(out[i], images[i]) for i, w in enumerate(which))
    # An image's fate hangs on its own key, not on its neighbors.
    turned = np.asarray(random_blur(keys[::-1], images[::-1], probability=0.5))[::-1]
    np.testing.assert_array_equal(turned, out)
    always = random_blur(keys, images, probability=1.0)
    np.testing.assert_allclose(always, blurred, atol=1e-7)
    np.testing.assert_array_equal(random_blur(keys, images, probability=0.0), images)


def test_blur_share_is_the_probability():
    keys = jax.random.split(jax.random.key(0), 2000)
    spots = jax.numpy.zeros((2000, 3, 3, 1)).at[:, 1, 1].set(1.0)
    share = float((random_blur(keys, spots, probability=0.5)[:, 1, 1, 0] < 1).mean())
    assert abs(share - 0.5) < 0.045  # four standard deviations
