"""Files of a run that others may have damaged are one line at export."""

import hashlib
import io
import json

import ml_dtypes
import numpy as np
import pytest

from tests.toy import random_params, toy_specs
from unclip_jax.checkpoint import runs
from unclip_jax.checkpoint.store import CheckpointStore
from unclip_jax.core.errors import UserError
from unclip_jax.models.stages import spec_to_dict

TABLE = np.linspace(0.01, 0.9, 1000)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run's folder whose checkpoint is not read."""
    monkeypatch.setattr(runs, "_restore_ema", lambda *_, **__: {})
    spec = {
        "stage": "upsampler_256",
        "model": {"unet": {"image_size": 16, "channels": 8, "in_channels": 6}, "low_res_size": 8},
        "diffusion": {},
    }
    data = {"name": "shapes"}
    config = {**spec, "seed": 0, "data": data, "optim": {}, "train": {"steps": 2}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "checkpoints" / "2" / "state").mkdir(parents=True)
    np.save(tmp_path / "variance_table.npy", TABLE)
    return tmp_path


def refused(run, *words):
    with pytest.raises(UserError) as caught:
        runs.read_run(run)
    for word in words:
        assert word in str(caught.value)


def npy(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_table_is_read(run, dtype):
    np.save(run / "variance_table.npy", TABLE.astype(dtype))
    np.testing.assert_array_equal(runs.read_run(run).arrays["variance_table"], TABLE.astype(dtype))


@pytest.mark.parametrize(
    "data",
    [
        npy(np.array([{"a": 1}]), allow_pickle=True),
        npy(TABLE)[:-8],
        npy(TABLE)[:40],
        npy(TABLE) + b"more",
        b"",
        npy(TABLE.reshape(10, 100)),
        npy(TABLE.astype("U8")),
        npy(np.full(1000, np.nan)),
        npy(TABLE).replace(b"(1000,)", b"(9**9,)"),
        npy(TABLE).replace(b"{'descr'", b"((((((((("),
    ],
    ids=range(10),
)
def test_a_damaged_table_is_one_line(run, data):
    (run / "variance_table.npy").write_bytes(data)
    refused(run, "variance_table.npy", "delete it")


@pytest.mark.parametrize("entries", [3, {"a": 1}, [1], "x"])
def test_a_record_of_another_kind_is_one_line(run, entries):
    (run / "environment.json").write_text(json.dumps(entries))
    refused(run, "environment.json", "is not a list of starts")


def test_a_checkpoint_that_does_not_list_an_array_is_one_line(tmp_path):
    """The list of arrays has a flipped letter, so that Orbax finds no file for one of them."""
    upsampler = toy_specs(300)["upsampler_256"]
    spec, params = spec_to_dict(upsampler), random_params(upsampler, 0)
    store = CheckpointStore(tmp_path / "checkpoints")
    store.save(2, {"ema_params": params}, {})
    store.close()
    sections = {"seed": 0, "data": {"name": "shapes"}, "optim": {}, "train": {"steps": 2}}
    (tmp_path / "config.json").write_text(json.dumps(spec | sections))
    assert runs.read_run(tmp_path).step == 2
    listed = tmp_path / "checkpoints" / "2" / "state" / "_METADATA"
    listed.write_text(listed.read_text().replace('"key": "ema_params"', '"key": "ema_paramq"', 1))
    refused(tmp_path, "step 2 is damaged", "cannot be read")


def test_a_run_is_finished_at_its_last_step(run):
    assert runs.read_run(run).is_finished  # step 2 of 2
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"train": {"steps": 3}}))
    assert not runs.read_run(run).is_finished


def test_a_digest_is_of_paths_and_values_as_float32():
    def sha256(**leaves):
        whole = b"".join(
            name.replace("_", "/").encode() + np.asarray(values, "<f4").tobytes()
            for name, values in leaves.items()
        )
        return hashlib.sha256(whole).hexdigest()

    third = np.float32(1 / 3)
    params = {"b": np.ones((1, 2), np.float16), "a": {"w": np.asarray([third])}}
    assert runs.params_digest(params) == sha256(a_w=[third], b=[1, 1])
    assert runs.params_digest({"a": params["b"], "b": params["a"]["w"]}) != (
        runs.params_digest({"a": params["a"]["w"], "b": params["b"]})
    )
    assert runs.params_digest({"c": params["b"]}) != runs.params_digest({"b": params["b"]})
    kinds = (np.float32, np.float16, ml_dtypes.bfloat16)  # as a bundle may round them
    assert runs.stored_digests(params) == {sha256(a_w=[third.astype(k)], b=[1, 1]) for k in kinds}
