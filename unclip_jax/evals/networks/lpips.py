"""LPIPS: how different two images look (Zhang et al. 2018, "The Unreasonable Effectiveness …").

    d(x, y) = sum_l mean_hw sum_c w_lc (x^l_c - y^l_c)^2

with x^l the features of layer l, scaled to unit length at each pixel, and w_l a learned row of
non-negative weights. This is version 0.1, which scales its input; 0.0 did not. Images are compared
at their own size; distances at different sizes, or of different trunks, are not to be compared.
"""

from pathlib import Path
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from unclip_jax.convert.name_tables import Table, module
from unclip_jax.convert.torch_files import joined, open_tensors
from unclip_jax.core.errors import UserError
from unclip_jax.core.types import Params
from unclip_jax.data.images import to_float
from unclip_jax.evals.networks.loading import check_hub_digest, load_params, param_shapes, runner

Trunk = Literal["alex", "vgg"]

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of images in [-1, 1]
EPS = 1e-10
LIMIT = 8  # pairs a device takes a call


class Layer(NamedTuple):
    """A convolution with ReLU of torchvision's `features`.

    Attributes:
        index: its number in `features`.
        pool: side of the max pool of stride 2 before it; 0 for none.
        tap: whether the distance looks at it.
    """

    index: int
    width: int
    size: int = 3
    stride: int = 1
    pad: int = 1
    pool: int = 0
    tap: bool = True


TRUNKS: dict[Trunk, tuple[Layer, ...]] = {
    "alex": (
        Layer(0, 64, 11, 4, 2),
        Layer(3, 192, 5, 1, 2, pool=3),
        Layer(6, 384, pool=3),
        Layer(8, 256),
        Layer(10, 256),
    ),
    "vgg": (
        Layer(0, 64, tap=False),
        Layer(2, 64),
        Layer(5, 128, pool=2, tap=False),
        Layer(7, 128),
        Layer(10, 256, pool=2, tap=False),
        Layer(12, 256, tap=False),
        Layer(14, 256),
        Layer(17, 512, pool=2, tap=False),
        Layer(19, 512, tap=False),
        Layer(21, 512),
        Layer(24, 512, pool=2, tap=False),
        Layer(26, 512, tap=False),
        Layer(28, 512),
    ),
}
"""AlexNet (Krizhevsky 2014) and VGG-16 (Simonyan and Zisserman 2015, D), as torchvision numbers."""


class Lpips(nn.Module):
    """The distance of pairs of images in [-1, 1]."""

    trunk: Trunk

    @nn.compact
    def __call__(self, pairs: Float[Array, "n 2 h w 3"]) -> Float[Array, " n"]:
        """Returns one distance a pair."""
        count = len(pairs)
        shift, scale = (jnp.asarray(v, jnp.float32)[None, None, None] for v in (SHIFT, SCALE))
        x = (pairs.reshape(2 * count, *pairs.shape[2:]) - shift) / scale
        total, tap = jnp.zeros(count), 0
        for layer in TRUNKS[self.trunk]:
            if layer.pool:
                x = nn.max_pool(x, (layer.pool, layer.pool), (2, 2), "VALID")
            sides = {"kernel_size": (layer.size,) * 2, "strides": (layer.stride,) * 2}
            x = nn.Conv(layer.width, padding=layer.pad, name=f"conv_{layer.index}", **sides)(x)
            x = nn.relu(x)
            if layer.tap:
                unit = x / (jnp.sqrt(jnp.square(x).sum(-1, keepdims=True)) + EPS)
                first, second = jnp.moveaxis(unit.reshape(count, 2, *unit.shape[1:]), 1, 0)
                head = nn.Conv(1, (1, 1), use_bias=False, name=f"lin_{tap}")
                total = total + head(jnp.square(first - second)).mean((1, 2, 3))
                tap += 1
        return total


def table(trunk: Trunk) -> Table:
    """Returns the names of torchvision's trunk, and of lpips' heads with "heads." before them."""
    convs = {f"conv_{n.index}": module(f"features.{n.index}") for n in TRUNKS[trunk]}
    taps = sum(layer.tap for layer in TRUNKS[trunk])
    return convs | {f"lin_{i}": module(f"heads.lin{i}.model.1") for i in range(taps)}


def load_lpips(trunk: Trunk, weights: Path, heads: Path) -> Params:
    """Reads torchvision's weights of the trunk and lpips' of the heads.

    Args:
        weights: "alexnet-owt-7be5be79.pth" or "vgg16-397923af.pth"; the classifier is not used.
        heads: "weights/v0.1/alex.pth" or "weights/v0.1/vgg.pth" of the package lpips.

    Raises:
        UserError: a file is damaged, or has other keys or shapes.
    """
    for path in (weights, heads):
        check_hub_digest(path)
    body = open_tensors(weights).only(lambda key: not key.startswith("classifier."))
    tensors = joined({"": body, "heads.": open_tensors(heads)})
    images = jax.ShapeDtypeStruct((1, 2, 64, 64, 3), jnp.float32)
    shapes = param_shapes(Lpips(trunk), images)
    return load_params(f"LPIPS ({trunk})", shapes, table(trunk), tensors)


def load_distance(spec: str) -> "LpipsDistance":
    """Returns the distance that a text asks for, "alex:WEIGHTS,HEADS" or "vgg:WEIGHTS,HEADS".

    Raises:
        UserError: it is no such text, or a file does not have the network's weights.
    """
    name, _, files = spec.partition(":")
    weights, _, heads = files.partition(",")
    for trunk in TRUNKS:
        if name == trunk and weights and heads:
            return LpipsDistance(trunk, load_lpips(trunk, Path(weights), Path(heads)))
    known = " or ".join(f"{trunk}:WEIGHTS,HEADS" for trunk in TRUNKS)
    raise UserError(f"--lpips takes {known}, not {spec!r}")


class LpipsDistance:
    """Distances of 8-bit images at their own size, which is to be stated with each number."""

    def __init__(self, trunk: Trunk, params: Params):
        """Places the parameters on all local devices."""
        self.recipe = f"LPIPS 0.1, {trunk}"
        network = Lpips(trunk)
        self._run = runner(lambda p, x: network.apply({"params": p}, x), params, LIMIT)

    def __call__(
        self, one: UInt8[np.ndarray, "n h w 3"], two: UInt8[np.ndarray, "n h w 3"]
    ) -> Float[np.ndarray, " n"]:
        """Returns the distance of each pair."""
        return self._run(np.stack([to_float(one), to_float(two)], axis=1))

    def within(self, images: UInt8[np.ndarray, "k h w 3"]) -> Float[np.ndarray, " p"]:
        """Returns the distances of all pairs of k images, k (k - 1) / 2 of them.

        Their mean over the samples of one prompt is the diversity within it.
        """
        rows, columns = np.triu_indices(len(images), k=1)
        return self(images[rows], images[columns])
