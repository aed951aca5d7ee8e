"""Sampling over the local devices: the only file that maps a function over them.

Parameters are replicated, examples are padded to a multiple of the device count and split. Each
example carries its own key, so that the split changes no random number. Models too large to
replicate use the same functions under `jax.jit` with sharded parameters instead.
"""

import functools
import inspect
import math
import weakref
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from unclip_jax.checkpoint.bundle import Stage
from unclip_jax.core.batching import map_batches

BATCH_LIMIT = 16  # images a device makes a call

_placed: "weakref.WeakKeyDictionary[Stage, Any]" = weakref.WeakKeyDictionary()


def device_count() -> int:
    """Returns how many devices this process samples on."""
    return len(jax.local_devices())


@functools.cache
def _mesh() -> Mesh:
    return Mesh(np.asarray(jax.local_devices()), ("device",))


def replicate(tree: Any) -> Any:
    """Places a copy of every leaf on every local device, once, for `over_devices`."""
    return jax.device_put(tree, NamedSharding(_mesh(), PartitionSpec()))


def placed_params(stage: Stage) -> Any:
    """Returns a stage's parameters on every local device; they are moved there once."""
    if stage not in _placed:
        _placed[stage] = replicate(stage.params)
    return _placed[stage]


def over_devices(function: Callable[..., Any], shared: tuple[int, ...]) -> Callable[..., Any]:
    """Maps `function` over the local devices.

    Args:
        shared: positions of the arguments that all devices get whole (parameters, scalars); the
            others have a leading device axis, as `split` gives them.
    """
    count = len(inspect.signature(function).parameters)
    axes = tuple(None if index in shared else 0 for index in range(count))
    return jax.pmap(function, in_axes=axes, devices=jax.local_devices())


def device_batch(n: int, limit: int | None = None) -> int:
    """Returns the examples that all devices take a call: `n` spread evenly over the calls.

    Args:
        limit: examples a device takes at most; None is BATCH_LIMIT.
    """
    limit = BATCH_LIMIT if limit is None else limit
    calls = max(1, math.ceil(n / (limit * device_count())))
    return device_count() * max(1, math.ceil(n / (calls * device_count())))


def split(tree: Any) -> Any:
    """Pads the leading axis to a multiple of the device count and reshapes it to [device, batch].

    The last example is repeated.
    """
    devices = device_count()

    def pad(leaf: Any) -> Any:
        n = leaf.shape[0]
        per_device = math.ceil(n / devices)
        index = np.minimum(np.arange(devices * per_device), n - 1)
        padded = leaf if n == len(index) else leaf[index]
        return padded.reshape(devices, per_device, *leaf.shape[1:])

    return jax.tree.map(pad, tree)


def join(tree: Any, n: int) -> Any:
    """Undoes `split`: the first `n` examples as NumPy arrays."""

    def merge(leaf: Any) -> np.ndarray:
        array = np.asarray(leaf)
        return array.reshape(-1, *array.shape[2:])[:n]

    return jax.tree.map(merge, tree)


def map_rows(
    program: Callable[..., Any],
    params: Any,
    inputs: tuple[np.ndarray, ...],
    limit: int,
) -> Any:
    """Runs `program` over the rows of `inputs`, at most `limit` a device and call; NumPy results.

    The number of rows a device takes is a power of two: few distinct shapes, so that one more row
    seldom compiles a program.

    Args:
        program: of `over_devices`, called with (params, *inputs).
    """
    share = -(-len(inputs[0]) // device_count())
    per_device = min(limit, 1 << (share - 1).bit_length())

    def run(rows: list[int]) -> Any:
        arrays = split(tuple(array[rows] for array in inputs))
        return join(program(params, *arrays), len(rows))

    return map_batches(run, range(len(inputs[0])), per_device * device_count())
