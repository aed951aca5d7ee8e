"""Batches of a store: its records, in an order that depends on seed and epoch alone."""

import dataclasses

import numpy as np
import pytest

from unclip_jax.core.errors import UserError
from unclip_jax.data.embeddings import Record, StoreMeta, begin_store, shard_path, write_shard
from unclip_jax.data.pipeline import DataConfig, batch_iterator
from unclip_jax.data.store_pipeline import StoredExamples, make_store_batches

WIDTH, CONTEXT, BATCH, SEED = 3, 5, 4, 7
CAPTIONS = (2, 1, 3, 1, 2, 1, 1)  # of image 0, 1, …: 11 records in shards of 3, 3 and 1 images
COUNT = sum(CAPTIONS)
META = StoreMeta("c" * 64, {"name": "n"}, WIDTH, CONTEXT, len(CAPTIONS), 3)
CFG = DataConfig()
ORDERED = DataConfig(shuffle=False)


def records_of(image):
    rng = np.random.default_rng(image)
    z = rng.normal(size=WIDTH).astype(np.float32)
    for number in range(CAPTIONS[image]):
        text_emb = rng.normal(size=WIDTH).astype(np.float32)
        tokens = np.asarray([8, image, number, 9, 0], np.int32)
        yield Record(f"{image}#{number}", z, text_emb, tokens)


RECORDS = [record for image in range(len(CAPTIONS)) for record in records_of(image)]


def write_store(folder, meta=META):
    for shard in begin_store(folder, meta):
        write_shard(folder, shard, meta, (r for i in meta.members(shard) for r in records_of(i)))
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return StoredExamples(write_store(tmp_path_factory.mktemp("store") / "s"), META)


def batches(source, cfg=CFG, **options):
    return make_store_batches(source, cfg, **{"batch_size": BATCH, "seed": SEED} | options)


def test_a_batch_holds_the_records_it_names(source):
    assert len(source) == COUNT
    for k in (0, 2, 5):
        batch = batches(source)[k]
        np.testing.assert_array_equal(batch["index"], np.arange(k * BATCH, (k + 1) * BATCH))
        for row, example in enumerate(batch["example"]):
            record = RECORDS[example]
            for name in ("image_emb", "text_emb", "tokens"):
                np.testing.assert_array_equal(batch[name][row], getattr(record, name))
            assert batch["mask"][row].tolist() == [True] * 4 + [False]


def test_an_epoch_shows_every_record_once_in_its_own_order(source):
    shown = np.concatenate([batches(source)[k]["example"] for k in range(2 * COUNT)])
    epochs = shown[: 2 * BATCH * COUNT // COUNT * COUNT].reshape(-1, COUNT)
    assert len(epochs) == 2 * BATCH
    assert (np.sort(epochs) == np.arange(COUNT)).all()
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == len(epochs)
    other = batches(source, seed=SEED + 1)[0]["example"]
    assert other.tolist() != shown[:BATCH].tolist()
    plain = np.concatenate([batches(source, ORDERED)[k]["example"] for k in range(COUNT)])
    np.testing.assert_array_equal(plain, np.tile(np.arange(COUNT), BATCH))


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_see_parts_of_the_same_batches(source, processes):
    for k in (0, 3):
        whole = batches(source)[k]
        parts = [batches(source, rows=rows)[k] for rows in np.split(np.arange(BATCH), processes)]
        for name, value in whole.items():
            np.testing.assert_array_equal(np.concatenate([p[name] for p in parts]), value)


def test_an_iterator_goes_on_where_its_state_was_taken(source):
    def start():
        return batch_iterator(batches(source, text_emb=False), CFG)

    first = start()
    expected = [next(first) for _ in range(6)]
    stopped = start()
    for _ in range(3):
        next(stopped)
    again = start()
    again.set_state(stopped.get_state())
    for batch in expected[3:]:
        found = next(again)
        assert found.keys() == batch.keys() and "text_emb" not in found
        np.testing.assert_array_equal(found["example"], batch["example"])
        np.testing.assert_array_equal(found["image_emb"], batch["image_emb"])


def test_a_missing_shard_and_another_store_are_seen(source, tmp_path):
    folder = write_store(tmp_path / "s")
    assert StoredExamples(folder, META).fingerprint() == source.fingerprint()
    other = dataclasses.replace(META, data={"name": "m"})
    renamed = StoredExamples(write_store(tmp_path / "m", other), other)
    assert renamed.fingerprint() != source.fingerprint()
    held = [record for image in META.members(1) for record in records_of(image)]
    for changes in ({"key": "x#0"}, {"tokens": held[0].tokens + 1}):
        write_shard(folder, 1, META, [dataclasses.replace(held[0], **changes), *held[1:]])
        assert StoredExamples(folder, META).fingerprint() != source.fingerprint()
    write_shard(
        folder, 1, META, [dataclasses.replace(held[0], image_emb=held[0].text_emb), *held[1:]]
    )
    assert StoredExamples(folder, META).fingerprint() == source.fingerprint()
    shard_path(folder, 1, META.shards).unlink()
    with pytest.raises(UserError, match="00001-of-00003.* is missing: run unclip embed again"):
        StoredExamples(folder, META)
