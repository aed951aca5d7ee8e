"""`unclip embed` by two processes: one's store, one PCA over all of it, one line said."""

import json

import numpy as np
import pytest

from tests.hosts import Job
from unclip_jax.checkpoint.pca_file import load_pca
from unclip_jax.core.locks import locked
from unclip_jax.data import embeddings


def records(folder):
    meta = embeddings.read_meta(folder)
    return [r for shard in range(meta.shards) for r in embeddings.read_shard(folder, shard, meta)]


@pytest.mark.hosts
def test_two_processes_make_the_store_of_one(toy_folder, tmp_path, unclip):
    one, two = tmp_path / "one", tmp_path / "two"
    args = ["embed", "--bundle", toy_folder, "--data", "shapes:size=16,count=10", "--fit-pca"]
    args += ["--shard-size", 3, "--json", "--out"]
    with Job(tmp_path / "log", [*args, two], processes=2) as job:
        code, shared = job.end()
        assert code == 0, job.told()
    code, printed, _ = unclip(*args, one)
    assert code == 0
    assert json.loads(shared) == json.loads(printed.replace(str(one), str(two)))
    names = sorted(path.name for path in one.iterdir())
    assert sorted(path.name for path in two.iterdir()) == names and len(names) == 4 + 2
    assert (one / "meta.json").read_bytes() == (two / "meta.json").read_bytes()
    for ours, theirs in zip(records(two), records(one), strict=True):
        assert ours.key == theirs.key
        np.testing.assert_array_equal(ours.tokens, theirs.tokens)
        np.testing.assert_allclose(ours.image_emb, theirs.image_emb, atol=1e-5)
        np.testing.assert_allclose(ours.text_emb, theirs.text_emb, atol=1e-5)
    pcas = [load_pca(folder / "pca.safetensors") for folder in (one, two)]
    np.testing.assert_allclose(pcas[0].eigenvalues, pcas[1].eigenvalues, atol=1e-5)


def test_a_store_that_another_process_fills_is_refused(toy_folder, tmp_path, refused):
    args = ("embed", "--bundle", toy_folder, "--data", "shapes:size=16,count=4", "--out", tmp_path)
    with locked(tmp_path, "unclip embed"):
        assert f"{tmp_path} is in use by unclip embed, process" in refused(*args)
