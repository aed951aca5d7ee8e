"""The pre-norm transformer used by CLIP, the priors and the decoder's text encoder."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from unclip_jax.core.checks import BELOW_ONE, COUNT, MLP_RATIO, check_ranges
from unclip_jax.nn.attention import PREFIX, SelfAttention
from unclip_jax.nn.layers import ACTIVATIONS, LayerNorm, constrain, dense, normal
from unclip_jax.nn.remat import Remat, remat_module

RESIDUAL_AXES = ("batch", None, None)
"""Axes of what runs through the blocks: examples are split, positions and channels whole."""


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """Sizes of a stack of pre-norm blocks.

    Attributes:
        width: channels of a token.
        layers: number of blocks.
        heads: attention heads of a block; must divide `width`.
        mlp_ratio: hidden width of the MLP over `width`.
        activation: of the MLP; "quick_gelu" is OpenAI's CLIP's.
        dropout: share of the residual branches' values that training drops.
        scan_layers: compiles one block and stacks the parameters on a leading "layers" axis.
        remat: what a block keeps for its backward pass (nn/remat.py).
    """

    width: int
    layers: int
    heads: int
    mlp_ratio: float = 4.0
    activation: Literal["gelu", "quick_gelu"] = "gelu"
    dropout: float = 0.0
    scan_layers: bool = False
    remat: Remat = "none"

    def __post_init__(self):
        """Checks the sizes."""
        check_stack(self)


def check_stack(cfg: Any) -> None:
    """Checks the sizes of a stack, for instance that the heads divide the width.

    Args:
        cfg: a TransformerConfig, or another config with the same fields.
    """
    sizes = dict.fromkeys(("width", "layers", "heads"), COUNT)
    check_ranges(cfg, **sizes, mlp_ratio=MLP_RATIO, dropout=BELOW_ONE)
    if cfg.width % cfg.heads:
        raise ValueError(f"width={cfg.width} must be a multiple of heads={cfg.heads}")
    if int(cfg.width * cfg.mlp_ratio) < 1:
        raise ValueError(f"mlp_ratio={cfg.mlp_ratio} leaves no hidden unit of width={cfg.width}")


class Mlp(nn.Module):
    """Dense -> activation -> Dense, with CLIP's initial deviations."""

    cfg: TransformerConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Applies the MLP to each position."""
        cfg, dtype = self.cfg, self.dtype
        hidden, init = int(cfg.width * cfg.mlp_ratio), normal((2 * cfg.width) ** -0.5)
        x = dense(hidden, ("embed", "mlp"), name="fc", dtype=dtype, init=init)(x)
        x = ACTIVATIONS[cfg.activation](constrain(x, "batch", None, "mlp"))
        return dense(cfg.width, ("mlp", "embed"), name="proj", dtype=dtype, init=out_init(cfg))(x)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    cfg: TransformerConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n d"],
        mask: Bool[Array, "#b 1 #n m"] | None = None,
        train: bool = False,
    ) -> Float[Array, "b n d"]:
        """Applies one block; `train` is positional so that remat can keep it static."""
        cfg, dtype = self.cfg, self.dtype
        drop = nn.Dropout(cfg.dropout, deterministic=not train)
        attn = SelfAttention(cfg.heads, dtype, normal(cfg.width**-0.5), out_init(cfg), name="attn")
        x = constrain(x + drop(attn(LayerNorm(dtype, name="ln_1")(x), mask)), *RESIDUAL_AXES)
        x = x + drop(Mlp(cfg, dtype, name="mlp")(LayerNorm(dtype, name="ln_2")(x)))
        return constrain(x, *RESIDUAL_AXES)


class Transformer(nn.Module):
    """A stack of blocks: `blocks` (scanned, leading axis layers) or `blocks_0`, `blocks_1`, …"""

    cfg: TransformerConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n d"],
        *,
        mask: Bool[Array, "#b 1 #n m"] | None = None,
        train: bool = False,
    ) -> Float[Array, "b n d"]:
        """Runs all blocks; no norm at the end."""
        cfg = self.cfg
        x = constrain(x.astype(self.dtype), *RESIDUAL_AXES)
        block = remat_module(Block, cfg.remat, prevent_cse=not cfg.scan_layers)
        if not cfg.scan_layers:
            for i in range(cfg.layers):
                x = block(cfg, self.dtype, name=f"blocks_{i}")(x, mask, train)
            return x
        scan = nn.scan(
            lambda module, carry, _: (module(carry, mask, train), None),
            variable_axes={"params": 0, PREFIX: 0},
            split_rngs={"params": True, "dropout": True},
            length=cfg.layers,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        return scan(block(cfg, self.dtype, name="blocks"), x, None)[0]


def unstack_layers(params: Mapping[str, Any]) -> dict[str, Any]:
    """Turns the scanned form `blocks` of one Transformer into `blocks_0`, `blocks_1`, …"""
    rest = {k: v for k, v in params.items() if k != "blocks"}
    length = jax.tree.leaves(params["blocks"])[0].shape[0]
    take = [jax.tree.map(lambda x, i=i: x[i], params["blocks"]) for i in range(length)]
    return {**rest, **{f"blocks_{i}": layer for i, layer in enumerate(take)}}


def out_init(cfg: TransformerConfig) -> Any:
    """Returns CLIP's initializer of a matrix that ends a residual branch."""
    return normal(cfg.width**-0.5 * (2 * cfg.layers) ** -0.5)
