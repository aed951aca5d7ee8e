"""Converts parameters between PyTorch state dicts and our trees, by one table for both directions.

A table maps our modules and leaves ("text/transformer/blocks_3/attn/qkv") to a `Source`: the names
in the other library and differences in layout. Otherwise the leaf's name determines the layout:

    kernel, rank 2       [in, out]        Linear weight [out, in]
    kernel, rank 4       HWIO             Conv2d weight OIHW
    scale, bias          the same         weight, bias
    embedding            the same         weight

Leaves are read lazily, one at a time. Tensors that no leaf uses and leaves without a tensor are
errors that list all of them.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unclip_jax.checkpoint.bundle import Stage
from unclip_jax.checkpoint.manifest import check_extent
from unclip_jax.convert.torch_files import TensorFile
from unclip_jax.core.errors import UserError
from unclip_jax.core.trees import flatten_paths, unflatten_paths
from unclip_jax.models.stages import StageSpec, abstract_params, spec_to_dict

SUFFIX = {"kernel": "weight", "scale": "weight", "embedding": "weight", "bias": "bias"}


@dataclasses.dataclass(frozen=True)
class Source:
    """The other library's names and layout of a module or a leaf.

    Attributes:
        names: of modules, to which ".weight" or ".bias" is added; whole keys if `raw`. Several are
            the parts of a fused projection (query, key, value).
        heads: number of heads if our fused projection is laid out by head and theirs by part;
            0 = the same layout.
        parts: number of parts concatenated in a single tensor of a fused projection.
        join: separator between a name and "weight".
        ones: extra axes of length 1 of their array, leading if `raw`, else trailing in a kernel.
        raw: the array is not transposed; only `ones` may differ.
        missing: value if the source has no such key; None = an error.
    """

    names: tuple[str, ...]
    heads: int = 0
    parts: int = 1
    join: str = "."
    ones: int = 0
    raw: bool = False
    missing: float | None = None

    @property
    def pieces(self) -> int:
        """Number of parts of the fused projection; 1 if it is not fused."""
        return max(self.parts, len(self.names))

    def keys(self, leaf: str) -> list[str]:
        """Returns the keys of a leaf of this name."""
        return [name if self.raw else f"{name}{self.join}{SUFFIX[leaf]}" for name in self.names]


Table = Mapping[str, Source]
Shapes = Mapping[str, tuple[int, ...]]


def module(*names: str, **fields: Any) -> Source:
    """Returns the source of a module or, with several names, of a fused projection."""
    return Source(names, **fields)


def raw(name: str, **fields: Any) -> Source:
    """Returns the source of a leaf that is not transposed."""
    return Source((name,), raw=True, **fields)


def under(ours: str, theirs: str, table: Table) -> dict[str, Source]:
    """Returns a table with prefixes added on both sides."""
    return {
        f"{ours}{path}": dataclasses.replace(
            source, names=tuple(theirs + name for name in source.names)
        )
        for path, source in table.items()
    }


def blocks(ours: str, theirs: str, layers: int, block: Table) -> dict[str, Source]:
    """Repeats a block's table for a stack; `theirs` has {} in place of the number."""
    table: dict[str, Source] = {}
    for i in range(layers):
        table |= under(f"{ours}/blocks_{i}/", theirs.format(i) + ".", block)
    return table


def source_of(table: Table, path: str) -> Source | None:
    """Returns the entry of a leaf: its own or its module's."""
    if path in table:
        return table[path]
    parent, _, leaf = path.rpartition("/")
    return table.get(parent) if leaf in SUFFIX else None


class LazyArray:
    """A leaf that is read by every `np.asarray(leaf)`."""

    def __init__(self, shape: tuple[int, ...], read: Callable[[], np.ndarray]):
        """Stores the shape and the function that reads the array."""
        self.shape, self._read = shape, read

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Reads the array."""
        del copy  # the array is always new
        array = self._read()
        return array if dtype is None else array.astype(dtype)


def to_theirs(leaf: Any, name: str, source: Source) -> list[Any]:
    """Returns a leaf's arrays in the other library's layout, one per key.

    Args:
        name: of the leaf, such as "kernel".
    """
    if source.raw:
        return [leaf.reshape((1,) * source.ones + tuple(leaf.shape))]
    if source.heads:
        *lead, width = leaf.shape
        axes = (*range(len(lead)), len(lead) + 1, len(lead), len(lead) + 2)
        split = leaf.reshape(*lead, source.heads, source.pieces, -1).transpose(axes)
        leaf = split.reshape(*lead, width)
    count = len(source.names)
    size = leaf.shape[-1] // count
    pieces = [leaf[..., i * size : (i + 1) * size] for i in range(count)]
    if name == "kernel":
        pieces = [piece.transpose(_to_torch_axes(piece.ndim)) for piece in pieces]
        pieces = [piece.reshape(tuple(piece.shape) + (1,) * source.ones) for piece in pieces]
    return pieces


def to_ours(pieces: list[np.ndarray], name: str, shape: tuple[int, ...], source: Source) -> Any:
    """Inverse of `to_theirs`, for a leaf of this name and shape."""
    if source.raw:
        return pieces[0].reshape(shape)
    if name == "kernel":
        if source.ones:
            pieces = [piece.reshape(piece.shape[: -source.ones]) for piece in pieces]
        pieces = [piece.transpose(_to_jax_axes(piece.ndim)) for piece in pieces]
    leaf = pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=-1)
    if source.heads:
        *lead, width = shape
        axes = (*range(len(lead)), len(lead) + 1, len(lead), len(lead) + 2)
        split = leaf.reshape(*lead, source.pieces, source.heads, -1).transpose(axes)
        leaf = split.reshape(*lead, width)
    return leaf


def _to_torch_axes(rank: int) -> tuple[int, ...]:
    return {2: (1, 0), 4: (3, 2, 0, 1)}[rank]


def _to_jax_axes(rank: int) -> tuple[int, ...]:
    return {2: (1, 0), 4: (2, 3, 1, 0)}[rank]


@functools.lru_cache(maxsize=16)
def _our_shapes(spec: StageSpec) -> Shapes:
    leaves = flatten_paths(abstract_params(spec))
    return {path: tuple(leaf.shape) for path, leaf in leaves.items()}


def their_shapes(spec: StageSpec, table: Table) -> dict[str, tuple[int, ...]]:
    """Returns keys and shapes of all tensors of a stage in the table's format."""
    return _expected(spec.stage, _our_shapes(spec), table)


