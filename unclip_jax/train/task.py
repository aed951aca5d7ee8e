"""What a task is: one stage's loss, as pure functions of arrays for the one training loop.

A loss is a function of (params, constants, batch, keys, train). Metrics are pairs (sum, weight), so
that they add up over micro-batches, steps and held-out batches.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key, PyTree

from unclip_jax.core.types import Params, TextFeatures

Batch = Mapping[str, Array | np.ndarray]
"""A batch on the devices, by name: "image" uint8 [b, h, w, 3], "tokens" int [b, n], …"""

Sums = Float[Array, " 2"]
"""A metric: sum and weight; their ratio is the mean."""

Metrics = dict[str, Sums]


class Keys(NamedTuple):
    """What is drawn or counted anew for each batch.

    Attributes:
        rows: a random key for each row.
        dropout: the key of the layers' dropout.
        step: steps that were taken before, for what is annealed; None on held-out data.
    """

    rows: Key[Array, "*parts b"]
    dropout: Key[Array, "*parts"]
    step: Int[Array, "*parts"] | None = None


@struct.dataclass
class StepConstants:
    """What a compiled step is given in addition to state and batch; it never changes during a run.

    Attributes:
        clip: parameters of the frozen CLIP; None where no encoder runs inside the step.
        empty: features of the empty caption, for one example; None without captions.
        frozen: parameters of the other stage that this one is trained on, or of a student's
            teacher; None without one.
    """

    clip: Params | None = None
    empty: TextFeatures | None = None
    frozen: Params | None = None


Loss = Callable[[Params, StepConstants, Batch, Keys, bool], tuple[Float[Array, ""], Metrics]]
"""(params, constants, batch, keys, train) -> (scalar, {name: (sum, weight)})."""

Gradient = Callable[[Params, StepConstants, Batch, Keys], tuple[Params, Metrics]]
"""(params, constants, batch, keys) -> (gradient, {name: (sum, weight)})."""


@dataclasses.dataclass(frozen=True)
class Task:
    """One stage's training.

    Attributes:
        key_id: the stage's fixed number in the random keys.
        metric_names: what `loss` reports, always all of it; "loss" is the first.
        batch_keys: batch keys used by the loss; other entries stay on the host.
        project: brings updated parameters back into their range.
        accumulate: gradient over a batch in micro-batches [parts, b, ...], where the loss couples
            the examples of a batch; None = the mean over micro-batches.
        gradient: where it is not that of `loss` at the parameters; None = it is.
    """

    key_id: int
    metric_names: tuple[str, ...]
    loss: Loss
    batch_keys: tuple[str, ...]
    project: Callable[[Params], Params] = lambda params: params
    accumulate: Gradient | None = None
    gradient: Gradient | None = None


def weighted(value: ArrayLike, weight: ArrayLike = 1.0) -> Sums:
    """Returns the pair (value * weight, weight)."""
    weight = jnp.asarray(weight, jnp.float32)
    return jnp.stack([jnp.asarray(value, jnp.float32) * weight, weight])


def split_interleaved(tree: PyTree, parts: int) -> PyTree:
    """Splits rows [b, ...] into [parts, b / parts, ...]: part j holds rows j, parts + j, ...

    Each device keeps its own rows where the batch is sharded.
    """
    split = lambda x: jnp.swapaxes(x.reshape(-1, parts, *x.shape[1:]), 0, 1)  # noqa: E731
    return jax.tree.map(split, tree)


def split_key(key: Key[Array, ""], parts: int) -> Key[Array, " parts"]:
    """Returns a key for each part."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(parts))
