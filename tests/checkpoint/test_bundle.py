"""A bundle comes back as it went out, and every damage is one line that names the thing."""

import dataclasses
import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.checkpoint.damage import fails, restate, rewrite
from unclip_jax.checkpoint import bundle, tensors
from unclip_jax.convert.torch_files import open_tensors
from unclip_jax.core.errors import UserError
from unclip_jax.core.trees import flatten_paths, unflatten_paths
from unclip_jax.text.tokenizer import Tokenizer, build_vocab

CASTS = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32}


@pytest.mark.parametrize("dtype", CASTS)
def test_parameters_come_back_as_the_stated_dtype_holds_them(toy, tmp_path, dtype):
    bundle.save(toy, tmp_path / "out", dtype=dtype)
    loaded = bundle.load(tmp_path / "out", stages=["decoder"])
    assert loaded.stage("decoder").dtype == dtype
    back = flatten_paths(loaded.stage("decoder").params)
    for key, value in flatten_paths(toy.stage("decoder").params).items():
        assert back[key].dtype == np.float32
        np.testing.assert_array_equal(back[key], value.astype(CASTS[dtype]).astype(np.float32))
    raw = bundle.load(tmp_path / "out", stages=["decoder"], params_dtype=None)
    assert {leaf.dtype for leaf in flatten_paths(raw.stage("decoder").params).values()} == {
        np.dtype(CASTS[dtype])
    }


def test_everything_else_comes_back(toy, saved):
    loaded = bundle.load(saved)
    assert {n: s.spec for n, s in loaded.stages.items()} == {
        n: s.spec for n, s in toy.stages.items()
    }
    assert (loaded.cascade, loaded.sampling) == (toy.cascade, toy.sampling)
    assert (loaded.name, loaded.license) == (toy.name, toy.license)
    assert loaded.provenance == toy.provenance
    name = "prior_diffusion.variance_table"
    np.testing.assert_array_equal(loaded.arrays[name], toy.arrays[name])
    texts = ["a red heart", "zebra 7"]
    np.testing.assert_array_equal(
        loaded.tokenizer.encode(texts).tokens, toy.tokenizer.encode(texts).tokens
    )


def test_every_file_is_as_readable_as_its_neighbours(saved):
    """safetensors makes files that only their owner reads; a wheel would carry that along."""
    assert len({path.stat().st_mode for path in saved.iterdir()}) == 1


def test_a_changed_byte_is_found(copy):
    path = copy / "decoder.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    fails(copy, "decoder.safetensors", "sha256")
    bundle.load(copy, stages=["clip"])  # the stages asked for are whole


def test_a_truncated_file_is_found(copy):
    path = copy / "decoder.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    fails(copy, "decoder.safetensors", "truncated")
    restate(copy, path.name)  # even if bundle.json were written for it
    fails(copy, "decoder.safetensors", "truncated")


def test_a_missing_file_is_named(copy):
    (copy / "tokenizer.json").unlink()
    fails(copy, "tokenizer.json", "missing")


def test_keys_and_shapes_are_checked(copy):
    key = "unet/conv_in/kernel"
    rewrite(copy, lambda arrays: arrays.update({"unet/extra": np.zeros(3, np.float16)}))
    fails(copy, "unknown key unet/extra")
    rewrite(copy, lambda arrays: (arrays.pop("unet/extra"), arrays.update({key: arrays[key][1:]})))
    fails(copy, key, "shape")
    rewrite(copy, lambda arrays: arrays.pop(key))
    fails(copy, f"missing key {key}")


def test_unknown_models_and_stages(saved, tmp_path):
    fails("no-such-model", "no-such-model", "shipped")
    fails(tmp_path, "no bundle.json")
    fails(saved, "prior_ar", "decoder", stages=["prior_ar"])


