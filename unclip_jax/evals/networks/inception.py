"""InceptionV3 as FID knows it: TensorFlow's graph of 2015, not torchvision's network.

Three recipes are in use under one name. The network is the same in all; numbers of different
recipes are not to be compared.

    torch-fidelity   images are resized to 299 as TensorFlow 1 does (`tf1_bilinear`), then
                     (x - 128) / 128; torch-fidelity 0.4, FeatureExtractorInceptionV3
    adm              the graph that guided-diffusion's evaluator runs, which resizes and scales in
                     the same way: its features are torch-fidelity's up to rounding. Its Inception
                     score differs: the mean of runs of 5,000 images, not of ten runs
    clean-fid        Pillow's bicubic filter brings images to 299 (`pillow_bicubic`), cut to
                     0 … 255 and not rounded; then (x - 128) / 128; clean-fid 0.1, mode "clean"

The 2015 graph differs from the published network in two places that count: average pools leave the
padding out, and the last block has a max pool. It has 1,008 classes.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num, UInt8

from unclip_jax.convert.name_tables import Shapes
from unclip_jax.convert.tf_graph import only_named, open_graph
from unclip_jax.convert.torch_files import open_tensors
from unclip_jax.core.types import Params
from unclip_jax.evals.networks.inception_names import (
    TF_ENDS,
    tf_graph_table,
    torch_fidelity_table,
)
from unclip_jax.evals.networks.loading import check_hub_digest, load_params, param_shapes, runner
from unclip_jax.evals.networks.resizing import pillow_bicubic, tf1_bilinear

Recipe = Literal["torch-fidelity", "adm", "clean-fid"]

RECIPES: dict[Recipe, str] = {
    "torch-fidelity": "torch-fidelity: TF1 bilinear to 299, (x - 128) / 128, Inception of 2015",
    "adm": "ADM evaluator: TF1 bilinear to 299, (x - 128) / 128, Inception of 2015",
    "clean-fid": "clean-fid: Pillow bicubic to 299, (x - 128) / 128, Inception of 2015",
}
"""What `Metric.recipe` says."""
SCORE_RUNS: dict[Recipe, int] = {"adm": 5000}
"""Images of a run of the Inception score; ten runs, however long, where a recipe is not named."""

SIDE = 299
SPATIAL = 7  # channels of mixed_6/conv that sFID takes (guided-diffusion, evaluator.py)
CLASSES = 1008
BN_EPS = 1e-3
LIMIT = 16  # images a device takes a call

Pool = Literal["mean", "max", "stride"]


class Step(NamedTuple):
    """A convolution of a branch: its channels, its kernel's height and width, its stride."""

    features: int
    size: tuple[int, int] = (1, 1)
    stride: int = 1


class Branch(NamedTuple):
    """Convolutions one after another; with `fork`, the last becomes a 1x3 beside a 3x1."""

    name: str
    steps: tuple[Step, ...]
    fork: bool = False


@dataclasses.dataclass(frozen=True)
class Block:
    """Branches side by side, and a pool beside them.

    Attributes:
        pool: "mean" without the padding, "max", or "stride": a max pool that halves the image.
        pool_features: channels of the 1x1 convolution after the pool; 0 for none.
    """

    branches: tuple[Branch, ...]
    pool: Pool
    pool_features: int = 0


def _block_a(pool_features: int) -> Block:
    branches = (
        Branch("branch1x1", (Step(64),)),
        Branch("branch5x5", (Step(48), Step(64, (5, 5)))),
        Branch("branch3x3dbl", (Step(64), Step(96, (3, 3)), Step(96, (3, 3)))),
    )
    return Block(branches, "mean", pool_features)


def _block_c(width: int) -> Block:
    row, column, last = (1, 7), (7, 1), 192
    double = (Step(width), Step(width, column), Step(width, row), Step(width, column))
    branches = (
        Branch("branch1x1", (Step(last),)),
        Branch("branch7x7", (Step(width), Step(width, row), Step(last, column))),
        Branch("branch7x7dbl", (*double, Step(last, row))),
    )
    return Block(branches, "mean", last)


def _block_e(pool: Pool) -> Block:
    branches = (
        Branch("branch1x1", (Step(320),)),
        Branch("branch3x3", (Step(384), Step(384)), fork=True),
        Branch("branch3x3dbl", (Step(448), Step(384, (3, 3)), Step(384)), fork=True),
    )
    return Block(branches, pool, 192)


