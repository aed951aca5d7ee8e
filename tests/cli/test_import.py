"""`unclip import` and `unclip export --format diffusers`, and what they refuse."""

import json
import shutil
import sys

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from tests.karlo_golden import unpack
from tests.torch_files import save_zip
from unclip_jax.checkpoint import bundle
from unclip_jax.core.renamed import RenamedWarning
from unclip_jax.core.trees import flatten_paths

PRIOR = "prior/diffusion_pytorch_model.safetensors"


@pytest.fixture
def source(tmp_path):
    return unpack(tmp_path / "karlo")


def change(path, **changes):
    """Replaces tensors by name ("__" for "."); None takes one out."""
    tensors = load_file(path)
    for name, value in changes.items():
        name = name.replace("__", ".")
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value
    save_file(tensors, path)


def test_import_export_import_is_bit_equal(unclip, source, tmp_path):
    first, out, second = (tmp_path / name for name in ("first", "out", "second"))
    code, printed, _ = unclip("import", source, "--out", first, "--json")
    assert code == 0
    stages = ["clip", "prior_diffusion", "decoder", "super_res_first", "super_res_last"]
    assert json.loads(printed)["stages"] == stages
    code, printed, _ = unclip("export", first, "--format", "diffusers", "--out", out, "--json")
    assert code == 0
    assert "model_index.json" in json.loads(printed)["parts"]
    assert unclip("import", out, "--out", second)[0] == 0
    for name in stages:
        assert (first / f"{name}.safetensors").read_bytes() == (
            second / f"{name}.safetensors"
        ).read_bytes()
    for path in source.rglob("*.safetensors"):
        expected, found = load_file(path), load_file(out / path.relative_to(source))
        assert expected.keys() == found.keys()
        for key, value in expected.items():
            np.testing.assert_array_equal(found[key], value)
        with safe_open(out / path.relative_to(source), "np") as file:
            assert file.metadata() == {"format": "pt"}  # transformers asks for it


def test_changed_settings_reach_the_exported_scheduler(unclip, source, tmp_path):
    first, out = tmp_path / "first", tmp_path / "out"
    assert unclip("import", source, "--out", first)[0] == 0
    change = ("--set", "prior_diffusion.clip=2.5")  # the former name of x0_bound
    with pytest.warns(RenamedWarning, match="clip is now called .*x0_bound"):
        assert unclip("export", first, "--format", "diffusers", "--out", out, *change)[0] == 0
    ranges = [
        json.loads((folder / "prior_scheduler" / "scheduler_config.json").read_text())
        for folder in (source, out)
    ]
    assert ranges[0]["clip_sample_range"] != ranges[1]["clip_sample_range"] == 2.5


def test_options(unclip, source, tmp_path):
    options = ("--dtype", "float32", "--name", "mine", "--license", "x", "--clamp", "10")
    assert unclip("import", source, "--out", tmp_path / "b", *options)[0] == 0
    made = bundle.load(tmp_path / "b", params_dtype=None)
    assert (made.name, made.license) == ("mine", "x")
    assert made.stage("prior_diffusion").spec.sampling.x0_bound == 10.0
    assert {str(x.dtype) for x in flatten_paths(made.stages["clip"].params).values()} == {"float32"}


def test_without_image_tower_or_prior(unclip, source, tmp_path):
    (source / "image_encoder").rename(tmp_path / "image_encoder")
    assert unclip("import", source, "--out", tmp_path / "text")[0] == 0
    made = bundle.load(tmp_path / "text")
    assert made.stage("clip").spec.model.vision is None
    (tmp_path / "image_encoder").rename(source / "image_encoder")
    (source / "prior").rename(tmp_path / "prior")
    assert unclip("import", source, "--out", tmp_path / "variations")[0] == 0
    made = bundle.load(tmp_path / "variations")
    assert (made.sampling.prior, "prior_diffusion" in made.stages) == ("none", False)


