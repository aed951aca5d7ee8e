"""Inception of torch-fidelity, with random weights, from the file that its class loads."""

import importlib
import importlib.util
import sys
import types
import warnings
from unittest.mock import MagicMock

import jax
import numpy as np
import pytest
import torch

from unclip_jax.evals.networks.inception import Inception, InceptionFeatures, load_inception


def submodule(name: str) -> types.ModuleType:
    """Imports a module of a package whose own __init__ would ask for torchvision."""
    package = name.partition(".")[0]
    if package not in sys.modules:
        shell = types.ModuleType(package)
        shell.__path__ = list(importlib.util.find_spec(package).submodule_search_locations)
        sys.modules[package] = shell
    return importlib.import_module(name)


def redrawn(shapes: dict, seed: int = 0) -> dict:
    """Draws every tensor of a state dict, at a scale that neither dies out nor grows."""
    draw, found = torch.Generator().manual_seed(seed), {}
    for key, shape in shapes.items():
        noise = torch.randn(shape, generator=draw)
        if key.endswith("running_var"):
            found[key] = 0.5 + noise.abs()
        elif len(shape) > 1:
            found[key] = noise * (2 / noise[0].numel()) ** 0.5
        elif key.endswith("num_batches_tracked"):
            found[key] = torch.tensor(0)
        else:
            found[key] = 0.2 * noise + (1.0 if key.endswith("bn.weight") else 0.0)
    return found


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The weights file of a network drawn at random; its keys are those of the class itself."""
    source = submodule("torch_fidelity.feature_extractor_inceptionv3")
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    shapes = {}

    class Blank(source.FeatureExtractorInceptionV3):
        def load_state_dict(self, state):
            del state
            shapes.update({key: tuple(value.shape) for key, value in self.state_dict().items()})

    torch.save({}, path)
    Blank("blank", ["2048"], feature_extractor_weights_path=str(path))
    torch.save(redrawn(shapes), path)
    return path


@pytest.fixture(scope="module")
def params(weights):
    return load_inception(weights)


LAYERS = ("192", "768", "2048", "logits_unbiased")


@pytest.mark.parametrize("size", [(32, 48), (320, 301)], ids=str)
def test_inception(weights, params, agree, size):
    source = submodule("torch_fidelity.feature_extractor_inceptionv3")
    theirs = source.FeatureExtractorInceptionV3(
        "inception", list(LAYERS), feature_extractor_weights_path=str(weights)
    )
    spatial = []
    theirs.Mixed_6d.branch1x1.register_forward_hook(lambda *call: spatial.append(call[-1]))
    images = np.random.default_rng(0).integers(0, 256, (2, *size, 3)).astype(np.uint8)
    out = dict(zip(LAYERS, theirs(torch.from_numpy(images).permute(0, 3, 1, 2)), strict=True))
    network = Inception(layers=("192", "768"))
    ours = jax.jit(network.apply)({"params": params}, images)
    for key, name in {
        "192": "192",
        "768": "768",
        "pool": "2048",
        "logits": "logits_unbiased",
    }.items():
        agree(f"Inception {name}", ours[key], out[name], 1e-4)
    expected = spatial[0][:, :7].permute(0, 2, 3, 1).reshape(2, -1)
    agree("Inception spatial", ours["spatial"], expected, 1e-4)


def test_recipes(weights, params, agree, monkeypatch):
    """ADM's graph is torch-fidelity's network; clean-fid's own resizer goes before the same one."""
    for absent in ("cv2", "torchvision"):
        monkeypatch.setitem(sys.modules, absent, MagicMock())
    source = submodule("torch_fidelity.feature_extractor_inceptionv3")
    theirs = source.FeatureExtractorInceptionV3(
        "inception", ["2048"], feature_extractor_weights_path=str(weights)
    )
    images = np.random.default_rng(1).integers(0, 256, (1, 64, 64, 3)).astype(np.uint8)
    (out,) = theirs(torch.from_numpy(images).permute(0, 3, 1, 2))
    made = {r: InceptionFeatures(params, r)(images)["pool"] for r in ("adm", "clean-fid")}
    agree("Inception, ADM's recipe", made["adm"], out, 1e-4)

    with warnings.catch_warnings():  # Pillow's, of how clean-fid names the mode
        warnings.simplefilter("ignore", DeprecationWarning)
        resized = submodule("cleanfid.resize").build_resizer("clean")(images[0])
    monkeypatch.setattr(source, "vassert", lambda *fine: None)  # it takes 8 bits only
    (clean,) = theirs(torch.from_numpy(resized)[None].permute(0, 3, 1, 2))
    agree("Inception, clean-fid's recipe", made["clean-fid"], clean, 1e-4)
    assert np.abs(made["clean-fid"] - made["adm"]).max() > 1e-2 * np.abs(made["adm"]).max()
