import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unclip_jax.core.trees import (
    count_params,
    ema_update,
    flatten_paths,
    mask_by_regex,
    unflatten_paths,
)

NAMES = st.text(st.characters(exclude_characters="/"), min_size=1, max_size=4)
TREES = st.recursive(
    st.integers(), lambda inner: st.dictionaries(NAMES, inner, min_size=1, max_size=3), max_leaves=9
).filter(lambda tree: isinstance(tree, dict))
PARAMS = {
    "block_0": {"mlp": {"kernel": np.zeros((2, 3)), "bias": np.zeros(3)}, "norm": {"scale": 1}},
    "head": {"kernel": np.zeros((3, 5))},
}


def test_paths_spell_the_keys():
    assert list(flatten_paths(PARAMS)) == [
        "block_0/mlp/kernel",
        "block_0/mlp/bias",
        "block_0/norm/scale",
        "head/kernel",
    ]


@given(TREES)
def test_flatten_and_unflatten_are_inverse(tree):
    flat = flatten_paths(tree)
    assert unflatten_paths(flat) == tree
    assert len(flat) == len(jax.tree.leaves(tree))


@pytest.mark.parametrize("key", ["a/b", ""])
def test_keys_that_no_path_can_spell(key):
    with pytest.raises(ValueError, match="slash path"):
        flatten_paths({"x": {key: 1}})


@pytest.mark.parametrize("flat", [{"a": 1, "a/b": 2}, {"a/b": 2, "a": 1}])
def test_a_path_is_a_leaf_or_a_tree(flat):
    with pytest.raises(ValueError, match="leaf"):
        unflatten_paths(flat)


def test_count_takes_arrays_and_abstract_arrays():
    arrays = {"a": np.zeros((2, 3, 4)), "b": {"c": np.zeros(()), "d": np.zeros((5, 0))}}
    assert count_params(arrays) == 25
    assert count_params(jax.eval_shape(lambda: {"w": jnp.zeros((50_000, 50_000))})) == 50_000**2


def test_mask_searches_the_whole_path():
    mask = mask_by_regex(PARAMS, r"(^|/)kernel$")
    assert mask == {
        "block_0": {"mlp": {"kernel": True, "bias": False}, "norm": {"scale": False}},
        "head": {"kernel": True},
    }
    assert not any(jax.tree.leaves(mask_by_regex(PARAMS, "^mlp")))


def test_ema_against_its_closed_form():
    """With constant parameters p, n steps from e leave p + (e - p) decay^n."""
    start, goal, decay, steps = np.array([1.0, -2.0]), np.array([3.0, 5.0]), 0.9, 20
    ema, params = {"w": jnp.asarray(start)}, {"w": jnp.asarray(goal)}
    update = jax.jit(ema_update)
    for _ in range(steps):
        ema = update(ema, params, jnp.float32(decay))
    np.testing.assert_allclose(ema["w"], goal + (start - goal) * decay**steps, rtol=1e-5)


def test_ema_keeps_dtypes_and_copies_integers():
    ema = {"w": jnp.ones(2, jnp.float32), "n": jnp.zeros(2, jnp.int32)}
    params = {"w": jnp.zeros(2, jnp.bfloat16), "n": jnp.ones(2, jnp.int32)}
    moved = ema_update(ema, params, 0.75)
    assert moved["w"].dtype == jnp.float32
    np.testing.assert_array_equal(moved["w"], [0.75, 0.75])
    np.testing.assert_array_equal(moved["n"], [1, 1])
    for decay, expected in ((0.0, params), (1.0, ema)):
        np.testing.assert_array_equal(ema_update(ema, params, decay)["w"], expected["w"])
