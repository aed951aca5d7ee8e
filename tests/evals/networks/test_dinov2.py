"""DINOv2 at a toy size against a float64 oracle, from a folder as transformers writes it."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from unclip_jax.core.errors import UserError
from unclip_jax.evals.features import load_features
from unclip_jax.evals.networks.dinov2 import (
    Dinov2,
    Dinov2Config,
    fit_positions,
    load_dinov2,
    preprocess,
    read_dinov2_config,
)
from unclip_jax.evals.networks.loading import param_shapes

WIDTH, LAYERS, HEADS, PATCH = 8, 2, 2, 56  # 4 x 4 patches at the recipe's 224 pixels
SIZES = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
CONFIG = SIZES | {"model_type": "dinov2", "image_size": 3 * PATCH, "patch_size": PATCH}


def weights(gated: bool) -> dict[str, np.ndarray]:
    """Draws a state dict; the keys are those of facebook/dinov2-small and -giant."""
    rng, found = np.random.default_rng(0), {}
    inner, hidden, outer = ("weights_in", 24, "weights_out") if gated else ("fc1", 32, "fc2")

    def linear(name: str, out: int, fan_in: int) -> None:
        found[f"{name}.weight"] = rng.standard_normal((out, fan_in)) / fan_in**0.5
        found[f"{name}.bias"] = rng.standard_normal(out)

    for i in range(LAYERS):
        layer = f"encoder.layer.{i}"
        for part in ("attention.query", "attention.key", "attention.value", "output.dense"):
            linear(f"{layer}.attention.{part}", WIDTH, WIDTH)
        linear(f"{layer}.mlp.{inner}", 2 * hidden if gated else hidden, WIDTH)
        linear(f"{layer}.mlp.{outer}", WIDTH, hidden)
        for n in (1, 2):
            found[f"{layer}.norm{n}.weight"] = rng.standard_normal(WIDTH)
            found[f"{layer}.norm{n}.bias"] = rng.standard_normal(WIDTH)
            found[f"{layer}.layer_scale{n}.lambda1"] = rng.standard_normal(WIDTH)
    for name, shape in {
        "embeddings.cls_token": (1, 1, WIDTH),
        "embeddings.mask_token": (1, WIDTH),
        "embeddings.position_embeddings": (1, 10, WIDTH),
        "embeddings.patch_embeddings.projection.weight": (WIDTH, 3, PATCH, PATCH),
        "embeddings.patch_embeddings.projection.bias": (WIDTH,),
        "layernorm.weight": (WIDTH,),
        "layernorm.bias": (WIDTH,),
    }.items():
        found[name] = rng.standard_normal(shape) / (PATCH if len(shape) == 4 else 1)
    return {key: value.astype(np.float32) for key, value in found.items()}


def write(folder, state, **config):
    (folder / "config.json").write_text(json.dumps(CONFIG | config), encoding="utf-8")
    save_file(state, folder / "model.safetensors")
    return folder


def oracle(state: dict, image: np.ndarray, positions: np.ndarray, gated: bool) -> np.ndarray:
    """Returns the class token of one normalized image, written from the paper in float64."""
    w = {key: value.astype(np.float64) for key, value in state.items()}
    linear = lambda name, x: x @ w[f"{name}.weight"].T + w[f"{name}.bias"]  # noqa: E731

    def norm(name, x):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    grid = len(image) // PATCH
    patches = image.reshape(grid, PATCH, grid, PATCH, 3).transpose(0, 2, 4, 1, 3)
    kernel = w["embeddings.patch_embeddings.projection.weight"].reshape(WIDTH, -1)
    x = patches.reshape(grid * grid, -1) @ kernel.T
    x = x + w["embeddings.patch_embeddings.projection.bias"]
    x = np.concatenate([w["embeddings.cls_token"][0], x]) + positions
    for i in range(LAYERS):
        name = f"encoder.layer.{i}"
        y = norm(f"{name}.norm1", x)
        q, k, v = (
            linear(f"{name}.attention.attention.{part}", y).reshape(len(x), HEADS, -1)
            for part in ("query", "key", "value")
        )
        scores = np.einsum("ihc,jhc->hij", q, k) / math.sqrt(WIDTH / HEADS)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        y = np.einsum("hij,jhc->ihc", scores, v).reshape(len(x), WIDTH)
        x = x + w[f"{name}.layer_scale1.lambda1"] * linear(f"{name}.attention.output.dense", y)
        y = norm(f"{name}.norm2", x)
        if gated:
            gate, up = np.split(linear(f"{name}.mlp.weights_in", y), 2, axis=-1)
            y = linear(f"{name}.mlp.weights_out", gate / (1 + np.exp(-gate)) * up)
        else:
            y = linear(f"{name}.mlp.fc1", y)
            y = y * (1 + np.vectorize(math.erf)(y / math.sqrt(2))) / 2
            y = linear(f"{name}.mlp.fc2", y)
        x = x + w[f"{name}.layer_scale2.lambda1"] * y
    return norm("layernorm", x[0])


@pytest.mark.parametrize("gated", [False, True], ids=["mlp", "swiglu"])
def test_class_token_is_that_of_the_oracle(model, tmp_path, gated):
    state = weights(gated)
    write(tmp_path, state, use_swiglu_ffn=gated)
    features = load_features(f"dinov2:{tmp_path}", model)
    assert features.name == "DINOv2"
    images = np.random.default_rng(1).integers(0, 256, (2, 100, 60, 3)).astype(np.uint8)
    made = features.extract(images)
    positions = fit_positions(state["embeddings.position_embeddings"], 4)[0].astype(np.float64)
    inputs = preprocess(images).astype(np.float64)
    expected = [oracle(state, image, positions, gated) for image in inputs]
    assert list(made) == ["pool"]
    np.testing.assert_allclose(made["pool"], expected, rtol=1e-4, atol=1e-4)


def test_preprocessing_is_pillows_in_8_bits():
    images = np.random.default_rng(1).integers(0, 256, (1, 50, 60, 3)).astype(np.uint8)
    made = preprocess(images)[0]
    eight = np.asarray(Image.fromarray(images[0]).resize((224, 224), Image.Resampling.BICUBIC))
    again = made * np.array([0.229, 0.224, 0.225]) + np.array([0.485, 0.456, 0.406])
    np.testing.assert_allclose(again * 255, eight, atol=1e-3)


def test_positions_are_interpolated_by_torchs_bicubic_filter():
    """Half-way between pixels its taps are -3/32, 19/32, 19/32, -3/32; the class token's stays."""
    rows = np.square(np.arange(10.0))[:, None] + np.zeros((10, 10))
    table = np.concatenate([[-5.0], rows.reshape(-1)])[None, :, None].astype(np.float32)
    made = fit_positions(table, 5)
    assert made.shape == (1, 26, 1)
    assert made[0, 0, 0] == -5.0
    expected = [(19 * (4 + 9) - 3 * (1 + 16)) / 32, (19 * (16 + 25) - 3 * (9 + 36)) / 32]
    np.testing.assert_allclose(made[0, 1:, 0].reshape(5, 5)[1:3, 2], expected, atol=1e-5)
    assert fit_positions(table, 10) is table