def test_saving_refuses_what_exists_and_replaces_when_told(toy, tmp_path):
    out = tmp_path / "out"
    bundle.save(toy, out)
    (out / "note.txt").write_text("mine")
    with pytest.raises(UserError, match="--overwrite"):
        bundle.save(toy, out)
    assert (out / "note.txt").exists()
    bundle.save(toy, out, overwrite=True)
    assert not (out / "note.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_of_other_things_is_never_replaced(toy, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="refusing to replace it"):
        bundle.save(toy, tmp_path, overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_a_failed_save_leaves_nothing(toy, tmp_path):
    huge = {"unet": {"kernel": np.full(3, 1e6, np.float32)}}
    held = bundle.Stage(toy.stage("decoder").spec, huge)
    broken = bundle.Bundle(name="broken", stages={"decoder": held})
    with pytest.raises(UserError, match="unet/kernel does not fit in float16"):
        bundle.save(broken, tmp_path / "new" / "out", dtype="float16")
    assert list(tmp_path.iterdir()) == []


def test_large_files_are_hashed_once(copy, monkeypatch, tmp_path):
    monkeypatch.setattr(tensors, "REHASH_LIMIT", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    hashed = []
    real = tensors.sha256
    monkeypatch.setattr(tensors, "sha256", lambda path: hashed.append(path.name) or real(path))
    bundle.load(copy, stages=["clip"])
    assert "clip.safetensors" in hashed
    hashed.clear()
    bundle.load(copy, stages=["clip"])
    assert hashed == []
    bundle.load(copy, stages=["clip"], verify=True)
    assert {"clip.safetensors", "decoder.safetensors"} <= set(hashed)
    hashed.clear()
    (copy / "clip.safetensors").touch()  # another mtime
    bundle.load(copy, stages=["clip"])
    assert hashed == ["clip.safetensors"]


@pytest.mark.parametrize("trouble", ["no folder", "full", "damaged"])
def test_a_large_file_is_read_without_a_record_of_hashes_too(tmp_path, monkeypatch, trouble):
    path, cache = tmp_path / "a", tmp_path / "cache"
    path.write_bytes(b"abc")
    sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    monkeypatch.setattr(tensors, "REHASH_LIMIT", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    record = cache / "unclip_jax" / "hashes.json"
    if trouble == "no folder":
        cache.write_text("a file")
    elif trouble == "full":
        record.mkdir(parents=True)  # the last step, its rename, fails
    else:
        record.parent.mkdir(parents=True)
        stamp = [3, path.stat().st_mtime_ns]
        record.write_text(json.dumps({str(path): {"stamp": stamp, "sha256": 5}}))
    tensors.check_file(path, tensors.FileRecord(sha256, 3))
    with pytest.raises(UserError, match="was modified"):
        tensors.check_file(path, tensors.FileRecord("0" * 64, 3), force=True)
    if trouble == "damaged":
        assert json.loads(record.read_text())[str(path)] == {"stamp": stamp, "sha256": sha256}
    else:
        assert [p for p in cache.rglob("*") if p.is_file()] == []


def test_identity_is_that_of_configs_parameters_and_vocabulary(saved, copy):
    model = bundle.load(saved, stages=["decoder"])
    same = bundle.load(copy, stages=["decoder"], params_dtype=None)
    assert model.identity == same.identity
    stated = json.loads((saved / "bundle.json").read_text())["files"]["decoder.safetensors"]
    assert model.stage("decoder").params_digest == stated["sha256"]
    rewrite(copy, lambda arrays: arrays["unet/conv_in/bias"].__setitem__(0, 0.5))
    assert bundle.load(copy, stages=["decoder"]).identity != model.identity
    stage = model.stage("decoder")
    spec = dataclasses.replace(
        stage.spec, sampling=dataclasses.replace(stage.spec.sampling, steps=9)
    )
    changed = dataclasses.replace(stage, spec=spec)
    assert dataclasses.replace(model, stages={"decoder": changed}).identity != model.identity


def test_identity_is_that_of_tables_and_vocabulary_too(toy):
    words = toy.tokenizer
    merges = [*words.merges[:-2], *words.merges[:-3:-1]]  # the last two the other way round
    other = Tokenizer(words.vocab, merges, words.context)
    tables = {name: array * 2 for name, array in toy.arrays.items()}
    changed = [{"tokenizer": other}, {"arrays": tables}, {"arrays": {}}, {"tokenizer": None}]
    models = [toy, *(dataclasses.replace(toy, **change) for change in changed)]
    assert len({model.identity for model in models}) == len(models)
    assert dataclasses.replace(toy, name="other", metrics={"a": 1}).identity == toy.identity


def test_changed_parameters_in_memory_are_another_identity(toy):
    stage = toy.stage("clip")
    digest = stage.params_digest
    flat = flatten_paths(stage.params)
    flat["logit_scale"] = flat["logit_scale"] + 1
    assert dataclasses.replace(stage, params=unflatten_paths(flat)).params_digest != digest
    assert dataclasses.replace(stage, dtype="float16").params_digest == digest


@pytest.mark.parametrize("kind", [np.int8, np.bool_, np.complex64, np.float32])
def test_parameters_of_another_type_than_stated_are_refused(copy, kind):
    key = "unet/conv_in/bias"
    rewrite(copy, lambda arrays: arrays.update({key: arrays[key].astype(kind)}))
    fails(copy, "decoder.safetensors", key, "stored as", stages=["decoder"])


def float8(path, keys):
    """Rewrites the header of a file of float16: half as many columns of two bytes as F8_E4M3."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    for key in keys or list(header):
        entry = header[key]
        length = (entry["data_offsets"][1] - entry["data_offsets"][0]) // int(
            np.prod(entry["shape"])
        )
        entry.update(dtype="F8_E4M3", shape=[*entry["shape"], length])
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])


def test_eight_bit_floats_are_refused_by_name(copy, tmp_path):
    float8(copy / "arrays.safetensors", None)
    restate(copy, "arrays.safetensors")
    fails(copy, "arrays.safetensors", "variance_table", "F8_E4M3", stages=["prior_diffusion"])
    path = tmp_path / "x.safetensors"
    save_file({"a": np.zeros(3, np.float16)}, path)
    float8(path, ["a"])
    for read in (lambda: tensors.read_tree(path, None), lambda: open_tensors(path)["a"]):
        with pytest.raises(UserError, match="x.safetensors: a is stored as F8_E4M3"):
            read()


def test_a_vocabulary_of_another_size_than_the_embedding_is_refused(copy, toy):
    words = toy.tokenizer
    merges = [*words.merges, ("zq"[0], "q")]
    Tokenizer(build_vocab(merges), merges, words.context).save(copy / "tokenizer.json")
    restate(copy, "tokenizer.json")
    fails(copy, "tokenizer.json", str(words.vocab_size + 1), "CLIP", stages=["clip"])


@pytest.mark.parametrize(
    "table", [np.linspace(0, 1, 7), np.zeros(1000, np.complex64), np.full(1000, np.nan)]
)
def test_a_variance_table_that_does_not_fit_is_refused(copy, table):
    change = {"prior_diffusion.variance_table": table}
    rewrite(copy, lambda arrays: arrays.update(change), "arrays.safetensors")
    fails(copy, "prior_diffusion.variance_table", stages=["prior_diffusion"])


def test_the_shipped_bundle_passes_its_limits():
    assert bundle.load("emoji").stage("decoder").spec.stage == "decoder"
