"""Checksums: their formula in Python's integers, any bit, any layout, host and device alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from unclip_jax.checkpoint import checksums as sums


def by_formula(array):
    raw = np.ascontiguousarray(array).tobytes()
    size = min(array.dtype.itemsize, 4)
    words = [int.from_bytes(raw[i : i + size], "little") for i in range(0, len(raw), size)]
    return sum((2 * i + 1) * w for i, w in enumerate(words)) % 2**32


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "bool", "uint8"])
def test_host_and_device_follow_the_formula(dtype):
    values = np.random.default_rng(0).normal(0, 100, (3, 8, 5))
    array = np.asarray(jnp.asarray(values).astype(dtype))
    expected = by_formula(array)
    assert sums.host_checksum(array) == expected
    assert int(jax.jit(sums.device_checksums)([jnp.asarray(array)])[0]) == expected


def test_pieces_and_scalars(monkeypatch):
    array = np.random.default_rng(0).normal(size=37).astype(np.float32)
    whole = sums.host_checksum(array)
    monkeypatch.setattr(sums, "PIECE", 5)
    assert sums.host_checksum(array) == whole == by_formula(array)
    assert sums.checksums({"step": np.int32(7)}) == {"step": 7}


def test_every_single_bit_counts():
    array = np.random.default_rng(0).normal(size=6).astype(np.float32)
    whole = sums.host_checksum(array)
    for bit in range(array.nbytes * 8):
        raw = bytearray(array.tobytes())
        raw[bit // 8] ^= 1 << bit % 8
        assert sums.host_checksum(np.frombuffer(bytes(raw), np.float32)) != whole


def test_the_layout_does_not_count():
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    array = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)
    split = jax.device_put(array, NamedSharding(mesh, PartitionSpec("b", None)))
    assert int(jax.jit(sums.device_checksums)([split])[0]) == by_formula(array)
    assert sums.checksums({"a": {"w": split}}) == {"a/w": by_formula(array)}
    assert sums.differing({"a/w": 1, "b": 2}, {"a/w": 1, "b": 3}) == ["b"]
