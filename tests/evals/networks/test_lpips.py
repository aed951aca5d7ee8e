"""LPIPS with a trunk small enough for NumPy; the real trunks' sizes; which files are read."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from unclip_jax.core.errors import UserError
from unclip_jax.evals.networks import lpips
from unclip_jax.evals.networks.lpips import Layer, LpipsDistance, load_lpips

FEATURES = {"alex": 2_469_696, "vgg": 14_714_688}  # torchvision's `features`; Keras' without top


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A trunk of two 1x1 convolutions with a pool between, and its files."""
    layers = (Layer(0, 3, size=1, pad=0), Layer(3, 2, size=1, pad=0, pool=2))
    monkeypatch.setitem(lpips.TRUNKS, "alex", layers)
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)  # noqa: E731
    body = {
        "features.0.weight": draw(3, 3, 1, 1),
        "features.0.bias": draw(3),
        "features.3.weight": draw(2, 3, 1, 1),
        "features.3.bias": draw(2) + 1,
    }
    heads = {"lin0.model.1.weight": draw(1, 3, 1, 1), "lin1.model.1.weight": draw(1, 2, 1, 1)}
    save_file(body | {"classifier.1.weight": draw(4, 4)}, tmp_path / "trunk.safetensors")
    save_file(heads, tmp_path / "heads.safetensors")
    return tmp_path, body, heads


def oracle(one: np.ndarray, two: np.ndarray, body: dict, heads: dict) -> float:
    """Returns the distance of two images in 0 … 255, in float64."""

    def taps(image):
        x = image.astype(np.float64) / 127.5 - 1
        x = (x - np.array([-0.030, -0.088, -0.188])) / np.array([0.458, 0.448, 0.450])
        x = np.maximum(x @ body["features.0.weight"][:, :, 0, 0].T + body["features.0.bias"], 0)
        h, w, c = x.shape
        y = x.reshape(h // 2, 2, w // 2, 2, c).max((1, 3))
        y = np.maximum(y @ body["features.3.weight"][:, :, 0, 0].T + body["features.3.bias"], 0)
        return [f / (np.sqrt((f**2).sum(-1, keepdims=True)) + 1e-10) for f in (x, y)]

    return sum(
        ((f - g) ** 2 @ heads[f"lin{i}.model.1.weight"][0, :, 0, 0]).mean()
        for i, (f, g) in enumerate(zip(taps(one), taps(two), strict=True))
    )


def test_distances_are_those_of_numpy(files):
    folder, body, heads = files
    params = load_lpips("alex", folder / "trunk.safetensors", folder / "heads.safetensors")
    distance = LpipsDistance("alex", params)
    images = np.random.default_rng(1).integers(0, 256, (3, 4, 6, 3)).astype(np.uint8)
    made = distance.within(images)
    expected = [oracle(images[i], images[j], body, heads) for i, j in ((0, 1), (0, 2), (1, 2))]
    np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(distance(images, images), 0.0, atol=1e-12)


@pytest.mark.parametrize("trunk", FEATURES)
def test_trunks_have_as_many_parameters_as_published(trunk):
    inputs, total = 3, 0
    for layer in lpips.TRUNKS[trunk]:
        total += layer.width * (inputs * layer.size**2 + 1)
        inputs = layer.width
    assert total == FEATURES[trunk]


def test_heads_of_another_trunk_are_refused(files):
    folder, _, heads = files
    save_file(heads | {"lin2.model.1.weight": np.zeros((1, 4, 1, 1))}, folder / "more.safetensors")
    with pytest.raises(UserError, match=r"unknown keys for LPIPS \(alex\): heads\.lin2"):
        load_lpips("alex", folder / "trunk.safetensors", folder / "more.safetensors")
