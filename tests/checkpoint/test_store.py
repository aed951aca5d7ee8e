"""The store: what is kept, what comes back, and where it comes back to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from unclip_jax.checkpoint.store import CheckpointStore, abstract_like


@pytest.fixture(scope="module")
def mesh():
    return jax.make_mesh((8,), ("fsdp",), axis_types=(jax.sharding.AxisType.Auto,))


def state(value, sharding):
    return {"step": jnp.asarray(3), "w": jax.device_put(jnp.full((8, 2), value), sharding)}


def test_the_newest_and_the_best_are_kept_and_come_back(tmp_path, mesh):
    split = NamedSharding(mesh, PartitionSpec("fsdp"))
    store = CheckpointStore(tmp_path, keep_latest=2, keep_best=1)
    for step, loss in ((1, 3.0), (2, 1.0), (3, 2.0), (4, 2.5), (5, None)):
        store.save(step, state(float(step), split), {"next": step}, loss)
    store.wait()
    assert (store.latest(), store.best(), store.steps()) == (5, 2, [2, 4, 5])

    whole = NamedSharding(mesh, PartitionSpec())
    shardings = jax.tree.map(lambda _: whole, state(0.0, split))
    restored, data = store.restore(2, abstract_like(state(0.0, split), shardings))
    np.testing.assert_array_equal(restored["w"], np.full((8, 2), 2.0))
    assert restored["w"].sharding == whole
    assert data == {"next": 2}
    store.close()
    again = CheckpointStore(tmp_path, keep_latest=1, keep_best=1)
    again.save(6, state(6.0, split), {"next": 6}, 9.0)
    again.wait()
    assert (again.best(), again.steps()) == (2, [2, 6])  # the best is known after a restart too
    again.close()


def test_what_an_interrupted_save_has_left_is_removed(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save(1, {"w": jnp.ones(2)}, {})
    store.close()
    torn = tmp_path / "2.orbax-checkpoint-tmp"
    torn.mkdir()
    (torn / "half").write_text("x")
    store = CheckpointStore(tmp_path)
    assert store.latest() == 1
    store.save(2, {"w": jnp.zeros(2)}, {})
    store.wait()
    assert store.steps() == [1, 2]
    assert not torn.exists()
    store.close()


def test_a_state_comes_back_exactly_on_fewer_devices_and_on_more(tmp_path):
    """8 -> 4 -> 2 -> 8 devices, with another split each time: not a bit is lost."""
    rng = np.random.default_rng(0)
    values = {
        "kernel": rng.standard_normal((16, 24)).astype(np.float32),
        "bias": rng.standard_normal(24).astype(np.float32),
        "step": np.int32(7),
    }

    def laid_out(devices, fsdp):
        mesh = jax.make_mesh(
            (fsdp, devices // fsdp),
            ("fsdp", "tensor"),
            axis_types=(jax.sharding.AxisType.Auto,) * 2,
            devices=jax.devices()[:devices],
        )
        specs = {
            "kernel": PartitionSpec("fsdp", "tensor"),
            "bias": PartitionSpec("tensor"),
            "step": PartitionSpec(),
        }
        return {name: NamedSharding(mesh, spec) for name, spec in specs.items()}

    held = jax.device_put(values, laid_out(8, 4))
    for step, (devices, fsdp) in enumerate([(4, 1), (2, 2), (8, 2)]):
        store = CheckpointStore(tmp_path)
        store.save(step, held, {"next": step})
        store.close()
        store = CheckpointStore(tmp_path)
        shardings = laid_out(devices, fsdp)
        held, _ = store.restore(step, abstract_like(held, shardings))
        store.close()
        for name, value in values.items():
            np.testing.assert_array_equal(held[name], value)
            assert held[name].sharding == shardings[name]
            assert len(held[name].addressable_shards) == devices
