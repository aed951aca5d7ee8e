"""What is computed batch by batch is what one call computes, in order."""

import jax.numpy as jnp
import numpy as np
import pytest

from unclip_jax.core.batching import iter_batches, map_batches


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 11])
@pytest.mark.parametrize("pad", [True, False])
def test_batches_are_the_whole_in_order(count, pad):
    rows, seen = np.arange(3 * count).reshape(count, 3), []

    def function(batch):
        seen.append(len(batch))
        x = jnp.asarray(rows)[jnp.asarray(batch)]
        return {"square": x**2, "sum": x.sum(1)}

    found = map_batches(function, range(count), 4, pad=pad)
    np.testing.assert_array_equal(found["square"], rows**2)
    np.testing.assert_array_equal(found["sum"], rows.sum(1))
    last = 4 if pad else (count - 1) % 4 + 1
    assert seen == [4] * ((count - 1) // 4) + [last]


def test_the_last_batch_is_filled_with_its_last_item():
    seen = []
    map_batches(lambda batch: seen.append(batch) or np.asarray(batch), iter("abcde"), 3)
    assert seen == [["a", "b", "c"], ["d", "e", "e"]]


def test_items_are_read_and_reported_as_they_are_needed():
    read, done = [], []

    def items():
        for number in range(5):
            read.append(number)
            yield number

    batches = iter_batches(np.asarray, items(), 2, report=done.append)
    assert next(batches).tolist() == [0, 1]
    assert (read, done) == ([0, 1], [0])
    assert [batch.tolist() for batch in batches] == [[2, 3], [4]]
    assert done == [0, 2, 4]


def test_no_items_are_an_error():
    with pytest.raises(ValueError, match="no items"):
        map_batches(np.asarray, [], 2)