def _expected(what: str, shapes: Shapes, table: Table) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for path, shape in shapes.items():
        source, name = source_of(table, path), path.rpartition("/")[2]
        if source is None:
            raise UserError(f"{what}: this format has no name for {path}")
        pieces = to_theirs(np.broadcast_to(np.int8(0), shape), name, source)  # one byte, repeated
        shapes = [tuple(piece.shape) for piece in pieces]
        found |= dict(zip(source.keys(name), shapes, strict=True))
    return found


def import_tree(
    spec: StageSpec, table: Table, tensors: TensorFile, ignored: Iterable[str] = ()
) -> dict[str, Any]:
    """Returns a stage's parameters as `LazyArray`s, after checking every key and shape.

    Args:
        ignored: keys that are not parameters.
    """
    check_extent(tensors.files[0], f"{spec.stage}.", spec_to_dict(spec), tensors.shapes)
    return import_leaves(spec.stage, _our_shapes(spec), table, tensors, ignored)


def import_leaves(
    what: str, leaves: Shapes, table: Table, tensors: TensorFile, ignored: Iterable[str] = ()
) -> dict[str, Any]:
    """Returns a network's parameters as `LazyArray`s, after checking every key and shape.

    Args:
        what: name of the network, for messages.
        leaves: shapes of its parameters, by slash path.
        ignored: keys that are not parameters.
    """
    file = tensors.files[0]
    sources = {path: source_of(table, path) for path in leaves}
    optional = {
        key
        for path, source in sources.items()
        if source is not None and source.missing is not None
        for key in source.keys(path.rpartition("/")[2])
    }
    expected = _expected(what, leaves, table)
    unknown = sorted(set(tensors.shapes) - set(expected) - set(ignored))
    if unknown:
        raise UserError(f"{file}: unknown keys for {what}: {_listed(unknown)}")
    absent = sorted(set(expected) - set(tensors.shapes) - optional)
    if absent:
        raise UserError(f"{file}: missing keys for {what}: {_listed(absent)}")
    wrong = [
        f"{key} is {tensors.shapes[key]}, not {shape}"
        for key, shape in expected.items()
        if key in tensors.shapes and tensors.shapes[key] != shape
    ]
    if wrong:
        raise UserError(f"{file}: wrong shapes for {what}: {_listed(wrong)}")
    flat = {path: _lazy_leaf(path, shape, sources[path], tensors) for path, shape in leaves.items()}
    return unflatten_paths(flat)


class ImportedStage(NamedTuple):
    """A stage with lazily read parameters, and the files that they are read from."""

    stage: Stage
    files: tuple[Path, ...]


def import_stage(
    spec: StageSpec, table: Table, tensors: TensorFile, ignored: Iterable[str] = ()
) -> ImportedStage:
    """Returns the stage of `import_tree`, stored in the dtype that the tensors have."""
    params = import_tree(spec, table, tensors, ignored)
    return ImportedStage(Stage(spec, params, tensors.dtype), tensors.files)


def _listed(names: list[str]) -> str:
    return f"{len(names)}: {', '.join(names)}" if len(names) > 1 else names[0]


def _lazy_leaf(path: str, shape: tuple[int, ...], source: Source, tensors: TensorFile) -> LazyArray:
    name = path.rpartition("/")[2]
    keys = source.keys(name)

    def read() -> np.ndarray:
        if source.missing is not None and keys[0] not in tensors.shapes:
            return np.full(shape, source.missing, np.float32)
        return to_ours([tensors[key] for key in keys], name, shape, source)

    return LazyArray(shape, read)


def export_tensors(
    spec: StageSpec, params: Mapping[str, Any], table: Table
) -> dict[str, LazyArray]:
    """Returns a stage's parameters by key, in the table's format."""
    leaves, shapes = flatten_paths(params), their_shapes(spec, table)
    found = {}
    for path, leaf in leaves.items():
        source, name = source_of(table, path), path.rpartition("/")[2]
        for i, key in enumerate(source.keys(name)):
            read = lambda leaf=leaf, name=name, source=source, i=i: (  # noqa: E731
                to_theirs(np.asarray(leaf), name, source)[i]
            )
            found[key] = LazyArray(shapes[key], read)
    return found


def mlp_ratio(width: int, hidden: int) -> float:
    """Returns the ratio with which `int(width * ratio)` is exactly `hidden`."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else math.nextafter(ratio, math.inf)