@pytest.mark.parametrize(
    ("width", "layers", "heads", "gated", "millions"),
    [(384, 12, 6, False, 22.06), (768, 12, 12, False, 86.58), (1536, 40, 24, True, 1136.48)],
    ids=["small", "base", "giant"],
)
def test_parameters_are_as_many_as_published(tmp_path, width, layers, heads, gated, millions):
    """By the table of timm's models, at 518 pixels, in millions."""
    sizes = dict(zip(SIZES, (width, layers, heads), strict=True))
    config = {"image_size": 518, "patch_size": 14, "use_swiglu_ffn": gated, **sizes}
    cfg = read_dinov2_config(write(tmp_path, {"a": np.zeros(1)}, **config))
    images = jax.ShapeDtypeStruct((1, 518, 518, 3), jnp.float32)
    one, two = (
        sum(math.prod(shape) for shape in param_shapes(Dinov2(cut), images).values())
        for cut in (Dinov2Config(**vars(cfg) | {"layers": n}) for n in (1, 2))
    )
    assert round((one + (layers - 1) * (two - one)) / 1e6, 2) == millions


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "dinov2_with_registers"}, "model_type='dinov2_with_registers' is not"),
        ({"hidden_act": "relu"}, "hidden_act='relu' is not supported"),
        ({"num_attention_heads": 3}, "width=8 must be a multiple of heads=3"),
        ({"mlp_ratio": "four"}, "mlp_ratio must be a number up to 64"),
        ({"num_hidden_layers": 3}, r"missing keys for DINOv2: .*encoder\.layer\.2\."),
        ({"num_hidden_layers": 100_000}, "100000 layers, but"),
        ({"use_swiglu_ffn": True}, r"unknown keys for DINOv2: .*mlp\.fc1"),
        ({"image_size": 4 * PATCH}, r"position_embeddings is \(1, 10, 8\), not \(1, 17, 8\)"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_other_networks_are_refused(tmp_path, config, message):
    write(tmp_path, weights(False), **config)
    with pytest.raises(UserError, match=message):
        load_dinov2(tmp_path)
