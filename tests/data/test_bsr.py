"""The degradation against latent-diffusion's: every operation, everything drawn, and the images.

The goldens come from the reference's own functions (tests/golden/make_bsr.py). Operations agree to
rounding. What is drawn, and what comes out, agrees in the mean within BOUND standard errors, those
of the reference's chains included.
"""

import functools
from pathlib import Path

import numpy as np
import pytest

from tests.golden import bsr_features
from unclip_jax.data import bsr

GOLDEN = Path(__file__).parent.parent / "golden" / "bsr.npz"
KINDS = ("bsr", "bsr_light")
RNG = np.random.default_rng(0)  # of steps that draw nothing
DRAWS, IMAGES = 1500, 250
METHODS = ("linear", "cubic", "area")
BOUND = 4.5  # standard errors; about 250 comparisons with fixed seeds
CLOSE = 2e-6  # float32 sums of values up to 1
RANGES = {  # of whole numbers, from the reference's text; enough is drawn to meet both ends
    "bsr": {"quality": (30, 95), "isotropic side": (7, 25), "anisotropic side": (7, 25)}
    | {"blurs": (2, 2), "jpegs": (1, 2), "noises": (1, 1)},
    "bsr_light": {"quality": (80, 95), "isotropic side": (5, 7), "anisotropic side": (5, 14)}
    | {"blurs": (1, 1), "jpegs": (1, 2), "noises": (1, 1)},
}


@functools.cache
def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


def cases(operation):
    """(parameters as strings, expected) of an operation."""
    prefix = f"op/{operation}/"
    return [(k.removeprefix(prefix), v) for k, v in golden().items() if k.startswith(prefix)]


def assert_alike(ours, kind, label):
    """Means within BOUND standard errors."""
    names, table = (golden()[f"{kind}/{label}/{part}"] for part in ("names", "table"))
    assert set(ours) == set(names)
    far = {}
    for name, (count, mean, deviation, _, _) in zip(names.tolist(), table, strict=True):
        n, m, s = ours[name][:3]
        error = max(s, deviation) * np.sqrt(1 / n + 1 / count)
        if abs(m - mean) > BOUND * error + 1e-6 * abs(mean):
            far[name] = (m, mean, error)
    assert not far


@pytest.fixture(scope="module")
def picture():
    return bsr_features.striped_image()


@pytest.mark.parametrize("kind", KINDS)
def test_images_are_alike(kind, picture):
    """Error, roughness along both axes, color, place and blocks of degraded images."""
    measures = []
    for seed in range(IMAGES):
        small = bsr.degrade(picture, kind, np.random.default_rng(seed))
        measures += bsr_features.image_features(small, picture).items()
    assert_alike(bsr_features.summarize(measures), kind, "seen")


@functools.cache
def drawn(kind):
    rng, found = np.random.default_rng(0), []
    for _ in range(DRAWS):
        steps = [recorded(step) for step in bsr.draw_steps(kind, (64, 64), rng)]
        found += bsr_features.chain_features(steps)
    return bsr_features.summarize(found)


