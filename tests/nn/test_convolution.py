"""The convolution against sums by hand, and which form of it each platform is given."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from unclip_jax.nn import convolution
from unclip_jax.nn.convolution import by_patches, by_tiles, by_windows
from unclip_jax.nn.layers import conv

TOLERANCE = {"rtol": 1e-5, "atol": 3e-5}  # float32 sums of 9 c products in another order


@pytest.fixture(params=["patches", "tiles"])
def any_width(request, monkeypatch):
    """Small networks take a form of wide ones."""
    monkeypatch.setattr(convolution, "WIDE_KERNEL", 1)
    if request.param == "tiles":
        monkeypatch.setattr(convolution, "FEW_PIXELS", 0)


def arrays(b=8, h=4, w=4, c=6, f=5):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(b, h, w, c)), rng.normal(size=(3, 3, c, f))
    return jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32)


def layer(x, kernel):
    module = conv(kernel.shape[-1], ("embed", "mlp"), name="conv", dtype=jnp.float32)
    return module.apply({"params": {"kernel": kernel, "bias": jnp.zeros(kernel.shape[-1])}}, x)


def by_hand(x, kernel):
    """Sums over neighbors inside the image, in float64."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    b, h, w, _ = x.shape
    y = np.zeros((b, h, w, kernel.shape[-1]))
    for i, j in np.ndindex(h, w):
        for di, dj in np.ndindex(3, 3):
            p, q = i + di - 1, j + dj - 1
            if 0 <= p < h and 0 <= q < w:
                y[:, i, j] += x[:, p, q] @ kernel[di, dj]
    return y


def wide(b=2, side=8, c=1280):
    shapes = (b, side, side, c), (3, 3, c, c)
    return [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]


def lowered(function, platform, *args):
    """The program of a platform; a function of its own is traced anew."""
    traced = jax.jit(lambda *args: function(*args)).trace(*args)
    return traced.lower(lowering_platforms=(platform,)).as_text()


def convolutions(text):
    return [
        re.sub(r"%\w+", "%", line.strip()) for line in text.splitlines() if "convolution(" in line
    ]


@pytest.mark.parametrize("sides", [(4, 4), (1, 7), (8, 3)])
def test_patches_are_the_sum_over_neighbors(sides):
    x, kernel = arrays(2, *sides)
    for form in (by_patches, by_windows):
        np.testing.assert_allclose(form(x, kernel), by_hand(x, kernel), **TOLERANCE)


@pytest.mark.parametrize("sides", [(4, 4), (2, 10), (12, 6)])
def test_tiles_are_the_sum_over_neighbors(sides):
    x, kernel = arrays(2, *sides)
    np.testing.assert_allclose(by_tiles(x, kernel), by_hand(x, kernel), **TOLERANCE)


@pytest.mark.parametrize(
    ("platform", "args", "is_product"),
    [
        ("cpu", wide(), True),
        ("tpu", wide(), False),
        ("cuda", wide(), False),
        ("cpu", wide(side=32, c=640), True),
        ("tpu", wide(side=32, c=640), False),
        ("cpu", wide(side=31, c=640), False),
        ("cpu", wide(side=256, c=640), False),
        ("cpu", wide(c=64), False),
        ("cpu", wide(side=32, c=64), False),
    ],
)
def test_only_a_cpu_multiplies_patches_and_only_where_it_pays(platform, args, is_product):
    text = lowered(layer, platform, *args)
    assert ("dot_general" in text) == is_product == ("stablehlo.convolution" not in text)


def test_accelerators_are_given_the_plain_convolution(any_width, monkeypatch):
    args = arrays()
    chosen = lowered(layer, "tpu", *args)
    monkeypatch.setattr(convolution, "WIDE_KERNEL", 10**9)
    plain = lowered(layer, "tpu", *args)
    assert convolutions(chosen) == convolutions(plain) != []
    assert "concatenate" not in chosen and "dot_general" not in chosen


def test_half_precision_keeps_the_plain_convolution(any_width):
    x, kernel = (array.astype(jnp.bfloat16) for array in arrays())
    assert convolution.cpu_form(x, kernel) is by_windows


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_a_training_has_the_program_of_the_plain_convolution(platform, any_width, monkeypatch):
    def gradient(x, kernel):
        loss = jax.checkpoint(lambda x, kernel: jnp.square(layer(jnp.tanh(x), kernel)).sum())
        return jax.grad(loss, (0, 1))(x, kernel)

    args = arrays()
    chosen = lowered(gradient, platform, *args)
    assert "stablehlo.case" not in chosen
    monkeypatch.setattr(convolution, "WIDE_KERNEL", 10**9)
    assert chosen == lowered(gradient, platform, *args)


@pytest.mark.parametrize("wrt", [0, 1, (0, 1)])
def test_gradients_are_those_of_the_plain_convolution(wrt, any_width):
    loss = lambda form: lambda x, kernel: jnp.sin(form(x, kernel)).sum()  # noqa: E731
    found, expected = (jax.grad(loss(form), wrt)(*arrays()) for form in (layer, by_windows))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **TOLERANCE), found, expected)
    product = lambda x: layer(x, arrays()[1])  # noqa: E731
    y, dy = jax.jvp(product, (arrays()[0],), (arrays()[0],))
    np.testing.assert_allclose(y, dy, **TOLERANCE)


def test_mapped_and_sharded_it_gives_the_same(any_width):
    x, kernel = arrays()
    expected = by_hand(x, kernel)
    mapped = jax.pmap(layer, in_axes=(0, None))(x.reshape(8, 1, 4, 4, 6), kernel)
    np.testing.assert_allclose(mapped.reshape(expected.shape), expected, **TOLERANCE)
    stacked = jax.vmap(layer, in_axes=(None, 0))(x, jnp.stack([kernel, 2 * kernel]))
    np.testing.assert_allclose(stacked, np.stack([expected, 2 * expected]), rtol=1e-4, atol=1e-4)
    mesh = jax.make_mesh((4, 2), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
    whole = [
        NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("data",), (None, None, "tensor"))
    ]
    placed = [jax.device_put(*pair) for pair in zip((x, kernel), whole, strict=True)]
    np.testing.assert_allclose(jax.jit(layer)(*placed), expected, **TOLERANCE)


def test_one_exported_program_serves_every_platform_and_batch(any_width):
    x, kernel = arrays()
    shape = jax.export.symbolic_shape("b, 4, 4, 6")
    args = jax.ShapeDtypeStruct(shape, x.dtype), jax.ShapeDtypeStruct(kernel.shape, x.dtype)
    exported = jax.export.export(jax.jit(layer), platforms=("cpu", "tpu", "cuda"))(*args)
    assert "stablehlo.case" in exported.mlir_module()
    again = jax.export.deserialize(exported.serialize())
    for rows in (1, 8):
        found = again.call(x[:rows], kernel)
        np.testing.assert_allclose(found, by_hand(x[:rows], kernel), **TOLERANCE)
