"""Sampling over the local devices: the only file that maps a function over them.

Parameters are replicated, examples are padded to a multiple of the device count and split. Each
example carries its own key, so that the split changes no random number. Models too large to
replicate use the same functions under `jax.jit` with sharded parameters instead.
"""

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def device_count() -> int:
    """Returns how many devices this process samples on."""
    return len(jax.local_devices())


@functools.cache
def _mesh() -> Mesh:
    return Mesh(np.asarray(jax.local_devices()), ("device",))


def replicate(tree: Any) -> Any:
    """Places a copy of every leaf on every local device, once, for `over_devices`."""
    return jax.device_put(tree, NamedSharding(_mesh(), PartitionSpec()))


def over_devices(function: Callable[..., Any], shared: tuple[int, ...]) -> Callable[..., Any]:
    """Maps `function` over the local devices.

    Args:
        shared: positions of the arguments that all devices get whole (parameters, scalars); the
            others have a leading device axis, as `split` gives them.
    """
    count = len(inspect.signature(function).parameters)
    axes = tuple(None if index in shared else 0 for index in range(count))
    return jax.pmap(function, in_axes=axes, devices=jax.local_devices())


def batch_per_device(n: int, limit: int) -> int:
    """Returns the examples a device takes a call: `n` split evenly, at most `limit`."""
    calls = max(1, math.ceil(n / (limit * device_count())))
    return max(1, math.ceil(n / (calls * device_count())))


def split(tree: Any, per_device: int) -> Any:
    """Pads the leading axis by repeating the last example and reshapes it to [device, batch]."""
    devices = device_count()

    def pad(leaf: Any) -> Any:
        missing = devices * per_device - leaf.shape[0]
        index = np.minimum(np.arange(devices * per_device), leaf.shape[0] - 1)
        padded = leaf if missing == 0 else leaf[index]
        return padded.reshape(devices, per_device, *leaf.shape[1:])

    return jax.tree.map(pad, tree)


def join(tree: Any, n: int) -> Any:
    """Undoes `split`: the first `n` examples as NumPy arrays."""

    def merge(leaf: Any) -> np.ndarray:
        array = np.asarray(leaf)
        return array.reshape(-1, *array.shape[2:])[:n]

    return jax.tree.map(merge, tree)
