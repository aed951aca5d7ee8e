"""DINOv2's vision transformer as transformers' Dinov2Model computes it (Oquab et al. 2023).

The feature is the class token after the last norm. The recipe is that of Stein et al. 2023
("Exposing flaws of generative model evaluation metrics"): Pillow's bicubic filter on 8-bit images
to 224 x 224, ImageNet's statistics, ViT-L/14. Two things differ from other code: torch-fidelity
resizes as TensorFlow 1 does; and the authors' own code interpolates positions with an offset of
0.1 patches, which transformers leaves out, and so does this.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image

from unclip_jax.convert.config_files import demand, need, read_config
from unclip_jax.convert.name_tables import Table, blocks, module, raw
from unclip_jax.convert.torch_files import find_weights, open_tensors
from unclip_jax.core.checks import COUNT, check_ranges
from unclip_jax.core.config import build
from unclip_jax.core.errors import UserError
from unclip_jax.core.types import Params
from unclip_jax.data import resampling
from unclip_jax.evals.networks.loading import check_hub_digest, load_params, param_shapes, runner
from unclip_jax.nn.attention import SelfAttention
from unclip_jax.nn.layers import gelu

SIDE = 224
RECIPE = "Stein et al. 2023: Pillow bicubic to 224 in 8 bits, ImageNet's statistics, class token"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EPS = 1e-6
LIMIT = 16  # images a device takes a call


@dataclasses.dataclass(frozen=True)
class Dinov2Config:
    """Sizes of the transformer.

    Attributes:
        width: channels of a token.
        layers: number of blocks.
        heads: attention heads of a block; must divide `width`.
        hidden: channels inside the MLP.
        image_size: side in pixels that the positions were trained for.
        patch_size: side of a patch in pixels.
        gated: the MLP is a SwiGLU, as in ViT-g/14.
    """

    width: int
    layers: int
    heads: int
    hidden: int
    image_size: int
    patch_size: int
    gated: bool = False

    def __post_init__(self):
        """Checks the sizes."""
        names = ("width", "layers", "heads", "hidden", "image_size", "patch_size")
        check_ranges(self, **dict.fromkeys(names, COUNT))
        if self.width % self.heads:
            raise ValueError(f"width={self.width} must be a multiple of heads={self.heads}")
        if self.patch_size > min(self.image_size, SIDE):
            size = min(self.image_size, SIDE)
            raise ValueError(f"patch_size={self.patch_size} is more than {size} pixels")

    @property
    def grid(self) -> int:
        """Patches along a side of `image_size`."""
        return self.image_size // self.patch_size


class Block(nn.Module):
    """x + a * attention(norm(x)), then x + b * mlp(norm(x)), with a scale a channel."""

    cfg: Dinov2Config

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Applies one block."""
        cfg = self.cfg
        y = SelfAttention(cfg.heads, name="attn")(_norm("norm_1")(x))
        x = x + self._scaled("scale_1", y)
        y = _norm("norm_2")(x)
        if cfg.gated:
            gate, up = jnp.split(nn.Dense(2 * cfg.hidden, name="mlp_in")(y), 2, axis=-1)
            y = nn.silu(gate) * up
        else:
            y = gelu(nn.Dense(cfg.hidden, name="mlp_in")(y))
        return x + self._scaled("scale_2", nn.Dense(cfg.width, name="mlp_out")(y))

    def _scaled(self, name: str, y: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        scale = self.param(name, nn.initializers.ones, (self.cfg.width,), jnp.float32)
        return y * scale[None, None]


def _norm(name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=EPS, use_fast_variance=False, name=name)


class Dinov2(nn.Module):
    """From normalized images to the class token.

    Attributes:
        positions: number of positions, the class token's included; None for those of
            `cfg.image_size`.
    """

    cfg: Dinov2Config
    positions: int | None = None

    @nn.compact
    def __call__(self, images: Float[Array, "n h w 3"]) -> Float[Array, "n d"]:
        """Returns the normed class token of images whose patches the positions count."""
        cfg, zeros = self.cfg, nn.initializers.zeros
        patch = (cfg.patch_size, cfg.patch_size)
        x = nn.Conv(cfg.width, patch, patch, "VALID", name="patch_embed")(images)
        x = x.reshape(len(x), -1, cfg.width)
        token = self.param("class_embed", zeros, (1, 1, cfg.width), jnp.float32)
        x = jnp.concatenate([jnp.broadcast_to(token, (len(x), 1, cfg.width)), x], axis=1)
        count = self.positions or cfg.grid**2 + 1
        x = x + self.param("pos_embed", zeros, (1, count, cfg.width), jnp.float32)
        for i in range(cfg.layers):
            x = Block(cfg, name=f"blocks_{i}")(x)
        return _norm("norm")(x[:, 0])


def fit_positions(table: Float[np.ndarray, "1 n d"], grid: int) -> Float[np.ndarray, "1 m d"]:
    """Interpolates a square table of positions to another grid; the class token's stays.

    Bicubic with a = -0.75 and without antialiasing, as torch's interpolate.
    """
    token, square = table[:, :1], table[0, 1:]
    side = round(len(square) ** 0.5)
    if side == grid:
        return table
    resized = resampling.resize(square.reshape(side, side, -1), (grid, grid), "cubic")
    return np.concatenate([token, resized.reshape(1, grid * grid, -1)], axis=1)


def preprocess(images: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n s s 3"]:
    """Resizes in 8 bits to 224 x 224 by Pillow's bicubic filter and applies the statistics."""
    size = (SIDE, SIDE)
    resized = [Image.fromarray(image).resize(size, Image.Resampling.BICUBIC) for image in images]
    unit = np.stack([np.asarray(image) for image in resized]).astype(np.float32) / np.float32(255)
    return (unit - np.float32(MEAN)) / np.float32(STD)


def table(cfg: Dinov2Config) -> Table:
    """Returns the names of Dinov2Model's files."""
    inner = "weights_in" if cfg.gated else "fc1"
    outer = "weights_out" if cfg.gated else "fc2"
    qkv = [f"attention.attention.{part}" for part in ("query", "key", "value")]
    block = {
        "norm_1": module("norm1"),
        "attn/qkv": module(*qkv, heads=cfg.heads),
        "attn/out": module("attention.output.dense"),
        "scale_1": raw("layer_scale1.lambda1"),
        "norm_2": module("norm2"),
        "mlp_in": module(f"mlp.{inner}"),
        "mlp_out": module(f"mlp.{outer}"),
        "scale_2": raw("layer_scale2.lambda1"),
    }
    stack = {
        path.removeprefix("/"): source
        for path, source in blocks("", "encoder.layer.{}", cfg.layers, block).items()
    }
    return {
        "class_embed": raw("embeddings.cls_token"),
        "pos_embed": raw("embeddings.position_embeddings"),
        "patch_embed": module("embeddings.patch_embeddings.projection"),
        "norm": module("layernorm"),
        **stack,
    }


def read_dinov2_config(folder: Path) -> Dinov2Config:
    """Reads the config.json of a Dinov2Model folder.

    Raises:
        UserError: it describes another network, or one with other layers.
    """
    config = read_config(folder)
    what = str(folder / "config.json")
    wanted = {"model_type": "dinov2", "hidden_act": "gelu", "qkv_bias": True, "num_channels": 3}
    demand(what, config, wanted | {"layer_norm_eps": EPS})
    width, gated = need(what, config, "hidden_size"), config.get("use_swiglu_ffn", False)
    values = {
        "width": width,
        "layers": need(what, config, "num_hidden_layers"),
        "heads": need(what, config, "num_attention_heads"),
        "hidden": _hidden(what, width, config, gated is True),
        "image_size": need(what, config, "image_size"),
        "patch_size": need(what, config, "patch_size"),
        "gated": gated,
    }
    return build(Dinov2Config, values, what)


def _hidden(what: str, width: int, config: Mapping[str, Any], gated: bool) -> int:
    """Returns the MLP's channels; a SwiGLU has two thirds, rounded up to a multiple of 8."""
    ratio = config.get("mlp_ratio", 4)
    if type(ratio) not in (int, float) or not 0 < ratio <= 64:
        raise UserError(f"{what}: mlp_ratio must be a number up to 64, not {ratio!r}")
    hidden = int(width * ratio)
    return (int(hidden * 2 / 3) + 7) // 8 * 8 if gated else hidden


def load_dinov2(folder: Path) -> tuple[Dinov2Config, Params]:
    """Reads a Dinov2Model folder: config.json and model.safetensors, or pytorch_model.bin.

    Raises:
        UserError: the folder holds another network, or keys or shapes are not its own.
    """
    cfg = read_dinov2_config(folder)
    path = find_weights(folder, "model", "pytorch_model")
    check_hub_digest(path)
    tensors = open_tensors(path)
    if cfg.layers > len(tensors.shapes):
        raise UserError(f"{folder / 'config.json'}: {cfg.layers} layers, but {path} has fewer")
    size = cfg.grid * cfg.patch_size
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    shapes = param_shapes(Dinov2(cfg), images)
    params = load_params("DINOv2", shapes, table(cfg), tensors, ("embeddings.mask_token",))
    return cfg, params


class Dinov2Features:
    """Extracts "pool", the class token."""

    def __init__(self, cfg: Dinov2Config, params: Params):
        """Fits the positions to the recipe's size and places the parameters on all devices."""
        grid = SIDE // cfg.patch_size
        network = Dinov2(cfg, grid**2 + 1)
        params = {**params, "pos_embed": fit_positions(params["pos_embed"], grid)}
        self._run = runner(lambda p, x: network.apply({"params": p}, x), params, LIMIT)

    def __call__(self, images: UInt8[np.ndarray, "n h w 3"]) -> dict[str, Float[np.ndarray, "n d"]]:
        """Returns the features of images of one shape."""
        return {"pool": self._run(preprocess(images))}
