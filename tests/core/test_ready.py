"""What is kept is what would be made; anything else on the disk only costs time."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.toy import toy_specs
from unclip_jax.core import ready
from unclip_jax.core.prng import _image_keys_program, image_keys, root_key
from unclip_jax.core.trees import flatten_paths
from unclip_jax.core.types import TextFeatures
from unclip_jax.models import stages
from unclip_jax.sampling import parallel


@pytest.fixture
def folder(tmp_path):
    ready.use_folder(tmp_path / "kept")
    yield tmp_path / "kept"
    ready.use_folder(None)


def doubled(traces: list, parts=("doubled", 2)):
    """Runs a new function of these parts on 3; notes each time that it is traced."""

    def function(x):
        traces.append(parts)
        return TextFeatures(text_emb=2 * x)

    x = np.arange(3, dtype=np.float32)
    return ready.program(jax.jit(function), parts, (x,))(x)


def test_a_kept_program_is_not_traced_again_and_nothing_is_unpickled(folder, monkeypatch):
    traces = []
    first = doubled(traces)
    assert len(traces) == 1

    def refuse(*args, **kwargs):
        raise AssertionError("unpickled")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    second = doubled(traces)
    assert len(traces) == 1
    assert isinstance(second, TextFeatures)
    assert second.text_states is None
    np.testing.assert_array_equal(second.text_emb, [0, 2, 4])
    np.testing.assert_array_equal(first.text_emb, second.text_emb)


def test_other_parts_another_source_or_other_versions_are_another_entry(folder, monkeypatch):
    traces = []
    doubled(traces)
    doubled(traces, ("doubled", 3))
    assert len(traces) == 2
    for name in ("source_digest", "hash_source"):
        monkeypatch.setattr(ready, name, lambda: "another")
    doubled(traces)
    assert len(traces) == 3
    monkeypatch.setattr(ready, "versions", lambda: ("jax 99",))
    doubled(traces)
    assert len(traces) == 4
    assert len(list(folder.iterdir())) == 4


def test_other_shapes_are_another_program(folder):
    traced = jax.jit(lambda x: x.sum())
    for n in (2, 5):
        x = np.ones(n, np.float32)
        assert ready.program(traced, ("sum",), (x,))(x) == n


@pytest.mark.parametrize("damage", [b"", b"x", None])
def test_a_damaged_entry_is_made_again(folder, damage):
    traces = []
    doubled(traces)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    flipped = whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]
    path.write_bytes(flipped if damage is None else damage)
    np.testing.assert_array_equal(doubled(traces).text_emb, [0, 2, 4])
    assert len(traces) == 2
    assert path.read_bytes() == whole


def test_an_intact_entry_that_is_no_program_is_made_again(folder, monkeypatch):
    traces = []
    monkeypatch.setattr(ready, "read", lambda parts: b"no flatbuffer of a program")
    np.testing.assert_array_equal(doubled(traces).text_emb, [0, 2, 4])
    assert len(traces) == 1


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path, folder):
    (tmp_path / "file").write_text("")
    ready.use_folder(tmp_path / "file" / "kept")
    np.testing.assert_array_equal(doubled([]).text_emb, [0, 2, 4])


def test_a_source_that_changes_under_a_running_process_keeps_nothing(folder, monkeypatch):
    monkeypatch.setattr(ready, "hash_source", lambda: "edited")
    np.testing.assert_array_equal(doubled([]).text_emb, [0, 2, 4])
    ready.write(("entry", 1), b"1")
    assert not folder.exists()


def test_the_source_is_read_when_a_folder_is_named(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(ready, "source_digest", lambda: read.append(1))
    ready.use_folder(tmp_path)
    ready.use_folder(None)
    assert read == [1]


def test_the_oldest_entries_go(folder, monkeypatch):
    monkeypatch.setattr(ready, "MOST_ENTRIES", 3)
    for i in range(5):
        ready.write(("entry", i), b"%d" % i)
    assert len(list(folder.iterdir())) == 3
    assert ready.read(("entry", 4)) == b"4"


def test_without_a_folder_nothing_is_kept():
    traces = []
    doubled(traces)
    doubled(traces)
    assert len(traces) == 2
    assert ready.read(("entry", 4)) is None


def test_keys_of_images_are_those_of_a_fold(folder):
    root = root_key(3)
    for _ in range(2):  # made, then read
        _image_keys_program.cache_clear()
        keys = image_keys(root, [0, 7], [1, 2])
        expected = jax.random.fold_in(jax.random.fold_in(root, 7), 2)
        assert (jax.random.key_data(keys[1]) == jax.random.key_data(expected)).all()


def test_keys_of_images_are_one_program_a_process(folder, monkeypatch):
    _image_keys_program.cache_clear()
    image_keys(root_key(3), [0, 7], [1, 2])

    def refuse(*args, **kwargs):
        raise AssertionError("made again")

    monkeypatch.setattr(ready, "program", refuse)
    image_keys(root_key(4), [5, 5], [0, 1])


def test_a_mapped_program_is_kept_with_its_devices(folder):
    traces = []

    def function(weights, keys, x):
        traces.append(1)
        return {"y": weights["w"] * x + jax.vmap(jax.random.uniform)(keys)}

    def run():
        mapped = parallel.over_devices(function, shared=(0,), key=("shifted",))
        return mapped({"w": np.float32(2)}, *parallel.split((keys, x)))["y"].reshape(-1)

    keys = jax.random.split(root_key(0), 16)
    x = np.arange(16, dtype=np.float32)
    expected = 2 * x + np.stack([jax.random.uniform(key) for key in keys])
    for _ in range(2):
        np.testing.assert_allclose(run(), expected, rtol=1e-6)
    assert len(traces) == 1
    assert len(run().sharding.device_set) == jax.local_device_count()


def test_a_mapped_program_is_kept_with_its_key(folder):
    x = parallel.split(np.arange(8, dtype=np.float32))
    for factor in (2, 3):
        mapped = parallel.over_devices(lambda x, f=factor: f * x, (), key=("times", factor))
        np.testing.assert_array_equal(mapped(x), factor * x)


def test_shapes_of_a_stage_are_kept(folder, monkeypatch):
    spec = toy_specs(300)["upsampler_256"]
    traced = flatten_paths(stages.abstract_params(spec))
    shapes = stages.param_shapes(spec)
    assert shapes == {path: leaf.shape for path, leaf in traced.items()}
    monkeypatch.setattr(stages, "abstract_params", None)
    assert stages.param_shapes(spec) == shapes


def test_settings_of_jax_make_another_program(folder):
    x = np.ones((4, 4), np.float32)
    traces = []

    def square(x):
        traces.append(1)
        return jnp.dot(x, x)

    for precision in ("highest", "default", "highest"):
        with jax.default_matmul_precision(precision):
            ready.program(jax.jit(square), ("square",), (x,))(x)
    assert len(traces) == 2
