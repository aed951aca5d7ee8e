"""The store: what is kept, what comes back, and where it comes back to."""

import json
import random
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from jax.sharding import NamedSharding, PartitionSpec

from unclip_jax.checkpoint import records
from unclip_jax.checkpoint.store import CheckpointStore, abstract_like
from unclip_jax.core.errors import UserError


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


@struct.dataclass
class EarlierState:
    """A training state as it was before a field was renamed."""

    step: jax.Array
    skipped_row: jax.Array


@struct.dataclass
class State:
    """The same with the field's present name."""

    step: jax.Array
    consecutive_skips: jax.Array


@pytest.mark.parametrize("has_checksums", [True, False])
def test_a_state_of_an_earlier_version_comes_back_under_its_fields_new_names(
    tmp_path, has_checksums
):
    store = CheckpointStore(tmp_path)
    store.save(5, EarlierState(jnp.asarray(5), jnp.asarray(2)), {"next": 40})
    store.wait()
    if not has_checksums:  # versions before them wrote the iterator's state alone
        (tmp_path / "5" / "data" / "metadata").write_text(json.dumps({"next": 40}))
    wanted = State(jnp.asarray(0), jnp.asarray(0))
    shardings = jax.tree.map(lambda leaf: leaf.sharding, wanted)
    step, state, data = store.restore_newest(abstract_like(wanted, shardings))
    assert (step, int(state.step), int(state.consecutive_skips), data) == (5, 5, 2, {"next": 40})
    store.close()


def test_a_state_of_other_arrays_is_named_as_such(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save(5, {"w": jnp.ones(2)}, {})
    store.wait()
    other = {"w": jax.ShapeDtypeStruct((2,), jnp.float32), "v": jax.ShapeDtypeStruct((), jnp.int32)}
    with pytest.raises(
        UserError, match=r"step 5 is damaged \(its arrays are not those of this run"
    ):
        store.restore_newest(other)
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


FLIPPED_FILES = 34  # as many as the review flipped; each in another file or at another place


def tiny(value):
    noise = np.random.default_rng(int(value)).standard_normal(1000).astype(np.float32)
    return {"step": jnp.asarray(3), "w": jnp.full((64, 32), value), "m": {"a": jnp.asarray(noise)}}


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two") / "checkpoints"
    store = CheckpointStore(folder)
    store.save(1, tiny(1.0), {"next": 1}, 2.0)
    store.save(2, tiny(2.0), {"next": 2}, 1.0)
    store.close()
    return folder


def abstract():
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return abstract_like(tiny(0.0), jax.tree.map(lambda _: device, tiny(0.0)))


def restored(folder):
    """The newest whole step as a run takes it: (step, parameters as saved?, what was said)."""
    said = []
    store = CheckpointStore(folder, say=said.append)
    step, state, data = store.restore_newest(abstract())
    assert data == {"next": step}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tiny(float(step))):
        found = dict(jax.tree_util.tree_leaves_with_path(state))[path]
        np.testing.assert_array_equal(found, leaf, err_msg=str(path))
    if step == 1:
        store.save(2, tiny(2.0), {"next": 2}, 1.0)  # the step that was damaged comes by again
        store.wait()
        assert store.steps() == [1, 2]
    store.close()
    return step, said


def test_a_flipped_bit_is_harmless_or_the_step_before_is_gone_on_from(two_steps, tmp_path):
    files = [p.relative_to(two_steps) for p in sorted((two_steps / "2").rglob("*")) if p.is_file()]
    rng, fell_back = random.Random(0), 0
    for number in range(FLIPPED_FILES):
        folder = shutil.copytree(two_steps, tmp_path / str(number) / "checkpoints")
        path = folder / files[number % len(files)]
        raw = bytearray(path.read_bytes())
        if not raw:
            continue
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        path.write_bytes(raw)
        step, said = restored(folder)
        if step == 1:
            fell_back += 1
            aside = folder.with_name("checkpoints.damaged") / "2"
            assert len(said) == 1 and "\n" not in said[0]
            assert said[0].startswith("the checkpoint of step 2 is damaged (")
            assert said[0].endswith(f"; moved to {aside}, resuming from step 1")
            assert {p.relative_to(aside) for p in aside.rglob("*") if p.is_file()} == {
                file.relative_to("2") for file in files
            }
    assert fell_back >= 5


def test_a_flip_that_storage_does_not_notice_is_found_by_the_checksums(two_steps, tmp_path):
    folder = shutil.copytree(two_steps, tmp_path / "checkpoints")
    record = folder / "2" / "data" / "metadata"
    values = json.loads(record.read_text())
    values["checksums"]["m/a"] ^= 1  # as if the leaf were another
    values.pop("digest")
    values["digest"] = records._digest(values)
    record.write_text(json.dumps(values))
    step, said = restored(folder)
    assert step == 1 and "(the checksum of m/a does not match)" in said[0]


def test_damaged_metrics_are_rewritten_from_the_record(two_steps, tmp_path):
    for number, text in enumerate(['{"held_out_loss": 7.0}', "{", ""]):
        folder = shutil.copytree(two_steps, tmp_path / str(number) / "checkpoints")
        (folder / "2" / "metrics" / "metrics").write_text(text)
        assert restored(folder) == (
            2,
            ["the metrics of step 2 were damaged and have been rewritten"],
        )
        store = CheckpointStore(folder)
        assert store.best() == 2
        store.close()


def test_where_no_checkpoint_is_whole_nothing_is_touched(two_steps, tmp_path):
    folder = shutil.copytree(two_steps, tmp_path / "checkpoints")
    for step in ("1", "2"):
        (folder / step / "data" / "metadata").write_text("{")
    store = CheckpointStore(folder)
    with pytest.raises(UserError, match="step 2 is damaged .* and no older one is intact"):
        store.restore_newest(abstract())
    assert store.steps() == [1, 2] and [path.name for path in tmp_path.iterdir()] == ["checkpoints"]
    store.close()


def test_a_checkpoint_of_an_older_version_is_read(two_steps, tmp_path):
    folder = shutil.copytree(two_steps, tmp_path / "checkpoints")
    (folder / "2" / "data" / "metadata").write_text('{"next": 2}')
    assert restored(folder) == (2, [])


def test_a_full_disk_is_one_line_and_the_last_whole_step_stays(tmp_path):
    """No file may grow beyond 40 kB, in a process of its own: the limit is for all of it."""
    code = (
        "import resource, sys\n"
        "import jax.numpy as jnp, numpy as np\n"
        "from unclip_jax.checkpoint.store import CheckpointStore\n"
        "from unclip_jax.core.errors import UserError\n"
        "state = {'w': jnp.asarray(np.random.default_rng(0).normal(size=30_000), jnp.float32)}\n"
        "store = CheckpointStore(sys.argv[1])\n"
        "store.save(1, state, {'next': 1})\n"
        "store.wait()\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000,) * 2)\n"
        "try:\n"
        "    store.save(2, state, {'next': 2})\n"
        "    store.wait()\n"
        "except UserError as error:\n"
        "    print(error)\n"
        "store.close()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "c")]
    run = subprocess.run(command, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith(f"cannot save a checkpoint in {tmp_path / 'c'}: File too large; ")
    assert run.stdout.endswith("it resumes from step 1\n")
    store = CheckpointStore(tmp_path / "c")
    assert store.steps() == [1]
    store.close()
