"""Splitting over devices loses and changes nothing."""

import jax
import numpy as np
import pytest

from unclip_jax.sampling import parallel


@pytest.mark.parametrize("n", [1, 5, 8, 13, 16])
def test_split_and_join_are_inverse(n):
    tree = {"a": np.arange(n * 6.0).reshape(n, 2, 3), "none": None, "b": np.arange(n)}
    parts = parallel.split(tree)
    assert parts["a"].shape == (jax.local_device_count(), -(-n // 8), 2, 3)
    back = parallel.join(parts, n)
    np.testing.assert_array_equal(back["a"], tree["a"])
    np.testing.assert_array_equal(back["b"], tree["b"])


@pytest.mark.parametrize(("n", "limit", "expected"), [(1, 16, 8), (9, 16, 16), (40, 4, 24)])
def test_batches_are_even(n, limit, expected):
    assert jax.local_device_count() == 8
    assert parallel.device_batch(n, limit) == expected


def test_shared_arguments_reach_every_device():
    double = parallel.over_devices(lambda weights, x: weights["w"] * x, shared=(0,))
    x = np.arange(16.0, dtype=np.float32).reshape(8, 2)
    weights = parallel.replicate({"w": np.float32(2.0)})
    np.testing.assert_array_equal(double(weights, x), 2 * x)
