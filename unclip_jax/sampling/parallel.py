"""Sampling over the local devices: the only file that maps a function over them.

Parameters are replicated, examples are padded to a multiple of the device count and split. Each
example carries its own key, so that the split changes no random number. Models too large to
replicate use the same functions under `jax.jit` with sharded parameters instead.
"""

import functools
import math
import weakref
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from unclip_jax.checkpoint.bundle import Stage
from unclip_jax.core import ready
from unclip_jax.core.batching import map_batches

EACH = PartitionSpec("device")
"""An array's leading axis is that of the devices."""

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


def over_devices(
    function: Callable[..., Any], shared: tuple[int, ...], key: tuple[Hashable, ...] | None = None
) -> Callable[..., Any]:
    """Maps `function` over the local devices.

    Args:
        shared: positions of the arguments that all devices get whole (parameters, scalars); the
            others have a leading device axis, as `split` gives them.
        key: all that the function depends on besides its arguments, its own name included, so that
            its program can be kept (`core.ready`); None keeps none.
    """
    return _Mapped(function, shared, key)


class _Mapped:
    """A function mapped over the local devices, with a program for each kind of arguments.

    The map is `jax.pmap`; a program of its own around it has a form that can be kept.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        shared: tuple[int, ...],
        key: tuple[Hashable, ...] | None,
    ):
        self._function, self._shared, self._key = function, shared, key
        self._programs: dict[Hashable, Callable[..., Any]] = {}
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any) -> Any:
        specs = tuple(PartitionSpec() if i in self._shared else EACH for i in range(len(args)))
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(args)):
            return self._mapped(specs)(*args)  # a part of another program
        args = tuple(map(_on_devices, args, specs))
        leaves, tree = jax.tree.flatten(args)
        kind = tree, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        if kind not in self._programs:
            self._programs[kind] = self._program(leaves, tree, specs)
        return self._programs[kind](*leaves)

    def _mapped(self, specs: tuple[PartitionSpec, ...]) -> Callable[..., Any]:
        axes = tuple(0 if spec == EACH else None for spec in specs)
        return jax.pmap(self._function, in_axes=axes, devices=jax.local_devices())

    def _program(
        self, leaves: list[Any], tree: Any, specs: tuple[PartitionSpec, ...]
    ) -> Callable[..., Any]:
        """Returns the mapped function of leaves, its program kept where it may be."""
        mapped = self._mapped(specs)
        options = {
            "in_shardings": tuple(leaf.sharding for leaf in leaves),
            "out_shardings": NamedSharding(_mesh(), EACH),
        }
        jitted = jax.jit(lambda *leaves: mapped(*tree.unflatten(leaves)), **options)
        if self._key is None:
            return jitted
        parts = (*self._key, str(tree), self._shared, device_count())
        return ready.program(jitted, parts, leaves, **options)


def _on_devices(tree: Any, spec: PartitionSpec) -> Any:
    """Places every leaf of a tree; those that are in place stay."""
    sharding = NamedSharding(_mesh(), spec)
    if all(getattr(leaf, "sharding", None) == sharding for leaf in jax.tree.leaves(tree)):
        return tree
    return jax.device_put(tree, sharding)


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
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):  # as numbers: no program is needed
            numbers = np.asarray(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(pad(numbers), impl=jax.random.key_impl(leaf))
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
