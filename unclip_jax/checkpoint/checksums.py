"""Checksums of a training state: one number per leaf, independent of its sharding.

Neither zarr nor zstd detects a flipped bit inside a chunk, so a damaged checkpoint may be restored
as wrong parameters. The checksum sums over a leaf's 32-bit words w_i, in row-major order,

    sum_i (2 i + 1) w_i  mod 2^32,

which any single bit flip changes, because (2 i + 1) 2^k is never 0 mod 2^32 for k < 32. Integer
sums do not depend on their order, so a leaf that is sharded over devices and processes has the same
checksum as a whole one, and every process of a job gets it.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import Array

PIECE = 2**20  # words summed at a time on the host


def checksums(tree: Any) -> dict[str, int]:
    """Returns {path: checksum} of all leaves; on CPU by NumPy, else on the devices."""
    found = jax.tree_util.tree_leaves_with_path(tree)
    paths = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in found]
    leaves = [leaf for _, leaf in found]
    if jax.process_count() == 1 and all(_is_on_host(leaf) for leaf in leaves):
        return {path: host_checksum(leaf) for path, leaf in zip(paths, leaves, strict=True)}
    # Replicated in a job, so that every process can read the sums.
    whole = PartitionSpec() if jax.process_count() > 1 else None
    sums = np.asarray(jax.jit(device_checksums, out_shardings=whole)(leaves))
    return dict(zip(paths, map(int, sums), strict=True))


def differing(recorded: Mapping[str, int], found: Mapping[str, int]) -> list[str]:
    """Lists the leaves of `found` whose checksum differs from the recorded one."""
    return [path for path, value in found.items() if recorded.get(path) != value]


def host_checksum(leaf: Any) -> int:
    """Returns the checksum of an array, computed with NumPy."""
    array = np.ascontiguousarray(np.asarray(leaf)).reshape(-1)
    words = array.view(_WORDS[min(array.dtype.itemsize, 4)])
    total = np.uint32(0)
    for start in range(0, len(words), PIECE):
        piece = words[start : start + PIECE].astype(np.uint32)
        weights = np.arange(start, start + len(piece), dtype=np.uint64).astype(np.uint32)
        piece *= weights * np.uint32(2) + np.uint32(1)
        total = np.add(total, piece.sum(dtype=np.uint32), dtype=np.uint32)
    return int(total)


def device_checksums(leaves: list[Array]) -> Array:
    """Returns the checksums of arrays, uint32 [number of leaves]; for jit."""
    return jnp.stack([_device_checksum(leaf) for leaf in leaves])


_WORDS = {1: np.uint8, 2: np.uint16, 4: np.uint32}


def _device_checksum(leaf: Array) -> Array:
    if leaf.dtype == jnp.bool_:
        leaf = leaf.astype(jnp.uint8)
    words = _WORDS[min(leaf.dtype.itemsize, 4)]
    bits = jax.lax.bitcast_convert_type(leaf, words).astype(jnp.uint32)
    index, stride = jnp.zeros(bits.shape, jnp.uint32), 1
    for axis in reversed(range(bits.ndim)):
        index += jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis) * np.uint32(stride % 2**32)
        stride *= bits.shape[axis]
    return jnp.sum(bits * (index * np.uint32(2) + np.uint32(1)), dtype=jnp.uint32)


def _is_on_host(leaf: Any) -> bool:
    return not isinstance(leaf, jax.Array) or all(d.platform == "cpu" for d in leaf.devices())
