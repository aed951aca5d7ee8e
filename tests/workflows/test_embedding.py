"""The store of embeddings: what it holds, going on after a stop, shards by process, its PCA."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import unclip_jax
from tests.toy import CONTEXT
from unclip_jax.checkpoint.pca_file import load_pca
from unclip_jax.cli.embed import embed
from unclip_jax.core.errors import UserError
from unclip_jax.data import embeddings
from unclip_jax.data.embeddings import Record, pack, unpack
from unclip_jax.data.images import to_square
from unclip_jax.data.sources import load_source
from unclip_jax.text.context import fit_context
from unclip_jax.workflows import embedding as store

DATA, COUNT = "shapes:size=16,count=10", 10


@pytest.fixture(scope="module")
def source():
    return load_source(DATA)


@pytest.fixture(scope="module")
def meta(toy, source):
    return store.store_meta(toy, source, {"name": DATA}, 4)


@pytest.fixture(scope="module")
def filled(toy, source, meta, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store") / "s"
    assert store.fill_store(toy, source, folder, meta) == 3
    return folder


def all_records(folder, meta):
    return [r for shard in range(meta.shards) for r in embeddings.read_shard(folder, shard, meta)]


def test_records_are_the_pictures_and_captions_of_the_source(toy, source, meta, filled):
    records = all_records(filled, meta)
    infos = [source.info(i) for i in range(COUNT)]
    expected = [(f"{e['key']}#{j}", c) for e in infos for j, c in enumerate(e["captions"])]
    assert [r.key for r in records] == [key for key, _ in expected]
    images = np.stack([to_square(source[i]["image"], 16, crop="center") for i in range(COUNT)])
    z = unclip_jax.embed_image(toy, images)
    firsts = np.stack([r.image_emb for r in records if r.key.endswith("#0")])
    np.testing.assert_allclose(firsts, z, atol=1e-5)
    text = unclip_jax.embed_text(toy, [expected[-1][1]])
    np.testing.assert_allclose(records[-1].text_emb, text.text_emb[0], atol=1e-5)
    whole = toy.tokenizer.encode([expected[-1][1]], meta.context)
    np.testing.assert_array_equal(records[-1].tokens, whole.tokens[0])


class Long:
    """One image whose caption is longer than the CLIP's context."""

    caption = "a red heart on a green apple in a blue car under the sun by a dog face"

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return {"image": np.zeros((16, 16, 3), np.uint8), **self.info(index)}

    def info(self, index):
        names = {"concept": "", "style": "", "category": "", "key": "k"}
        return {"captions": (self.caption,), **names}


def test_a_store_keeps_of_a_caption_what_sampling_gives_a_prior(toy, tmp_path):
    """A prior's own context is longer than the CLIP's: 256 tokens in the paper, of 77."""
    meta = store.store_meta(toy, Long(), {"name": "long"}, 4)
    store.fill_store(toy, Long(), tmp_path / "s", meta)
    (record,) = embeddings.read_shard(tmp_path / "s", 0, meta)
    for context in (CONTEXT, 2 * CONTEXT, 8 * CONTEXT):  # the CLIP's, and two of priors
        at_sampling = toy.tokenizer.encode([Long.caption], context).tokens
        tokens = fit_context(record.tokens[None], context)
        np.testing.assert_array_equal(tokens, at_sampling)
    text = unclip_jax.embed_text(toy, [Long.caption])
    np.testing.assert_allclose(record.text_emb, text.text_emb[0], atol=1e-5)


def test_processes_write_the_same_shards_and_a_stopped_one_goes_on(
    toy, source, meta, filled, tmp_path
):
    assert store.fill_store(toy, source, tmp_path / "s", meta, process=(1, 2)) == 1
    with pytest.raises(UserError, match="00000-of-00003.* is missing"):
        store.fit_store_pca(tmp_path / "s")
    assert store.fill_store(toy, source, tmp_path / "s", meta, process=(0, 2)) == 2
    (tmp_path / "s" / "embeddings-00001-of-00003.array_record").unlink()
    assert store.fill_store(toy, source, tmp_path / "s", meta) == 1
    assert store.fill_store(toy, source, tmp_path / "s", meta) == 0
    for ours, theirs in zip(
        all_records(tmp_path / "s", meta), all_records(filled, meta), strict=True
    ):
        assert ours.key == theirs.key
        np.testing.assert_array_equal(ours.image_emb, theirs.image_emb)


def test_an_interrupted_shard_is_not_there(meta, tmp_path):
    embeddings.begin_store(tmp_path / "s", meta)

    def broken():
        yield Record("a#0", np.zeros(16, np.float32), np.zeros(16, np.float32), np.zeros(12, "i4"))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embeddings.write_shard(tmp_path / "s", 0, meta, broken())
    assert embeddings.begin_store(tmp_path / "s", meta) == [0, 1, 2]


def test_another_clip_or_other_data_is_one_line(meta, filled):
    assert embeddings.read_meta(filled, {meta.clip}) == meta
    with pytest.raises(UserError, match="embeddings of another CLIP"):
        embeddings.read_meta(filled, {"0" * 64})
    for changes in ({"clip": "0" * 64}, {"examples": 9}):
        with pytest.raises(UserError, match=f"a store with other {next(iter(changes))}"):
            embeddings.begin_store(filled, type(meta)(**{**vars(meta), **changes}))


def test_a_record_survives_its_bytes():
    rng = np.random.default_rng(0)
    record = Record("größe#1", *rng.normal(size=(2, 3)).astype("f4"), np.arange(4, dtype="i4"))
    again = unpack(pack(record), 3, 4)
    assert again.key == record.key
    for name in ("image_emb", "text_emb", "tokens"):
        np.testing.assert_array_equal(getattr(again, name), getattr(record, name))
    with pytest.raises(UserError, match="not one of width=2"):
        unpack(pack(record), 2, 4)


def test_the_pca_counts_every_picture_once(meta, filled):
    pca = store.fit_store_pca(filled)
    z = np.stack([r.image_emb for r in all_records(filled, meta) if r.key.endswith("#0")])
    unit = z / np.linalg.norm(z.astype(np.float64), axis=1, keepdims=True)
    assert len(z) == COUNT and pca.clip == meta.clip
    np.testing.assert_allclose(pca.mean, unit.mean(0), atol=1e-6)
    values = np.linalg.eigvalsh(np.cov(unit.T, bias=True))[::-1]
    np.testing.assert_allclose(pca.eigenvalues, values, atol=1e-6)
    np.testing.assert_array_equal(load_pca(filled / "pca.safetensors").components, pca.components)


def test_command(toy, tmp_path):
    unclip_jax.save(toy, tmp_path / "toy")
    args = ["--bundle", str(tmp_path / "toy"), "--data", DATA, "--out", str(tmp_path / "s")]
    run = CliRunner().invoke(embed, [*args, "--shard-size", "8", "--fit-pca", "--json"])
    assert run.exit_code == 0, run.output
    result = json.loads(run.stdout)
    assert (result["examples"], result["shards"], result["written"]) == (COUNT, 2, 2)
    assert 1 <= result["components_99"] <= COUNT
    again = CliRunner().invoke(embed, [*args, "--shard-size", "8"])
    assert again.output.strip().endswith("0 of 2 shards written")
