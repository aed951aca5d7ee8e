"""The device mesh, the rules from logical axes to mesh axes, and the shardings they give.

Mesh axes: "data" replicates parameters and splits the batch, "fsdp" splits both, "tensor" splits
the width of a layer. Models name logical axes only; a name without a rule is an error.
"""

import contextlib
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.core import meta
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec, Sharding
from jax.typing import ArrayLike
from jaxtyping import PyTree

from unclip_jax.core.errors import UserError
from unclip_jax.core.suggest import did_you_mean
from unclip_jax.core.types import Params
from unclip_jax.train.config import MeshConfig

AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")

Rules = tuple[tuple[str, str | tuple[str, ...] | None], ...]
"""Pairs (logical axis, mesh axis or axes), in order of precedence; None replicates the axis."""

RULES: Rules = (
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
"""The default rules. Within one array a mesh axis is used once, for the first rule whose dimension
it divides."""


def merge_rules(overrides: Sequence[tuple[str, str | None]]) -> Rules:
    """Returns `overrides` (config.train.sharding_rules) followed by the defaults of other axes.

    Raises:
        UserError: an axis is unknown, named twice, or "batch", which the mesh itself splits.
    """
    defaults, where = dict(RULES), "config.train.sharding_rules"
    for name, axis in overrides:
        if name not in defaults or name == "batch":
            known = [known for known in defaults if known != "batch"]
            remedy = did_you_mean(name, known, f"choose from {', '.join(known)}")
            raise UserError(f"{where}: {name!r} is not a logical axis of parameters; {remedy}")
        if axis is not None and axis not in AXES:
            raise UserError(
                f"{where}: {name!r} cannot go to {axis!r}; mesh axes are {', '.join(AXES)}, or None"
            )
    given = dict(overrides)
    if len(given) < len(overrides):
        raise UserError(f"{where} names an axis twice: {', '.join(name for name, _ in overrides)}")
    return (*overrides, *(rule for rule in RULES if rule[0] not in given))


def make_mesh(cfg: MeshConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """Returns the mesh over all devices, one axis of which may be -1 (the remaining devices).

    Several TPU slices lie along "data": only gradients go over the network between them. The axes
    are of type Auto: linen's parameters do not support Explicit ones.
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
            f"config.train.mesh.data={data} must be a multiple of the {slices} slices: each "
            f"holds all parameters; pass --config.train.mesh.data={slices}"
        )
    across = (slices, 1, 1)
    placed = mesh_utils.create_hybrid_device_mesh((data // slices, *within), across, devices)
    return Mesh(placed, AXES, axis_types=types)


@contextlib.contextmanager
def run_context(mesh: Mesh, dtype: str, rules: Rules = RULES) -> Iterator[None]:
    """Enters the mesh, the sharding rules and the matmul precision that a run is traced under."""
    precision = "highest" if dtype == "float32" else "default"
    with (
        jax.set_mesh(mesh),
        nn.logical_axis_rules(rules),
        jax.default_matmul_precision(precision),
    ):
        yield


def mesh_sizes(cfg: MeshConfig, devices: int) -> tuple[int, int, int]:
    """Returns the sizes of the mesh axes on a number of devices.

    `data` is -1 by default; it is 1 if another axis takes the remaining devices.

    Raises:
        UserError: they do not multiply to it.
    """
    sizes = [cfg.data, cfg.fsdp, cfg.tensor]
    if cfg.data == -1 and -1 in sizes[1:]:
        sizes[0] = 1
    if sizes.count(-1) > 1:
        raise UserError(
            f"config.train.mesh {sizes} has more than one -1: only fsdp or tensor may be -1"
        )
    known = math.prod(size for size in sizes if size != -1)
    if devices % known or (-1 not in sizes and known != devices):
        raise UserError(
            f"config.train.mesh (data, fsdp, tensor) = {sizes} does not fit {devices} devices;"
            " -1 stands for the devices that the other axes leave"
        )
    data, fsdp, tensor = (devices // known if size == -1 else size for size in sizes)
    return data, fsdp, tensor


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of a batch: rows over "data" and "fsdp", other dimensions whole."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """Returns the sharding in which every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def check_batch_size(batch_size: int, mesh: Mesh, name: str = "batch_size") -> None:
    """Raises UserError if the batch does not split evenly over the devices."""
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    if batch_size % shards:
        raise UserError(
            f"{name}={batch_size} must be a multiple of the {shards} devices that "
            "share the batch (mesh axes data and fsdp)"
        )


class BatchSharding:
    """The rows of a global batch that this process loads, and the global arrays made of them.

    Processes whose devices share rows (a tensor axis over hosts) each load them; a device order
    that differs from the order of processes (a torus) changes who loads what, not the batch.

    Attributes:
        rows: indices of this process's rows in the global batch, ascending.
    """

    def __init__(self, mesh: Mesh, batch_size: int):
        """Computes the rows from the mesh; see `batch_sharding`."""
        self.sharding, self.batch_size = batch_sharding(mesh), batch_size
        local = self.sharding.addressable_devices_indices_map((batch_size,)).values()
        self.rows = np.unique(np.concatenate([np.arange(batch_size)[index] for index in local]))

    def to_global(self, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        """Returns global arrays of this process's rows of a batch."""
        return {name: self._to_global(local) for name, local in batch.items()}

    def shard(self, local: np.ndarray, index: tuple[slice, ...]) -> np.ndarray:
        """Returns the rows at an index of the global batch out of this process's rows."""
        wanted = np.arange(self.batch_size)[index[0]]
        first = int(np.searchsorted(self.rows, wanted[0]))
        return local[first : first + len(wanted)]

    def _to_global(self, local: np.ndarray) -> jax.Array:
        shape = (self.batch_size, *local.shape[1:])
        shard = functools.partial(self.shard, local)
        return jax.make_array_from_callback(shape, self.sharding, shard)


def place(tree: PyTree[ArrayLike], shardings: PyTree[Sharding]) -> PyTree[jax.Array]:
    """Puts values that every process holds in full onto the mesh; each device gets its shard.

    Args:
        shardings: one for all leaves, or a tree like `tree`.
    """

    def put(value: ArrayLike, sharding: Sharding) -> jax.Array:
        value = np.asarray(value)
        return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])

    if isinstance(shardings, Sharding):
        return jax.tree.map(lambda value: put(value, shardings), tree)
    return jax.tree.map(put, tree, shardings)


@contextlib.contextmanager
def single_device_mesh() -> Iterator[None]:
    """Enters a mesh of this process's first device alone."""
    with jax.set_mesh(make_mesh(MeshConfig(), jax.local_devices()[:1])):
        yield


def param_shardings(
    boxed: Params, mesh: Mesh | AbstractMesh, rules: Rules = RULES
) -> PyTree[NamedSharding]:
    """Returns the shardings of parameters by their logical axis names.

    Args:
        boxed: tree of `nn.LogicallyPartitioned` boxes, also abstract (`jax.eval_shape`).

    Raises:
        ValueError: a parameter has no names, or a name has no rule.
    """

    def one(
        path: jax.tree_util.KeyPath, leaf: nn.LogicallyPartitioned | jax.ShapeDtypeStruct
    ) -> NamedSharding:
        where = jax.tree_util.keystr(path)
        if not isinstance(leaf, nn.LogicallyPartitioned):
            raise ValueError(f"parameter {where} has no logical axis names")
        return NamedSharding(mesh, _spec(leaf.names, leaf.value.shape, mesh, rules, where))

    is_box = lambda x: isinstance(x, meta.AxisMetadata)  # noqa: E731
    return jax.tree_util.tree_map_with_path(one, boxed, is_leaf=is_box)


def _spec(
    names: tuple[str | None, ...],
    shape: tuple[int, ...],
    mesh: Mesh | AbstractMesh,
    rules: Rules,
    where: str,
) -> PartitionSpec:
    """Returns the mesh axes of one array; a dimension that an axis does not divide stays whole."""
    axes_of = dict(rules)
    unknown = [name for name in names if name is not None and name not in axes_of]
    if unknown or len(names) != len(shape):
        raise ValueError(f"{where}: {names=} of {shape=}: {unknown=} among the sharding rules")
    order = [name for name, _ in rules]
    spec: list[str | tuple[str, ...] | None] = [None] * len(shape)
    taken: set[str] = set()
    for i in sorted(range(len(names)), key=lambda i: order.index(names[i]) if names[i] else 99):
        axes = axes_of[names[i]] if names[i] else None
        group = (axes,) if isinstance(axes, str) else axes or ()
        size = math.prod(mesh.shape[axis] for axis in group)
        if group and size > 1 and not taken & set(group) and shape[i] % size == 0:
            spec[i] = axes
            taken |= set(group)
    return PartitionSpec(*spec)