@pytest.mark.parametrize("kind", KINDS)
def test_chains_are_alike(kind):
    """Halving, order, kernels, sizes, filters, noise and JPEG, as drawn."""
    found = drawn(kind)
    assert_alike(found, kind, "drawn")
    assert {name: found[name][3:] for name in RANGES[kind]} == RANGES[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_drawn_has_the_means_of_the_references_text(kind):
    """Closed forms, where there are some: sharper than the goldens, which are of fewer chains."""
    light = kind == "bsr_light"
    low, high = (1, 2) if light else (2, 25)
    squares = np.arange(low, high + 1.0) ** 2
    expected = {"halved": 0.25, "halved by bicubic": 0.5, "plain": 0.8 if light else 0.75}
    expected |= {f"{step} {m}": 1 / 3 for step in ("way", "last") for m in METHODS}
    expected |= {f"halved by {m}": 1 / 6 for m in METHODS}
    expected |= {"isotropic": 0.5, "jpegs": 1.9, "quality": sum(RANGES[kind]["quality"]) / 2}
    expected |= {"noise is own": 0.4, "noise is gray": 0.4, "noise is correlated": 0.2}
    expected |= {"own variance": squares.mean(), "gray variance": squares.mean()}
    expected |= {"correlated variance": high**2 / 2}  # diag(U^T D U) has the mean of D
    # One of a shuffle stands before the first of two others 1 time in 3, before the second 2 in 3.
    expected |= {"blur before way": 1 / 3, "blur before last": 2 / 3, "blur before noise": 1 / 2}
    expected |= {"jpeg before way": 1 / 3, "jpeg before last": 2 / 3, "jpeg before noise": 1 / 2}
    for factor in (2, 4):
        deviations = np.linspace(0, (0.25 if light else 1) * (2 + 0.2 * factor), 2001)[1:]
        sides = (5, 6, 7) if light else range(7, 26, 2)
        variances = np.mean([[gaussian_variance(d, n) for d in deviations] for n in sides])
        expected[f"isotropic variance {factor}"] = variances
    found, far = drawn(kind), {}
    for name, mean in expected.items():
        n, m, deviation = found.get(name, (1, np.inf, 0.0))[:3]  # infinite: never drawn
        # Two blurs of a chain share its order, so chains are counted.
        if abs(m - mean) > BOUND * deviation / np.sqrt(min(n, DRAWS)):
            far[name] = (m, mean)
    assert not far


def gaussian_variance(deviation, side):
    """Variance of the kernel exp(-x^2 / 2 s^2) on `side` pixels about their middle."""
    x = np.arange(side) - (side - 1) / 2
    weights = np.exp(-(x**2 - (x**2).min()) / (2 * deviation**2))
    return (weights * x**2).sum() / weights.sum()


def recorded(step):
    """A step as the goldens write it."""
    match step:
        case bsr.Resize(size, method):
            return "resize", method, size
        case bsr.Blur(kernel, stride):
            return "blur", kernel, stride
        case bsr.Noise(covariance):
            return "noise", covariance
        case bsr.Jpeg(quality):
            return "jpeg", quality


@pytest.mark.parametrize("kind", KINDS)
def test_a_chain_without_noise_is_the_references(kind):
    """The reference's own steps, done by ours: the same pixels, but for flips of rounding."""
    prefix, unequal, count = f"{kind}/replay/", [], 0
    image = bsr_features.striped_image(32).astype(np.float32) / 255
    while f"{prefix}{count}/steps" in golden():
        x = image
        for j, line in enumerate(golden()[f"{prefix}{count}/steps"].tolist()):
            x = bsr.apply(replayed(line.split(), f"{prefix}{count}/{j}"), x, RNG)
        difference = np.abs(255 * x - golden()[f"{prefix}{count}/image"])
        assert difference.max() < 2.5
        unequal.append((difference > 0.5).mean())
        count += 1
    assert count >= 12 and np.mean(unequal) < 0.05


def replayed(words, key):
    match words:
        case ["resize", method, height, width]:
            return bsr.Resize((int(height), int(width)), method)
        case ["blur", stride]:
            return bsr.Blur(golden()[key].astype(np.float64), int(stride))
        case ["jpeg", quality]:
            return bsr.Jpeg(int(quality))


def test_resizing_is_opencvs_and_matlabs():
    from unclip_jax.data.resampling import resize

    x, found = golden()["op/x"], cases("resize")
    assert len(found) == 16
    for name, expected in found:
        method, *sizes = name.split()
        h, w, *size = map(int, sizes)
        np.testing.assert_allclose(resize(x[:h, :w], tuple(size), method), expected, atol=CLOSE)


def test_stripes_alias_as_opencvs_do():
    """A wave of 2.5 pixels sampled every fourth keeps its height; a widened filter would end it."""
    from unclip_jax.data.resampling import resize

    wave = np.sin(2 * np.pi * np.arange(64) / 2.5).astype(np.float32)
    stripes = np.broadcast_to(wave[None, :, None], (64, 64, 3))
    # Linear at 4 i + 1.5 is the mean of two neighbors: the wave times cos(pi / 2.5).
    expected = np.cos(np.pi / 2.5) * np.sin(2 * np.pi * (4 * np.arange(16) + 1.5) / 2.5)
    made = resize(stripes, (16, 16), "linear")
    np.testing.assert_allclose(made[3, :, 1], expected, atol=1e-5)


@pytest.mark.parametrize("operation", ["anisotropic", "isotropic", "shifted"])
def test_kernels_from_their_parameters(operation):
    found = cases(operation)
    assert len(found) == 4
    for name, expected in found:
        first, *rest = map(float, name.split())
        if operation == "shifted":
            kernel = bsr.shifted_kernel(rest[0], int(first))
        elif operation == "isotropic":
            kernel = bsr.gaussian_kernel_2d(np.eye(2) * rest[0] ** 2, int(first))
        else:
            c, s = np.cos(rest[0]), np.sin(rest[0])
            axes = np.array([[c, -s], [s, c]])
            kernel = bsr.gaussian_kernel_2d((axes * rest[1:]) @ axes.T, int(first))
        np.testing.assert_allclose(kernel, expected, atol=1e-12)


def test_convolution_is_scipys():
    """Odd and even kernels, mirrored borders; and every f-th pixel of the shifted ones."""
    x = golden()["op/x"][:, :20]
    for name, expected in cases("blurred"):
        kernel = golden()[f"op/anisotropic/{name}"]
        np.testing.assert_allclose(bsr.convolve(x, kernel), expected, atol=CLOSE)
    for name, expected in cases("strided"):
        step = bsr.Blur(golden()[f"op/shifted/{name}"], int(name.split()[0]))
        np.testing.assert_allclose(bsr.apply(step, x, RNG), expected, atol=CLOSE)


def test_a_narrow_kernel_still_sums_to_one():
    """Of an even side its four middle pixels share; the reference's underflows to zeros."""
    kernel = bsr.gaussian_kernel_2d(np.eye(2) * 1e-8, 6)
    expected = np.zeros((6, 6))
    expected[2:4, 2:4] = 0.25
    np.testing.assert_allclose(kernel, expected, atol=1e-12)


def test_jpeg_is_opencvs():
    """The same pixels, but where another libjpeg rounds otherwise."""
    x = bsr_features.striped_image(32)[:, :24].astype(np.float32) / 255
    for name, expected in cases("jpeg"):
        made = 255 * bsr.apply(bsr.Jpeg(int(name)), x, RNG)
        difference = np.abs(made - expected)
        assert difference.max() < 2.5 and (difference > 0.5).mean() < 0.01


def test_noise_has_the_covariance_it_is_told():
    """256^2 draws on mid-gray; the standard error of a covariance is under 2 var / 256."""
    levels = np.array([[90.0, 40.0, 10.0], [40.0, 60.0, 20.0], [10.0, 20.0, 30.0]])
    for covariance in (levels, np.full((3, 3), 50.0), np.eye(3) * 50):
        x = np.full((256, 256, 3), 0.5, np.float32)
        made = bsr.apply(bsr.Noise(covariance / 255**2), x, np.random.default_rng(0))
        found = np.cov(255 * (made - x).reshape(-1, 3).T.astype(np.float64))
        np.testing.assert_allclose(found, covariance, atol=4 * np.sqrt(2) * 90 / 256)


@pytest.mark.parametrize("kind", KINDS)
def test_a_quarter_that_depends_on_the_generator_alone(picture, kind):
    wide = picture[:48]
    made = [bsr.degrade(wide, kind, np.random.default_rng(seed)) for seed in (3, 3, 4)]
    assert made[0].shape == (12, 16, 3) and made[0].dtype == np.uint8
    np.testing.assert_array_equal(made[0], made[1])
    assert (made[0] != made[2]).any()


def test_the_final_size_comes_after_the_resize_on_the_way():
    orders = [bsr.step_order(7, np.random.default_rng(seed)) for seed in range(300)]
    assert all(order.index(0) < order.index(1) for order in orders)
    assert all(sorted(order) == list(range(7)) for order in orders)
    assert {order[0] for order in orders} == {0, 2, 3, 4, 5, 6}


def test_sides_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="multiples of 8"):
        bsr.degrade(np.zeros((12, 16, 3), np.uint8), "bsr", np.random.default_rng(0))


def test_the_paper_upsampler_trains_on_the_light_variant():
    """latent-diffusion's published super-resolution model does (models/ldm/bsr_sr/config.yaml)."""
    from unclip_jax.configs.paper import upsampler_1024

    assert upsampler_1024.get_config().data.degrade == "bsr_light"
