"""What the blocks of a network keep for their backward pass, and what is computed again.

`dense`, `conv` and `attend` mark what they return as products. A policy keeps the marked values of
a block, and norms, activations and attention's weights are computed again.
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

import flax.linen as nn
import jax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Shaped

Remat = Literal["none", "block", "dots", "offload"]
"""What a block keeps for its backward pass: all that it takes ("none"); its input alone ("block");
its products too, that is the results of dense layers, convolutions and attention ("dots"); the
same, but products wait in the host's memory ("offload")."""

POLICIES: tuple[Remat, ...] = get_args(Remat)

PRODUCT = "product"


def mark_product(x: Shaped[Array, " *d"]) -> Shaped[Array, " *d"]:
    """Returns `x`, which "dots" keeps; outside of a rematerialized block nothing happens."""
    return checkpoint_name(x, PRODUCT)


def remat_module(
    module: type[nn.Module],
    remat: Remat,
    *,
    static_argnums: tuple[int, ...] = (3,),
    prevent_cse: bool = True,
) -> Any:
    """Returns `module`, rematerialized.

    Args:
        static_argnums: arguments that are no arrays, counted with self; by default the last of (x,
            inputs, train).
    """
    if remat == "none":
        return module
    return nn.remat(
        module, static_argnums=static_argnums, prevent_cse=prevent_cse, policy=_policy(remat)
    )


def _policy(remat: Remat) -> Callable[..., Any] | None:
    """Returns the policy of jax.checkpoint; None keeps nothing."""
    policies = jax.checkpoint_policies
    if remat == "dots":
        return policies.save_only_these_names(PRODUCT)
    if remat == "offload":
        return policies.save_and_offload_only_these_names(
            names_which_can_be_saved=[],
            names_which_can_be_offloaded=[PRODUCT],
            offload_src="device",
            offload_dst="pinned_host",
        )
    return None
