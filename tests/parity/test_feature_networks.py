"""Inception, DINOv2 and LPIPS with random weights, from the files that the references read."""

import importlib
import sys
import warnings
from pathlib import Path
from unittest.mock import MagicMock

import jax
import numpy as np
import pytest
import torch
from transformers import Dinov2Config, Dinov2Model

from tests.parity.karlo_models import redraw
from tests.parity.shells import submodule
from tests.tf_graphs import constant, content
from unclip_jax.evals.networks.dinov2 import Dinov2Features, load_dinov2, preprocess
from unclip_jax.evals.networks.inception import (
    Inception,
    InceptionFeatures,
    load_inception,
    shapes,
)
from unclip_jax.evals.networks.inception_names import TF_LEAVES, tf_places, torch_fidelity_table
from unclip_jax.evals.networks.lpips import LpipsDistance, load_lpips


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


def test_graph_of_tensorflow(weights, params, tmp_path):
    """The axes of each kind of tensor are those that torch-fidelity's converter turns round."""
    state, places = torch.load(weights), tf_places(shapes())
    names = {theirs: ours for ours, theirs in places.items()}
    kinds = ("conv", "weight", "bias", "running_mean", "running_var")
    ends = dict(zip(TF_LEAVES.values(), kinds, strict=True))
    nodes = [
        constant("softmax/weights", (2048, 1008), content(state["fc.weight"].numpy().T)),
        constant("softmax/biases", (1008,), content(state["fc.bias"].numpy())),
        constant("Sub/y", (), content(np.array(128.0))),
    ]
    for theirs, ours in names.items():
        key = torch_fidelity_table(shapes())[ours].names[0].removesuffix(".bn")
        for end, torchs in ends.items():
            value = state[f"{key}.conv.weight" if torchs == "conv" else f"{key}.bn.{torchs}"]
            array = value.permute(2, 3, 1, 0).numpy() if value.ndim == 4 else value.numpy()
            nodes.append(constant(f"{theirs}/{end}", array.shape, content(array)))
    path = tmp_path / "classify_image_graph_def.pb"
    path.write_bytes(b"".join(nodes))
    made = load_inception(path)
    assert jax.tree.all(jax.tree.map(np.array_equal, made, params))


@pytest.mark.parametrize("gated", [False, True], ids=["mlp", "swiglu"])
@pytest.mark.parametrize("trained_at", [518, 224, 112])
def test_dinov2(tmp_path, agree, trained_at, gated):
    """Positions are interpolated down, not at all, and up; every parameter is drawn."""
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3}
    theirs = Dinov2Model(Dinov2Config(image_size=trained_at, use_swiglu_ffn=gated, **sizes))
    redraw(theirs, 0).save_pretrained(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (2, 70, 64, 3)).astype(np.uint8)
    ours = Dinov2Features(*load_dinov2(tmp_path))(images)["pool"]
    out = theirs(torch.from_numpy(preprocess(images)).permute(0, 3, 1, 2))
    agree("DINOv2 class token", ours, out.pooler_output, 1e-4)


def torchvision_features(name: str) -> torch.nn.Sequential:
    """Returns `features` of torchvision's alexnet or vgg16, which is not installed here."""
    if name == "alexnet":
        rows = [(3, 64, 11, 4, 2), "M", (64, 192, 5, 1, 2), "M", (192, 384, 3, 1, 1)]
        rows += [(384, 256, 3, 1, 1), (256, 256, 3, 1, 1), "M"]
        side = 3
    else:
        rows, width, side = [], 3, 2
        for part in ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3):
            for wide in part:
                rows.append((width, wide, 3, 1, 1))
                width = wide
            rows.append("M")
    layers = []
    for row in rows:
        if row == "M":
            layers.append(torch.nn.MaxPool2d(side, 2))
        else:
            layers += [torch.nn.Conv2d(*row), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers)


@pytest.mark.parametrize(("trunk", "model"), [("alex", "alexnet"), ("vgg", "vgg16")])
def test_lpips(tmp_path, monkeypatch, agree, trunk, model):
    """The class of lpips with its own published heads, on a trunk drawn at random."""
    features = torchvision_features(model)
    state = redrawn({key: tuple(value.shape) for key, value in features.state_dict().items()})
    features.load_state_dict(state)
    stub = MagicMock()
    setattr(stub.models, model, lambda pretrained: MagicMock(features=features))
    monkeypatch.setitem(sys.modules, "torchvision", stub)
    lpips = importlib.import_module("lpips")
    networks = importlib.import_module("lpips.pretrained_networks")
    monkeypatch.setattr(networks, "tv", stub.models)
    theirs = lpips.LPIPS(net=trunk, verbose=False)

    path = tmp_path / "trunk.pth"
    classifier = {"classifier.1.weight": torch.zeros(2, 2)}
    torch.save({f"features.{key}": value for key, value in state.items()} | classifier, path)
    heads = Path(lpips.__file__).parent / "weights" / "v0.1" / f"{trunk}.pth"
    ours = LpipsDistance(trunk, load_lpips(trunk, path, heads))
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 65, 72, 3)).astype(np.uint8)
    one, two = (torch.from_numpy(x / np.float32(127.5) - 1).permute(0, 3, 1, 2) for x in images)
    out = theirs(one, two)[:, 0, 0, 0]
    agree(f"LPIPS {model}", ours(*images), out, 1e-4)
