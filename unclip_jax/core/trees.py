"""Parameter trees: slash paths, counts, masks and moving averages.

A tree is a nested mapping with string keys; a path joins the keys with "/": "block_0/mlp/kernel".
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def flatten_paths(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Returns {"a/b/kernel": leaf} in the tree's order; empty subtrees are dropped."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if not key or "/" in key:
            raise ValueError(f"{key=} cannot be part of a slash path")
        if isinstance(value, Mapping):
            flat.update({f"{key}/{path}": leaf for path, leaf in flatten_paths(value).items()})
        else:
            flat[key] = value
    return flat


def unflatten_paths(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the nested dict of {"a/b/kernel": leaf}: the inverse of `flatten_paths`."""
    tree: dict[str, Any] = {}
    for path, leaf in flat.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ValueError(f"{path=} has a leaf as a parent")
        if name in node:
            raise ValueError(f"{path=} is both a leaf and a subtree, or given twice")
        node[name] = leaf
    return tree


def count_params(tree: Any) -> int:
    """Returns the number of scalars in all leaves (arrays or abstract arrays)."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def take(tree: Any, rows: slice | Sequence[int] | np.ndarray) -> Any:
    """Returns the chosen rows of every leaf: a slice of them, or those of an index array."""
    index = rows if isinstance(rows, slice) else np.asarray(rows)
    return jax.tree.map(lambda leaf: leaf[index], tree)


def mask_by_regex(tree: Mapping[str, Any], pattern: str) -> dict[str, Any]:
    """Returns a tree that is True where `re.search(pattern, path)` matches."""
    found = re.compile(pattern).search
    return unflatten_paths({path: bool(found(path)) for path in flatten_paths(tree)})


def ema_update(ema: Any, params: Any, decay: float | Float[Array, ""]) -> Any:
    """Moves an exponential moving average one step: ema <- decay ema + (1 - decay) params.

    Each leaf keeps the average's dtype; leaves that are not floating point are taken from `params`.
    """

    def move(average: Array, value: Array) -> Array:
        if not jnp.issubdtype(average.dtype, jnp.inexact):
            return value
        rate = jnp.asarray(decay, average.dtype)
        return rate * average + (1 - rate) * value.astype(average.dtype)

    return jax.tree.map(move, ema, params)
