"""Random keys by stage, step and example index.

Keys are never stored: each is folded in from the root key, so that a resumed run, another number
of devices or one more prompt leaves every other random number as it was.

    training: root -> stage -> step -> example index -> purpose
    sampling: root -> prompt index -> draw -> stage -> candidate -> step
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Integer, Key

from unclip_jax.core import ready

# Steps that no training takes: what is random beside the steps has their keys.
HELD_OUT_STEP = 2**31 - 1  # noise of the held-out loss
INIT_STEP = 2**31 - 2  # fresh parameters
VARIANCE_TABLE_STEP = 2**31 - 3  # noise of the analytic variance's table
GRID_STEP = 2**31 - 4  # noise of the sample grids
# An example that no batch has.
DROPOUT_ROW = 2**31 - 1  # dropout of a batch's layers

Index = int | np.integer | Integer[Array | np.ndarray, ""]


def root_key(seed: Index) -> Key[Array, ""]:
    """Returns the root key of a run; the generator is named, so that a default cannot change it."""
    return jax.random.key(seed, impl="threefry2x32")


def image_key(root: Key[Array, ""], prompt_index: Index, draw: Index) -> Key[Array, ""]:
    """Returns the key of one image: draw number `draw` of prompt number `prompt_index`."""
    return jax.random.fold_in(jax.random.fold_in(root, prompt_index), draw)


def image_keys(
    root: Key[Array, ""],
    prompt_index: Sequence[int] | Integer[Array | np.ndarray, " n"],
    draw: Sequence[int] | Integer[Array | np.ndarray, " n"],
) -> Key[Array, " n"]:
    """Returns the keys of images by their prompt's (or input image's) number and their draw's."""
    if any(isinstance(given, jax.core.Tracer) for given in (root, prompt_index, draw)):
        return _image_keys(root, jnp.asarray(prompt_index, "uint32"), jnp.asarray(draw, "uint32"))
    inputs = root, np.asarray(prompt_index, np.uint32), np.asarray(draw, np.uint32)
    return _image_keys_program(root.dtype, inputs[1].size)(*inputs)


@functools.lru_cache(maxsize=64)
def _image_keys_program(dtype: Any, n: int) -> Callable[..., Any]:
    """Returns the program of n keys, made once a process."""
    root, numbers = jax.ShapeDtypeStruct((), dtype), jax.ShapeDtypeStruct((n,), np.uint32)
    return ready.program(_image_keys, ("image_keys",), (root, numbers, numbers))


@jax.jit
def _image_keys(root: Key[Array, ""], prompt_index: Array, draw: Array) -> Key[Array, " n"]:
    return jax.vmap(image_key, in_axes=(None, 0, 0))(root, prompt_index, draw)


def stage_key(key: Key[Array, ""], key_id: int) -> Key[Array, ""]:
    """Returns a stage's own key; `key_id` is that of its row in `models.stages.STAGES`."""
    return jax.random.fold_in(key, key_id)


def step_key(key: Key[Array, ""], step: Index) -> Key[Array, ""]:
    """Returns the key of one step of training or of one step of the reverse process."""
    return jax.random.fold_in(key, step)


def example_keys(
    key: Key[Array, ""], indices: Integer[Array | np.ndarray, " b"]
) -> Key[Array, " b"]:
    """Returns a key per example from its global index (below 2**31), whatever the batch split."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, indices)
