"""Orbax's next interface, v1, reads the checkpoints of a training run as they are."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from orbax.checkpoint.experimental import v1 as orbax_v1

from unclip_jax.checkpoint.store import CheckpointStore
from unclip_jax.train.state import make_state

# Without shardings in the call, v1 takes those of the file, and warns that it does.
pytestmark = pytest.mark.filterwarnings("ignore:Sharding info not provided:UserWarning")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A training state, sharded over 8 devices, and the folder of checkpoints that has it."""
    mesh = jax.make_mesh((8,), ("fsdp",), axis_types=(jax.sharding.AxisType.Auto,))
    rng = np.random.default_rng(0)
    params = {
        "dense": {
            "kernel": jax.device_put(
                rng.standard_normal((16, 4)).astype(np.float32),
                NamedSharding(mesh, PartitionSpec("fsdp")),
            ),
            "bias": jnp.asarray(rng.standard_normal(4), jnp.float32),
        }
    }
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))
    state = make_state(params, tx, num_metrics=2)
    _, opt_state = tx.update(jax.tree.map(lambda x: 2 * x, params), state.opt_state, params)
    state = state.replace(step=jnp.asarray(7, jnp.int32), opt_state=opt_state)
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    store = CheckpointStore(folder)
    store.save(7, state, {"next": 8}, held_out_loss=0.5)
    store.close()
    return state, folder


def paths(tree):
    """Leaves by path; a tuple of optax's, a struct and a dict name their parts alike."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def test_every_leaf_of_the_training_state_is_read_bit_for_bit(saved):
    state, folder = saved
    found = paths(orbax_v1.load(folder / "7", checkpointable_name="state"))
    expected = paths(state)
    assert set(found) == set(expected) and len(expected) > 10
    for path, leaf in expected.items():
        assert found[path].dtype == leaf.dtype, path
        np.testing.assert_array_equal(found[path], leaf, err_msg=path)


def test_the_checkpointer_finds_steps_metrics_and_the_data_iterator(saved):
    with orbax_v1.training.Checkpointer(saved[1]) as checkpointer:
        assert checkpointer.latest.step == 7
        assert checkpointer.latest.metrics == {"held_out_loss": 0.5}
        found = checkpointer.load_checkpointables(7)
    assert found["data"]["iterator"] == {"next": 8}


def test_a_state_is_restored_into_the_structure_and_sharding_that_are_asked_for(saved):
    state, folder = saved
    one = jax.sharding.SingleDeviceSharding(jax.devices()[3])
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one), state)
    found = orbax_v1.load(folder / "7", abstract, checkpointable_name="state")
    assert jax.tree.structure(found) == jax.tree.structure(state)
    kernel = found.params["dense"]["kernel"]
    assert kernel.sharding == one
    np.testing.assert_array_equal(kernel, state.params["dense"]["kernel"])