BLOCKS: dict[str, Block] = {
    "mixed_5b": _block_a(32),
    "mixed_5c": _block_a(64),
    "mixed_5d": _block_a(64),
    "mixed_6a": Block(
        (
            Branch("branch3x3", (Step(384, (3, 3), 2),)),
            Branch("branch3x3dbl", (Step(64), Step(96, (3, 3)), Step(96, (3, 3), 2))),
        ),
        "stride",
    ),
    "mixed_6b": _block_c(128),
    "mixed_6c": _block_c(160),
    "mixed_6d": _block_c(160),
    "mixed_6e": _block_c(192),
    "mixed_7a": Block(
        (
            Branch("branch3x3", (Step(192), Step(320, (3, 3), 2))),
            Branch(
                "branch7x7x3",
                (Step(192), Step(192, (1, 7)), Step(192, (7, 1)), Step(192, (3, 3), 2)),
            ),
        ),
        "stride",
    ),
    "mixed_7b": _block_e("mean"),
    "mixed_7c": _block_e("max"),
}
"""The blocks in order, by torch-fidelity's names in lower case."""


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm by stored statistics, ReLU."""

    step: Step
    padding: Literal["SAME", "VALID"]

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 d"]:
        """Applies the three."""
        width, size, stride = self.step
        zeros = nn.initializers.zeros  # the network is never trained here
        kernel = self.param("kernel", zeros, (*size, x.shape[-1], width), jnp.float32)
        names = ("scale", "bias", "mean", "var")
        scale, bias, mean, var = (self.param(n, zeros, (width,), jnp.float32) for n in names)
        axes = ("NHWC", "HWIO", "NHWC")
        strides = (stride, stride)
        x = jax.lax.conv_general_dilated(x, kernel, strides, self.padding, dimension_numbers=axes)
        factor = scale * jax.lax.rsqrt(var + BN_EPS)
        return nn.relu(x * factor[None, None, None] + (bias - mean * factor)[None, None, None])


class Mixed(nn.Module):
    """A block: its branches' channels in order, the pool's last."""

    block: Block

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 d"]:
        """Concatenates all branches."""
        parts = []
        for branch in self.block.branches:
            y = x
            *body, last = branch.steps
            for i, step in enumerate(body):
                y = _conv(f"{branch.name}_{i + 1}", step)(y)
            name = f"{branch.name}_{len(branch.steps)}" if body else branch.name
            if branch.fork:
                sides = ("a", (1, 3)), ("b", (3, 1))
                parts += [_conv(name + end, last._replace(size=size))(y) for end, size in sides]
            else:
                parts.append(_conv(name, last)(y))
        pooled = pool(x, self.block.pool)
        if self.block.pool_features:
            pooled = _conv("branch_pool", Step(self.block.pool_features))(pooled)
        return jnp.concatenate([*parts, pooled], axis=-1)


def _conv(name: str, step: Step) -> ConvNorm:
    return ConvNorm(step, "SAME" if step.stride == 1 else "VALID", name=name)


def pool(x: Float[Array, "n h w c"], kind: Pool) -> Float[Array, "n h2 w2 c"]:
    """Pools 3x3 neighborhoods; a mean is over the pixels that are inside the image."""
    if kind == "mean":
        return nn.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)
    if kind == "max":
        return nn.max_pool(x, (3, 3), (1, 1), "SAME")
    return nn.max_pool(x, (3, 3), (2, 2), "VALID")


class Inception(nn.Module):
    """From images in 0 … 255 of any size to their features.

    Attributes:
        layers: further features: "192" and "768" are the means over the image of what comes before
            mixed_5b and after mixed_6e, as torch-fidelity names them.
    """

    layers: tuple[str, ...] = ()

    @nn.compact
    def __call__(self, images: Num[Array, "n h w 3"]) -> dict[str, Float[Array, "n d"]]:
        """Returns "pool" [n, 2048], "spatial" [n, 2023], "logits" [n, 1008] and `layers`.

        Spatial features are the first 7 channels of mixed_6/conv after its ReLU, row by row. The
        logits have no bias, as in both evaluators.
        """
        x = (tf1_bilinear(images, SIDE) - 128.0) / 128.0
        x = _stem("conv_1a", Step(32, (3, 3), 2))(x)
        x = _stem("conv_2a", Step(32, (3, 3)))(x)
        x = _conv("conv_2b", Step(64, (3, 3)))(x)
        x = _stem("conv_3b", Step(80))(pool(x, "stride"))
        x = pool(_stem("conv_4a", Step(192, (3, 3)))(x), "stride")
        found = {"192": x.mean((1, 2))}
        for name, block in BLOCKS.items():
            x = Mixed(block, name=name)(x)
            if name == "mixed_6d":
                found["spatial"] = x[..., :SPATIAL].reshape(len(x), -1)
            elif name == "mixed_6e":
                found["768"] = x.mean((1, 2))
        found["pool"] = x.mean((1, 2))
        zeros = nn.initializers.zeros
        last = nn.Dense(CLASSES, use_bias=False, kernel_init=zeros, name="fc")
        found["logits"] = last(found["pool"])
        return {key: found[key] for key in ("pool", "spatial", "logits", *self.layers)}


def _stem(name: str, step: Step) -> ConvNorm:
    return ConvNorm(step, "VALID", name=name)


@functools.cache
def shapes() -> Shapes:
    """Returns the shapes of all parameters by slash path."""
    return param_shapes(Inception(), jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32))


def load_inception(path: Path) -> Params:
    """Reads the weights, all three recipes' being those of one graph.

    Args:
        path: torch-fidelity's file ("weights-inception-2015-12-05-6726825d.pth"), the same tensors
            as safetensors, or TensorFlow's graph ("classify_image_graph_def.pb").

    Raises:
        UserError: the file is damaged, or has other keys or shapes; torchvision's Inception has.
    """
    check_hub_digest(path)
    ours = shapes()
    if path.suffix == ".pb":
        tensors, table = only_named(open_graph(path), TF_ENDS), tf_graph_table(ours)
        return load_params("InceptionV3", ours, table, tensors, ("softmax/biases",))
    tensors, table = open_tensors(path), torch_fidelity_table(ours)
    counters = [key for key in tensors.shapes if key.endswith(".bn.num_batches_tracked")]
    return load_params("InceptionV3", ours, table, tensors, ("fc.bias", *counters))


class InceptionFeatures:
    """Extracts "pool", "spatial" and "logits" in one recipe."""

    def __init__(self, params: Params, recipe: Recipe):
        """Places the parameters on all local devices."""
        network = Inception()
        self._sized = recipe == "clean-fid"
        self._run = runner(lambda p, x: network.apply({"params": p}, x), params, LIMIT)

    def __call__(self, images: UInt8[np.ndarray, "n h w 3"]) -> dict[str, Float[np.ndarray, "n d"]]:
        """Returns the features of images of one shape."""
        return self._run(pillow_bicubic(images, SIDE) if self._sized else images)
