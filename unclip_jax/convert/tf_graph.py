"""Reads the constants of a frozen TensorFlow graph (.pb), without TensorFlow.

Only the fields that constants need are declared; everything else in the file is passed over, and
nothing is executed. Source of the field numbers: TensorFlow, core/framework/{graph,node_def,
attr_value,tensor,tensor_shape}.proto.
"""

import functools
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from unclip_jax.convert.torch_files import TensorFile
from unclip_jax.core.errors import UserError

LARGEST = 1 << 28  # bytes of a file or a constant; the graph of Inception has 96 MB
FLOAT = 1  # DT_FLOAT of types.proto

FIELDS = {
    "Graph": {"node": (1, "Node", True)},
    "Node": {"name": (1, "string", False), "op": (2, "string", False), "attr": (5, "Attr", True)},
    "Attr": {"key": (1, "string", False), "value": (2, "Value", False)},
    "Value": {"tensor": (8, "Tensor", False)},
    "Tensor": {
        "dtype": (1, "int32", False),
        "shape": (2, "Shape", False),
        "content": (4, "bytes", False),
        "floats": (5, "float", True),
    },
    "Shape": {"dim": (2, "Dim", True)},
    "Dim": {"size": (1, "int64", False)},
}
"""The messages: each field's number, its type and whether it repeats."""


@functools.cache
def _graph_class() -> Any:
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="unclip_jax/tf_graph.proto", package="unclip_jax.tf_graph", syntax="proto3"
    )
    for name, fields in FIELDS.items():
        made = file.message_type.add(name=name)
        for field, (number, kind, repeats) in fields.items():
            label = kinds.LABEL_REPEATED if repeats else kinds.LABEL_OPTIONAL
            entry = made.field.add(name=field, number=number, label=label)
            if kind in FIELDS:
                entry.type, entry.type_name = kinds.TYPE_MESSAGE, f".{file.package}.{kind}"
            else:
                entry.type = getattr(kinds, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = pool.FindMessageTypeByName(f"{file.package}.Graph")
    return message_factory.GetMessageClass(found)


def open_graph(path: Path) -> TensorFile:
    """Returns the float32 constants of a graph, by the names of their nodes.

    A constant of one number may stand for a whole array of it.

    Raises:
        UserError: the file is not a graph, or a constant's numbers are not as many as its shape.
    """
    if not path.is_file():
        raise UserError(f"{path} is {'not a file' if path.exists() else 'missing'}")
    if path.stat().st_size > LARGEST:
        raise UserError(f"{path} is larger than any graph that is read here")
    try:
        graph = _graph_class().FromString(path.read_bytes())
    except message.Error as error:
        raise UserError(f"{path} is not a TensorFlow graph; fetch it again") from error
    tensors = {}
    for node in graph.node:
        values = [attr.value.tensor for attr in node.attr if attr.key == "value"]
        if node.op == "Const" and values and values[0].dtype == FLOAT:
            tensors[node.name] = values[0]
    shapes = {name: _shape(path, name, tensor) for name, tensor in tensors.items()}
    return TensorFile(
        [path],
        shapes,
        dict.fromkeys(shapes, "float32"),
        lambda name: _array(tensors[name], shapes[name]),
    )


def _shape(path: Path, name: str, tensor: Any) -> tuple[int, ...]:
    shape = tuple(dim.size for dim in tensor.shape.dim)
    size, given = math.prod(shape), len(_numbers(tensor))
    fills = size == given or (given == 1 and not tensor.content and size <= LARGEST // 4)
    if min(shape, default=0) < 0 or not fills:
        raise UserError(f"{path}: constant {name} does not fill its shape; fetch the file again")
    return shape


def _numbers(tensor: Any) -> np.ndarray:
    if tensor.content:
        whole = len(tensor.content) // 4 * 4
        return np.frombuffer(tensor.content[:whole], "<f4")
    return np.asarray(tensor.floats, np.float32)


def _array(tensor: Any, shape: tuple[int, ...]) -> np.ndarray:
    numbers = _numbers(tensor)
    return numbers.reshape(shape) if numbers.size == math.prod(shape) else np.full(shape, numbers)


def only_named(tensors: TensorFile, ends: Collection[str]) -> TensorFile:
    """Returns the constants whose last part is one of `ends`."""
    return tensors.only(lambda key: key.rpartition("/")[2] in ends)