def test_nothing_recognised(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "has an unknown format" in refused("import", tmp_path / "empty", "--out", tmp_path / "b")
    assert "does not exist" in refused("import", tmp_path / "no", "--out", tmp_path / "b")


def import_refused(unclip, source, tmp_path):
    message = refused_after_talk(unclip, source, tmp_path)
    assert not (tmp_path / "b").exists()
    return message


def refused_after_talk(unclip, source, tmp_path):
    """Progress may stand before the one line of the error."""
    code, out, err = unclip("import", source, "--out", tmp_path / "b")
    assert (code, out) == (2, "")
    *talk, last = err.splitlines()
    assert last.startswith("unclip: error: ")
    assert not any("error" in line for line in talk)
    return last


def test_all_unknown_keys_are_listed(unclip, source, tmp_path):
    extra = np.zeros(2, np.float16)
    change(source / PRIOR, stray__weight=extra, another=extra)
    assert "unknown keys for prior_diffusion: 2: another, stray.weight" in import_refused(
        unclip, source, tmp_path
    )


def test_position_ids_are_the_only_key_that_is_ignored(unclip, source, tmp_path):
    path = source / "text_encoder" / "model.safetensors"
    change(path, text_model__embeddings__position_ids=np.arange(9)[None])
    assert unclip("import", source, "--out", tmp_path / "ok")[0] == 0


def test_all_missing_keys_are_listed(unclip, source, tmp_path):
    change(source / PRIOR, clip_mean=None, proj_in__bias=None)
    assert "missing keys for prior_diffusion: 2: clip_mean, proj_in.bias" in import_refused(
        unclip, source, tmp_path
    )


def test_wrong_shape(unclip, source, tmp_path):
    change(source / PRIOR, clip_mean=np.zeros((1, 3), np.float16))
    assert "clip_mean is (1, 3), not (1, 16)" in import_refused(unclip, source, tmp_path)


def test_truncated_file(unclip, source, tmp_path):
    data = (source / PRIOR).read_bytes()
    (source / PRIOR).write_bytes(data[: len(data) // 2])
    assert "not a readable safetensors file" in import_refused(unclip, source, tmp_path)


def test_unsupported_architecture(unclip, source, tmp_path):
    path = source / "prior" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"added_emb_type": None}))
    assert "prior: added_emb_type=None is not supported" in import_refused(unclip, source, tmp_path)


def test_shards(unclip, source, tmp_path):
    path = source / PRIOR
    tensors = load_file(path)
    names = sorted(tensors)
    place = {}
    for i, part in enumerate((names[::2], names[1::2])):
        shard = f"diffusion_pytorch_model-0000{i + 1}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, path.with_name(shard))
        place |= dict.fromkeys(part, shard)
    path.unlink()
    index = path.with_name(path.name + ".index.json")
    index.write_text(json.dumps({"metadata": {}, "weight_map": place}))
    assert unclip("import", source, "--out", tmp_path / "ok")[0] == 0
    path.with_name(shard).unlink()
    assert f"{shard} is missing" in import_refused(unclip, source, tmp_path)


def test_pickles_are_read_without_torch(unclip, source, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    path = source / PRIOR
    assert unclip("import", source, "--out", tmp_path / "before", "--name", "x")[0] == 0
    save_zip(path.with_suffix(".bin"), load_file(path))
    path.unlink()
    assert unclip("import", source, "--out", tmp_path / "after", "--name", "x")[0] == 0
    files = [tmp_path / name / "prior_diffusion.safetensors" for name in ("before", "after")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_shard_outside_the_folder_is_refused(unclip, source, tmp_path):
    path = source / PRIOR
    shutil.copy(path, tmp_path / "elsewhere.safetensors")
    place = dict.fromkeys(load_file(path), "../../elsewhere.safetensors")
    path.unlink()
    index = path.with_name(path.name + ".index.json")
    for value in (place, {"key": 1}, {"key": ["x"]}, {"key": "\x00.bin"}, [], 3):
        index.write_text(json.dumps({"weight_map": value}))
        assert "its weight_map does not map keys to files next to it" in import_refused(
            unclip, source, tmp_path
        )


def test_export_refuses_another_architecture(unclip, toy_folder, tmp_path):
    code, out, err = unclip(
        "export", toy_folder, "--format", "diffusers", "--out", tmp_path / "out"
    )
    assert (code, out) == (2, "")
    assert "has neither Karlo's architecture nor a CLIP alone" in err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
