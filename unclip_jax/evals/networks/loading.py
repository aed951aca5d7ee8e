"""Weights of a network from a user's file, checked key by key, and the network run with them."""

import hashlib
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Array

from unclip_jax.convert.name_tables import Shapes, Table, import_leaves
from unclip_jax.convert.torch_files import TensorFile
from unclip_jax.core.errors import UserError
from unclip_jax.core.trees import flatten_paths
from unclip_jax.core.types import Params
from unclip_jax.models.stages import unboxed
from unclip_jax.sampling import parallel

HUB_NAME = re.compile(r"-([0-9a-f]{8,64})\.\w+$")
"""Ends of the names of torch.hub's files: the first digits of the file's SHA-256."""


def check_hub_digest(path: Path) -> None:
    """Compares a file with the SHA-256 in its name, where torch.hub's rule put one.

    Raises:
        UserError: the file is another one than its name says.
    """
    stated = HUB_NAME.search(path.name)
    if stated is None or not path.is_file():
        return
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(stated[1]):
        raise UserError(
            f"{path}: its name says that its SHA-256 begins with {stated[1]}, but it begins with "
            f"{found[:8]}; fetch it again"
        )


def param_shapes(module: nn.Module, *inputs: jax.ShapeDtypeStruct) -> Shapes:
    """Returns the shapes of a network's parameters by slash path; nothing is computed."""
    made = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    leaves = flatten_paths(unboxed(made["params"]))
    return {path: tuple(leaf.shape) for path, leaf in leaves.items()}


def load_params(
    what: str,
    shapes: Shapes,
    table: Table,
    tensors: TensorFile,
    ignored: Iterable[str] = (),
) -> Params:
    """Reads a network's parameters as float32 arrays.

    Args:
        what: name of the network, for messages.
        shapes: of `param_shapes`.
        ignored: keys that the network has no use for.

    Raises:
        UserError: a key is unknown, absent, or of another shape.
    """
    leaves = import_leaves(what, shapes, table, tensors, ignored)
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), leaves)


def runner(
    function: Callable[[Params, Array], Any], params: Params, limit: int
) -> Callable[[np.ndarray], Any]:
    """Returns a function of a batch of arrays, run on all local devices in full float32.

    Args:
        limit: rows that a device takes at most a call.
    """

    def exact(params: Params, rows: Array) -> Any:
        with jax.default_matmul_precision("highest"):
            return function(params, rows)

    program = parallel.over_devices(exact, shared=(0,))
    placed = parallel.replicate(params)
    return lambda rows: parallel.map_rows(program, placed, (rows,), limit)
