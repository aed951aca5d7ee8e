"""The mesh, the one table from logical axis names to mesh axes, and the shardings it gives.

Mesh axes: "data" copies parameters and splits the batch, "fsdp" splits both, "tensor" splits the
width of a layer. Models name logical axes only; a name that is not in the table is an error.
"""

import contextlib
import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.core import meta
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from unclip_jax.core.errors import UserError
from unclip_jax.train.config import MeshConfig

AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")

RULES: tuple[tuple[str, str | tuple[str, ...] | None], ...] = (
    ("batch", BATCH_AXES),
    ("mlp", "tensor"),
    ("heads", "tensor"),
    ("vocab", "tensor"),
    ("conv_out", "tensor"),
    ("time_in", "tensor"),
    ("embed", "fsdp"),
    ("conv_in", "fsdp"),
    ("time", "fsdp"),
    ("cond", "fsdp"),
    ("position", None),
    ("norm", None),
    ("layers", None),
)
"""Logical axis -> mesh axis, in order of precedence: within one array a mesh axis is given out
once, to the first dimension whose size it divides."""


def make_mesh(cfg: MeshConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """Returns the mesh over all devices, one axis of which may be -1 (the devices left over).

    Several TPU slices lie along "data": only gradients go over the network between them. The axes
    are of type Auto: linen's parameters are not made for Explicit ones.
    """
    devices = devices or jax.devices()
    sizes = mesh_sizes(cfg, len(devices))
    types = (AxisType.Auto,) * len(AXES)
    slices = len({getattr(device, "slice_index", None) or 0 for device in devices})
    if slices == 1:
        return jax.make_mesh(sizes, AXES, axis_types=types, devices=devices)
    data, *within = sizes
    if data % slices:
        raise UserError(
            f"config.train.mesh.data={data} must be a multiple of the {slices} slices: each holds "
            f"whole parameters; pass --config.train.mesh.data={slices}"
        )
    across = (slices, 1, 1)
    placed = mesh_utils.create_hybrid_device_mesh((data // slices, *within), across, devices)
    return Mesh(placed, AXES, axis_types=types)


@contextlib.contextmanager
def run_context(mesh: Mesh, dtype: str) -> Iterator[None]:
    """Sets what a run is traced under: the mesh, the table of axes, and the products' precision."""
    precision = "highest" if dtype == "float32" else "default"
    with (
        jax.set_mesh(mesh),
        nn.logical_axis_rules(RULES),
        jax.default_matmul_precision(precision),
    ):
        yield


def mesh_sizes(cfg: MeshConfig, devices: int) -> tuple[int, int, int]:
    """Returns the sizes of the axes on so many devices, or fails if they do not fit."""
    sizes = [cfg.data, cfg.fsdp, cfg.tensor]
    if sizes.count(-1) > 1:
        raise UserError(f"config.train.mesh {sizes} leaves more than one axis open (-1)")
    known = math.prod(size for size in sizes if size != -1)
    if devices % known or (-1 not in sizes and known != devices):
        raise UserError(
            f"config.train.mesh (data, fsdp, tensor) = {sizes} does not fit {devices} devices;"
            " -1 takes those that the others leave"
        )
    data, fsdp, tensor = (devices // known if size == -1 else size for size in sizes)
    return data, fsdp, tensor


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Examples are split over "data" and "fsdp"; everything else of a batch is whole."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def check_batch_size(batch_size: int, mesh: Mesh, name: str = "batch_size") -> None:
    """Fails if the devices do not divide a batch evenly."""
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    if batch_size % shards:
        raise UserError(
            f"{name}={batch_size} must be a multiple of the {shards} devices that "
            "share the batch (mesh axes data and fsdp)"
        )


class BatchPlace:
    """Where the rows of a global batch lie, and which of them this process must bring.

    Processes whose devices share rows (a tensor axis over hosts) each bring them; where devices
    are in another order than the processes (a torus) it changes who brings what, not the batch.
    """

    def __init__(self, mesh: Mesh, batch_size: int):
        """Examples are split over "data" and "fsdp"; everything else of a batch is whole."""
        self.sharding, self.batch_size = batch_sharding(mesh), batch_size
        held = self.sharding.addressable_devices_indices_map((batch_size,)).values()
        self.rows = np.unique(np.concatenate([np.arange(batch_size)[index] for index in held]))

    def put(self, batch: Any) -> Any:
        """Makes global arrays of this process's rows of a batch."""
        return jax.tree.map(self._put, batch)

    def cut(self, local: np.ndarray, index: tuple[slice, ...]) -> np.ndarray:
        """Returns the rows of a global index out of this process's rows."""
        wanted = np.arange(self.batch_size)[index[0]]
        first = int(np.searchsorted(self.rows, wanted[0]))
        return local[first : first + len(wanted)]

    def _put(self, local: np.ndarray) -> jax.Array:
        shape = (self.batch_size, *local.shape[1:])
        cut = functools.partial(self.cut, local)
        return jax.make_array_from_callback(shape, self.sharding, cut)


def place(tree: Any, shardings: Any) -> Any:
    """Puts values that every process has whole onto the mesh; each device gets its own part."""

    def put(value: Any, sharding: Sharding) -> jax.Array:
        value = np.asarray(value)
        return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])

    if isinstance(shardings, Sharding):
        return jax.tree.map(lambda value: put(value, shardings), tree)
    return jax.tree.map(put, tree, shardings)


@contextlib.contextmanager
def single_device_mesh() -> Iterator[None]:
    """Inside, a process computes on its first device, and no other takes part."""
    with jax.set_mesh(make_mesh(MeshConfig(), jax.local_devices()[:1])):
        yield


def param_shardings(boxed: Any, mesh: Mesh | AbstractMesh) -> Any:
    """Returns the shardings of parameters from their logical names.

    A parameter without names is an error, and so is a name the table lacks.

    Args:
        boxed: tree of `nn.LogicallyPartitioned` boxes, also abstract (`jax.eval_shape`).
    """

    def one(path: Any, leaf: Any) -> NamedSharding:
        where = jax.tree_util.keystr(path)
        if not isinstance(leaf, nn.LogicallyPartitioned):
            raise ValueError(f"parameter {where} has no logical axis names")
        return NamedSharding(mesh, _spec(leaf.names, leaf.value.shape, mesh, where))

    is_box = lambda x: isinstance(x, meta.AxisMetadata)  # noqa: E731
    return jax.tree_util.tree_map_with_path(one, boxed, is_leaf=is_box)


def _spec(
    names: tuple[str | None, ...], shape: tuple[int, ...], mesh: Mesh | AbstractMesh, where: str
) -> PartitionSpec:
    """Returns the mesh axes of one array; a dimension that an axis does not divide stays whole."""
    rules = dict(RULES)
    unknown = [name for name in names if name is not None and name not in rules]
    if unknown or len(names) != len(shape):
        raise ValueError(f"{where}: {names=} of {shape=}: {unknown=} in the table of axes")
    order = [name for name, _ in RULES]
    spec: list[Any] = [None] * len(shape)
    taken: set[str] = set()
    for i in sorted(range(len(names)), key=lambda i: order.index(names[i]) if names[i] else 99):
        axes = rules[names[i]] if names[i] else None
        group = (axes,) if isinstance(axes, str) else axes or ()
        size = math.prod(mesh.shape[axis] for axis in group)
        if group and size > 1 and not taken & set(group) and shape[i] % size == 0:
            spec[i] = axes
            taken |= set(group)
    return PartitionSpec(*spec)
