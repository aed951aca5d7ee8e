"""The degradation's filters against SciPy, its order, and what it depends on."""

import numpy as np
import pytest
from scipy import ndimage

from unclip_jax.data import bsr

KINDS = ("bsr", "bsr_light")


@pytest.fixture(scope="module")
def picture():
    """Smooth colours with edges."""
    y, x = np.mgrid[0:64, 0:96] / 64.0
    waves = np.stack([np.sin(5 * x + y), np.cos(4 * y), (x > 0.7) & (y > 0.3)], axis=-1)
    return np.round(127.5 * (waves.clip(-1, 1) + 1)).astype(np.uint8)


def test_convolution_is_scipys(picture):
    x = picture.astype(np.float32) / 255
    covariance = np.array([[3.0, 1.2], [1.2, 2.0]])
    kernel = bsr.gaussian_kernel_2d(covariance, 7)
    expected = [
        ndimage.convolve(x[..., c].astype(np.float64), kernel, mode="reflect") for c in range(3)
    ]
    np.testing.assert_allclose(bsr.convolve(x, kernel), np.stack(expected, -1), atol=1e-6)


def test_kernel_has_the_moments_it_is_told():
    """Mean and covariance of the kernel as a distribution."""
    covariance = np.array([[4.0, 1.5], [1.5, 3.0]])
    kernel = bsr.gaussian_kernel_2d(covariance, 16, (0.5, -1.0))
    offsets = np.arange(-16, 17)
    y, x = np.meshgrid(offsets, offsets, indexing="ij")
    mean = np.array([(kernel * x).sum(), (kernel * y).sum()])
    np.testing.assert_allclose(mean, [-1.0, 0.5], atol=1e-6)
    d = np.stack([x - mean[0], y - mean[1]])
    np.testing.assert_allclose(np.einsum("hw,ihw,jhw->ij", kernel, d, d), covariance, atol=1e-4)


def test_the_stride_keeps_the_picture_in_place():
    """A ramp, blurred about the middle of each cell and taken every fourth pixel, is the mean."""
    ramp = np.repeat(np.linspace(0, 1, 64, dtype=np.float32)[None, :, None], 64, 0).repeat(3, 2)

    made = bsr.strided(ramp, 4, 2.4)
    cells = ramp.reshape(16, 4, 16, 4, 3).mean((1, 3))
    np.testing.assert_allclose(made[:, 4:-4], cells[:, 4:-4], atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_quarter_that_depends_on_the_generator_alone(picture, kind):
    made = [bsr.degrade(picture, kind, np.random.default_rng(seed)) for seed in (3, 3, 4)]
    assert made[0].shape == (16, 24, 3) and made[0].dtype == np.uint8
    np.testing.assert_array_equal(made[0], made[1])
    assert (made[0] != made[2]).any()


@pytest.mark.parametrize("kind, least, most", [("bsr", 15, 28), ("bsr_light", 20, 40)])
def test_the_picture_is_worse_but_still_there(picture, kind, least, most):
    """PSNR against the area average, by the mean error of many draws."""
    small = picture.reshape(16, 4, 24, 4, 3).astype(np.float64).mean((1, 3))
    errors = [
        np.mean((bsr.degrade(picture, kind, np.random.default_rng(seed)) - small) ** 2)
        for seed in range(60)
    ]
    assert least < 10 * np.log10(255**2 / np.mean(errors)) < most


def test_the_final_size_comes_after_the_resize_on_the_way():
    orders = [bsr.step_order(7, np.random.default_rng(seed)) for seed in range(300)]
    assert all(order.index(0) < order.index(1) for order in orders)
    assert all(sorted(order) == list(range(7)) for order in orders)
    assert {order[0] for order in orders} == {0, 2, 3, 4, 5, 6}


def test_sides_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="multiples of 8"):
        bsr.degrade(np.zeros((12, 16, 3), np.uint8), "bsr", np.random.default_rng(0))
