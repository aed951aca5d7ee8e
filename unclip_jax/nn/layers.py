"""Dense, convolution and normalization layers with PyTorch's constants and logical axes.

Every parameter carries logical axis names (AXES), which training maps to mesh axes; activations are
held to theirs where a compiler would otherwise choose (`constrain`). Parameters are float32;
`dtype` is the compute type; norms always compute in float32. This module knows no mesh axes.
"""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Shaped

from unclip_jax.nn.convolution import convolve
from unclip_jax.nn.remat import mark_product

AXES = (
    "embed",  # the residual stream of a transformer or U-Net
    "mlp",  # hidden units between two matrices: MLPs, the two convolutions of a ResBlock
    "heads",  # attention heads times their channels
    "conv_in",  # inputs of stem, skip and output convolutions
    "conv_out",  # outputs of the same
    "cond",  # CLIP embeddings, text states and context vectors
    "time_in",  # inside the timestep embedding's MLP
    "time",  # the timestep embedding
    "vocab",
    "position",
    "norm",  # scales and biases of norms
    "layers",  # the scanned stack of blocks
)
"""The whole vocabulary of logical axis names; None marks the spatial axes of a kernel."""

EPS = 1e-5  # torch's default for LayerNorm and GroupNorm; flax's is 1e-6

torch_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""Kernel initializer equal in law to torch's default for Linear and Conv2d."""

zeros = nn.initializers.zeros_init()
ones = nn.initializers.ones_init()
normal = nn.initializers.normal


def axes(init: Callable[..., Any], *names: str | None) -> Callable[..., Any]:
    """Returns `init` with logical axis names attached to the parameter it makes."""
    return nn.with_logical_partitioning(init, names)


def constrain(x: Shaped[Array, " *d"], *names: str | None) -> Shaped[Array, " *d"]:
    """Constrains an activation to its logical axes, one name a dimension ("batch", AXES or None).

    Without it the compiler may take the layout of the parameters for that of the activations: it
    then gathers the batch on every device and splits channels, where fully sharded parameters
    should be gathered instead. Where no mesh or no table of axes is set, as in sampling, nothing
    is done; a dimension that the devices do not divide stays whole.
    """
    mesh, rules = jax.sharding.get_abstract_mesh(), dict(nn.get_logical_axis_rules())
    if mesh.empty or not rules or AxisType.Manual in mesh.axis_types:
        return x
    unknown = [name for name in names if name is not None and name not in rules]
    if unknown or len(names) != x.ndim:
        raise ValueError(f"activation {names=} of {x.shape=}: {unknown=} in the table of axes")
    spec: list[Any] = list(nn.logical_to_mesh_axes(names))
    for i, entry in enumerate(spec):
        group = (entry,) if isinstance(entry, str) else entry or ()
        if x.shape[i] % math.prod(mesh.shape[axis] for axis in group):
            spec[i] = None
    return jax.lax.with_sharding_constraint(x, jax.sharding.PartitionSpec(*spec))


def _dot(x: Array, kernel: Array, *dimensions: Any, **settings: Any) -> Array:
    return mark_product(jax.lax.dot_general(x, kernel, *dimensions, **settings))


def _conv(x: Array, kernel: Array, *window: Any, **settings: Any) -> Array:
    return mark_product(convolve(x, kernel, *window, **settings))


def dense(
    features: int,
    names: tuple[str, str],
    *,
    name: str,
    dtype: DTypeLike,
    init: Callable[..., Any] = torch_init,
    use_bias: bool = True,
    precision: str | None = None,
) -> nn.Dense:
    """Returns a Dense layer whose kernel carries the logical axes `names` = (in, out).

    Args:
        precision: of the multiplication; None = JAX's default_matmul_precision.
    """
    return nn.Dense(
        features,
        use_bias=use_bias,
        dtype=dtype,
        precision=precision,
        dot_general=_dot,
        kernel_init=axes(init, *names),
        bias_init=axes(zeros, names[1]),
        name=name,
    )


def conv(
    features: int,
    names: tuple[str, str],
    *,
    name: str,
    dtype: DTypeLike,
    size: int = 3,
    init: Callable[..., Any] = torch_init,
) -> nn.Conv:
    """Returns a size x size convolution that keeps height and width (NHWC, kernel HWIO)."""
    return nn.Conv(
        features,
        (size, size),
        padding=size // 2,
        dtype=dtype,
        conv_general_dilated=_conv,
        kernel_init=axes(init, None, None, *names),
        bias_init=axes(zeros, names[1]),
        name=name,
    )


class LayerNorm(nn.Module):
    """Layer norm over the last axis: computed in float32, returned in `dtype`."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, " *b d"]) -> Float[Array, " *b d"]:
        """Normalizes `x`, then scales and shifts it."""
        norm = nn.LayerNorm(
            epsilon=EPS,
            dtype=jnp.float32,
            use_fast_variance=False,
            scale_init=axes(ones, "norm"),
            bias_init=axes(zeros, "norm"),
        )
        nn.share_scope(self, norm)
        return norm(x).astype(self.dtype)


class GroupNorm(nn.Module):
    """Group norm of an image, optionally followed by ADM's scale and shift, in float32.

        y = (x - mean_g) / sqrt(var_g + eps) * gain + bias,    then    y * (1 + scale) + shift

    Both affine maps are folded into one multiply-add per channel.
    """

    groups: int = 32
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        scale_shift: tuple[Float[Array, "b c"], Float[Array, "b c"]] | None = None,
    ) -> Float[Array, "b h w c"]:
        """Normalizes each example's channel groups over space."""
        b, h, w, c = x.shape
        if c % self.groups:
            raise ValueError(f"channels={c} must be a multiple of groups={self.groups}")
        gain = self.param("scale", axes(ones, "norm"), (c,), jnp.float32).astype(jnp.float32)
        bias = self.param("bias", axes(zeros, "norm"), (c,), jnp.float32).astype(jnp.float32)
        x = x.astype(jnp.float32)
        size = h * w * (c // self.groups)
        mean = self._per_channel(x.sum((1, 2)), size)
        centered = x - mean[:, None, None]
        var = self._per_channel(jnp.square(centered).sum((1, 2)), size)
        a = jax.lax.rsqrt(var + EPS) * gain[None]
        d = jnp.broadcast_to(bias[None], a.shape)
        if scale_shift is not None:
            scale, shift = (s.astype(jnp.float32) for s in scale_shift)
            a, d = a * (1 + scale), d * (1 + scale) + shift
        return (centered * a[:, None, None] + d[:, None, None]).astype(self.dtype)

    def _per_channel(self, sums: Float[Array, "b c"], size: int) -> Float[Array, "b c"]:
        b, c = sums.shape
        means = sums.reshape(b, self.groups, -1).sum(-1) / size
        return jnp.repeat(means, c // self.groups, axis=1)


def quick_gelu(x: Float[Array, " *b d"]) -> Float[Array, " *b d"]:
    """CLIP's x sigmoid(1.702 x)."""
    return x * nn.sigmoid(1.702 * x)


def gelu(x: Float[Array, " *b d"]) -> Float[Array, " *b d"]:
    """The exact GELU, x Phi(x); flax's own default is the tanh approximation."""
    return nn.gelu(x, approximate=False)


ACTIVATIONS = {"gelu": gelu, "quick_gelu": quick_gelu}
