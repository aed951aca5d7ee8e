"""The PCA's file comes back as it went out, alone and in a bundle; others are refused in a line."""

import dataclasses

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.toy import toy_bundle
from unclip_jax.checkpoint import bundle
from unclip_jax.checkpoint.pca_file import PCA_FILE, load_pca, save_pca
from unclip_jax.checkpoint.runs import params_digest
from unclip_jax.core.errors import UserError
from unclip_jax.models.pca import Pca, fit_pca, unit_moments


@pytest.fixture(scope="module")
def toy():
    return toy_bundle()


@pytest.fixture(scope="module")
def pca(toy):
    z = np.random.default_rng(0).normal(size=(40, 16))
    return fit_pca(unit_moments(z), params_digest(toy.stage("clip").params))


def same(a: Pca, b: Pca) -> bool:
    keys = ("mean", "components", "eigenvalues")
    return a.clip == b.clip and all(np.array_equal(getattr(a, k), getattr(b, k)) for k in keys)


def test_file_round_trip(pca, tmp_path):
    save_pca(tmp_path / PCA_FILE, pca)
    assert same(load_pca(tmp_path / PCA_FILE), pca)
    assert [p.name for p in tmp_path.iterdir()] == [PCA_FILE]


def test_bundle_round_trip_and_hash(toy, pca, tmp_path):
    folder = bundle.save(dataclasses.replace(toy, pca=pca), tmp_path / "toy", dtype="float16")
    loaded = bundle.load(folder)
    assert same(loaded.pca, pca)
    assert bundle.require_pca(loaded) is loaded.pca
    with open(folder / PCA_FILE, "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    with pytest.raises(UserError, match="sha256"):
        bundle.load(folder)


def test_a_bundle_without_says_so_in_one_line(toy):
    with pytest.raises(UserError, match="bundle 'toy' has no PCA; .*--fit-pca") as caught:
        bundle.require_pca(toy)
    assert "\n" not in str(caught.value)


def test_a_file_of_another_clip_is_refused(toy, pca, tmp_path):
    save_pca(tmp_path / "mine", pca)
    assert same(bundle.require_pca(toy, tmp_path / "mine"), pca)
    save_pca(tmp_path / "other", pca.replace(clip="0" * 64))
    with pytest.raises(UserError, match="another CLIP"):
        bundle.require_pca(toy, tmp_path / "other")


def test_a_clip_is_also_known_as_it_was_trained(toy, pca):
    provenance = {"stages": {"clip": {"params_sha256": "f" * 64}}}
    made = dataclasses.replace(toy, provenance=provenance)
    assert bundle.clip_digests(made) == {pca.clip, "f" * 64}


@pytest.mark.parametrize(
    ("arrays", "about", "words"),
    [
        ({"mean": np.zeros(3)}, {"space": "unit"}, "has mean; a PCA has"),
        (
            {"mean": np.zeros(2), "components": np.eye(3), "eigenvalues": np.ones(3)},
            {"space": "unit"},
            "do not match",
        ),
        (
            {"mean": np.zeros(3), "components": np.eye(3), "eigenvalues": np.ones(3)},
            {"space": "raw"},
            "space 'raw'",
        ),
    ],
)
def test_damage_is_named(arrays, about, words, tmp_path):
    save_file(arrays, tmp_path / PCA_FILE, about)
    with pytest.raises(UserError, match=words):
        load_pca(tmp_path / PCA_FILE)


def test_no_file_and_no_safetensors(tmp_path):
    with pytest.raises(UserError, match="does not exist; make one with: unclip embed --fit-pca"):
        load_pca(tmp_path / PCA_FILE)
    (tmp_path / PCA_FILE).write_bytes(b"not one")
    with pytest.raises(UserError, match="not a readable"):
        load_pca(tmp_path / PCA_FILE)
