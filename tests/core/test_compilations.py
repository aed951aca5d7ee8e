"""Programs are counted by whoever asked for it."""

import jax
import numpy as np

from unclip_jax.core.compilations import counted_compilations


def test_a_block_within_a_block_takes_nothing_from_it():
    with counted_compilations() as outer:
        with counted_compilations() as inner:
            pass  # both have counted the same: nothing
        jax.jit(lambda x: 3 * x + 1)(np.float32(2))
    assert [*outer.compiled, *outer.fetched]
    assert not [*inner.compiled, *inner.fetched]
