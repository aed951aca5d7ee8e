from typing import NamedTuple

import numpy as np
import pytest

from unclip_jax.core.config import build
from unclip_jax.core.errors import UserError
from unclip_jax.data import pipeline
from unclip_jax.data.pipeline import DataConfig, batch_iterator, make_batches, open_source

SIZE = 13  # examples: no multiple of any batch size below


class Toy:
    """Example i is a picture of brightness 10 i with captions "i a", "i b", ... (i % 3 + 1)."""

    def __init__(self, shape=(8, 8)):
        self.shape, self.reads = shape, 0

    def __len__(self):
        return SIZE

    def __getitem__(self, index):
        self.reads += 1
        return {"image": np.full((*self.shape, 3), 10 * index, np.uint8), **self.info(index)}

    def info(self, index):
        captions = tuple(f"{index} {letter}" for letter in "abc"[: index % 3 + 1])
        return dict(captions=captions, concept=str(index), style="s", category="", key=str(index))


class Block(NamedTuple):
    tokens: np.ndarray
    mask: np.ndarray


class Letters:
    """Tokens: the caption's number, then its letter."""

    def encode(self, texts):
        rows = [(int(n), ord(letter), 0) for n, letter in (t.split() for t in texts)]
        tokens = np.asarray(rows, np.int32).reshape(-1, 3)
        return Block(tokens, tokens > 0)


def batches(cfg=None, source=None, batch_size=4, seed=1, **options):
    cfg = cfg or DataConfig(image_size=8)
    source = Toy() if source is None else source
    options = {"tokenizer": Letters(), **options}
    return make_batches(source, cfg, batch_size=batch_size, seed=seed, **options)


def same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])
        assert one[name].dtype == other[name].dtype


def examples_of(batch):
    return batch["tokens"][:, 0]


def test_a_batch_is_what_the_contract_says():
    batch = batches()[3]
    assert batch["image"].shape == (4, 8, 8, 3)
    assert batch["image"].dtype == np.uint8
    assert batch["tokens"].dtype == np.int32
    assert batch["mask"].dtype == bool
    assert batch["index"].tolist() == [12, 13, 14, 15]
    np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], 10 * examples_of(batch))


def test_batch_k_is_a_function_of_seed_and_k():
    one, other = batches(), batches()
    for k in (5, 0, 100_000, 5):
        same(one[k], other[k])
    assert not np.array_equal(batches(seed=2)[0]["tokens"], one[0]["tokens"])


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_see_slices_of_the_same_batches(processes):
    cfg = DataConfig(image_size=8, zoom=0.2, shift=0.1)
    parts = [batches(cfg, rows=rows)[7] for rows in np.split(np.arange(4), processes)]
    joined = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
    same(joined, batches(cfg)[7])


def test_an_epoch_shows_each_example_once_and_each_epoch_differs():
    stream = np.concatenate([examples_of(batches()[k]) for k in range(10)])
    first, second = stream[:SIZE], stream[SIZE : 2 * SIZE]
    assert sorted(first) == sorted(second) == list(range(SIZE))
    assert first.tolist() != second.tolist()


def test_without_shuffling_the_order_is_the_sources():
    data = batches(DataConfig(image_size=8, shuffle=False))
    stream = np.concatenate([examples_of(data[k]) for k in range(4)])
    np.testing.assert_array_equal(stream, np.arange(16) % SIZE)


def test_captions_are_drawn_evenly_from_an_examples_own():
    data = batches(batch_size=16)
    rows = np.concatenate([data[k]["tokens"] for k in range(50)])
    letters = rows[rows[:, 0] == 5, 1]  # example 5 has three captions
    counts = np.asarray([(letters == ord(c)).sum() for c in "abc"])
    assert counts.sum() == len(letters)
    # About 61 draws: a third each, standard deviation 3.7.
    assert np.abs(counts - len(letters) / 3).max() < 15
    first = batches(DataConfig(image_size=8, captions="first"))[0]["tokens"][:, 1]
    assert set(first) == {ord("a")}


class Counted(Toy):
    """Counts what is asked of it beside whole examples."""

    infos = 0

    def __getitem__(self, index):
        self.reads += 1
        return {"image": np.full((8, 8, 3), 10 * index, np.uint8), **super().info(index)}

    def info(self, index):
        self.infos += 1
        return super().info(index)


def test_nothing_is_read_at_the_start_and_each_record_once_when_it_is_shown():
    source = Counted()
    data = batches(DataConfig(image_size=8, cache_bytes=0), source=source)
    assert (source.reads, source.infos) == (0, 0)
    for k in range(3):
        data[k]
    assert (source.reads, source.infos) == (12, 0)


def test_captions_beyond_those_that_are_kept_are_tokenized_to_the_same(monkeypatch):
    before = batches()[2]
    monkeypatch.setattr(pipeline, "_TOKEN_CACHE", 0)
    same(batches()[2], before)


def test_the_cache_changes_nothing_but_the_reads():
    source, uncached = Toy(), Toy()
    data = batches(source=source)
    plain = batches(DataConfig(image_size=8, cache_bytes=0), source=uncached)
    for k in range(20):
        same(data[k], plain[k])
    assert source.reads == SIZE
    assert uncached.reads == 80


def test_random_crops_differ_and_are_not_cached():
    class Wide(Toy):
        def __getitem__(self, index):
            example = super().__getitem__(index)
            example["image"] = np.tile(np.arange(64, dtype=np.uint8)[None, :, None], (8, 1, 3))
            return example

    data = batches(DataConfig(image_size=8, crop="random"), source=Wide())
    lefts = np.concatenate([data[k]["image"][:, 0, 0, 0] for k in range(20)])
    assert lefts.min() < 8
    assert lefts.max() > 48
    assert lefts.max() <= 56


class Dot(Toy):
    """A black square of half the side in the middle of white."""

    def __getitem__(self, index):
        example = super().__getitem__(index)
        example["image"] = np.full((64, 64, 3), 255, np.uint8)
        example["image"][16:48, 16:48] = 0
        return example


def test_zoom_scales_about_the_center_on_white():
    data = batches(DataConfig(image_size=32, zoom=0.3), source=Dot(), batch_size=64)
    ink = (255.0 - data[0]["image"][..., 0]) / 255
    sides = np.sqrt(ink.sum((1, 2)))
    assert 16 * 0.7 < sides.min() < 16 * 0.8  # 64 uniform draws between 0.7 and 1.3
    assert 16 * 1.2 < sides.max() < 16 * 1.3
    grid = np.arange(32) + 0.5
    centers = (ink.sum(1) * grid).sum(1) / ink.sum((1, 2))
    np.testing.assert_allclose(centers, 16, atol=0.05)
    assert (data[0]["image"][:, 0] == 255).all()


def test_shift_moves_without_scaling():
    data = batches(DataConfig(image_size=32, shift=0.2), source=Dot(), batch_size=64)
    ink = (255.0 - data[0]["image"][..., 0]) / 255
    np.testing.assert_allclose(np.sqrt(ink.sum((1, 2))), 16, atol=0.1)
    grid = np.arange(32) + 0.5
    moves = np.stack([(ink.sum(axis) * grid).sum(1) / ink.sum((1, 2)) - 16 for axis in (1, 2)])
    assert np.abs(moves).max() <= 32 * 0.2 + 0.1
    assert (moves.max(1) > 4).all()
    assert (moves.min(1) < -4).all()


def test_a_restored_iterator_goes_on_after_the_last_consumed_batch():
    cfg = DataConfig(image_size=8, threads=2, prefetch=4)

    def iterator():
        return batch_iterator(batches(cfg, seed=3), cfg)

    first = iterator()
    for _ in range(3):
        next(first)
    state = first.get_state()
    expected = [next(first) for _ in range(3)]
    second = iterator()
    second.set_state(state)
    for one, other in zip(expected, [next(second) for _ in range(3)], strict=True):
        same(one, other)
    same(expected[0], batches(cfg, seed=3)[3])
    for it in (first, second):
        it.close()


def test_errors_name_what_is_wrong():
    class Empty(Toy):
        def __len__(self):
            return 0

    with pytest.raises(UserError, match="is empty"):
        batches(source=Empty())

    class Silent(Toy):
        def info(self, index):
            return {**super().info(index), "captions": ()}

    with pytest.raises(UserError, match=r"example \d+ has no caption"):
        batches(source=Silent())[0]
    with pytest.raises(UserError, match="captions: expected one of random, first, got 'last'"):
        build(DataConfig, {"captions": "last"})
    with pytest.raises(ValueError, match="zoom=1.5"):
        DataConfig(zoom=1.5)


def test_config_opens_its_source():
    cfg = DataConfig(name="shapes:size=16,count=40", concepts="red square", image_size=16)
    source = open_source(cfg)
    assert {source.info(i)["concept"] for i in range(len(source))} == {"red square"}


class Ramp(Toy):
    """Every pixel tells where it is: red its row, green its column."""

    def __getitem__(self, index):
        rows, columns = np.mgrid[: self.shape[0], : self.shape[1]].astype(np.uint8)
        picture = np.stack([rows, columns, np.full_like(rows, index)], axis=-1)
        return {"image": picture, **self.info(index)}


WINDOWED = DataConfig(image_size=64, window=16, degrade="bsr_light")


def test_windows_are_squares_of_the_image_at_all_places():
    source, corners = Ramp((64, 64)), []
    for k in range(40):
        batch = batches(WINDOWED, source)[k]
        assert batch["image"].shape == (4, 16, 16, 3)
        assert batch["low_res"].shape == (4, 4, 4, 3) and batch["low_res"].dtype == np.uint8
        for window, example in zip(batch["image"], batch["example"], strict=True):
            top, left = window[0, 0, :2]
            np.testing.assert_array_equal(
                window, source[int(example)]["image"][top : top + 16, left : left + 16]
            )
            corners.append((int(top), int(left)))
    assert len(set(corners)) > 100
    assert {0, 48} <= {top for top, _ in corners} | {left for _, left in corners}


def test_windows_are_a_function_of_seed_and_place_for_any_number_of_processes():
    source = Ramp((64, 64))
    whole = batches(WINDOWED, source)[9]
    same(batches(WINDOWED, source)[9], whole)
    parts = [batches(WINDOWED, source, rows=rows)[9] for rows in np.split(np.arange(4), 2)]
    same({k: np.concatenate([part[k] for part in parts]) for k in whole}, whole)
    other = batches(WINDOWED, source, seed=2)[9]
    assert (other["low_res"] != whole["low_res"]).any()


def test_windows_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="window"):
        DataConfig(image_size=64, window=65)
    with pytest.raises(ValueError, match="multiple of 8"):
        DataConfig(image_size=64, window=12, degrade="bsr")


class Slope(Toy):
    """A wide image whose gray level is its column, so that a crop tells its place."""

    def __getitem__(self, index):
        image = np.tile(np.arange(192, dtype=np.uint8)[None, :, None], (64, 1, 3))
        return {"image": image, **self.info(index)}


@pytest.mark.parametrize("how", [{"crop": "random"}, {"crop": "center", "zoom": 0.2, "shift": 0.1}])
@pytest.mark.parametrize("size", [32, 8])
def test_images_for_clip_are_the_same_crops_at_its_size(how, size):
    """Larger and smaller than the stage's: block means of the larger are the smaller."""
    cfg = DataConfig(image_size=16, **how)
    batch = batches(cfg, Slope(), clip_size=size)[3]
    same({k: v for k, v in batch.items() if k != "clip_image"}, batches(cfg, Slope())[3])
    small, large = sorted((batch["image"], batch["clip_image"]), key=lambda x: x.shape[1])
    factor = large.shape[1] // small.shape[1]
    means = large.reshape(4, small.shape[1], factor, small.shape[1], factor, 3).mean((2, 4))
    inside = np.abs(means - small)[:, 2:-2, 2:-2]
    assert inside.max() <= 2
    crops = {tuple(row) for row in batch["clip_image"][:, 4, :, 0]}
    assert len(crops) == 4


def test_a_mixture_shows_its_sets_by_their_weights():
    def stream(cfg, count=60):
        data = batches(cfg, open_source(cfg), **TOKENS)
        return np.concatenate([data[k]["example"] for k in range(count)])

    sets = {"name": "shapes:size=8,count=40", "mix": ("shapes:size=8,count=400",)}
    first = len(open_source(DataConfig(name=sets["name"])))
    even = stream(DataConfig(image_size=8, **sets))
    assert np.mean(even < first) == 0.5
    assert len(set(even[even < first])) == first  # the smaller set has begun again
    counts = np.bincount(even[even < first])
    assert counts.max() - counts.min() <= 1
    thrice = stream(DataConfig(image_size=8, mix_weights=(3.0, 1.0), **sets))
    assert np.mean(thrice < first) == 0.75
    np.testing.assert_array_equal(even, stream(DataConfig(image_size=8, **sets)))


class Lengths:
    """Tokens: how long a caption is."""

    def encode(self, texts):
        tokens = np.asarray([[len(text)] for text in texts], np.int32)
        return Block(tokens, tokens > 0)


TOKENS = {"tokenizer": Lengths()}


def test_weights_of_a_mixture_are_one_for_each_set():
    with pytest.raises(ValueError, match="mix_weights=.* must be 2 numbers"):
        DataConfig(mix=("a",), mix_weights=(1.0,))
    with pytest.raises(ValueError, match="mix_weights=.* must be positive"):
        DataConfig(mix=("a",), mix_weights=(1.0, 0.0))


class Sizes(Toy):
    """Every third image is of 4 x 12 pixels, the others are of 8 x 12."""

    def __getitem__(self, index):
        height = 4 if index % 3 == 0 else 8
        return {"image": np.full((height, 12, 3), 10 * index, np.uint8), **self.info(index)}


@pytest.mark.parametrize("cache_bytes", [0, 2**20])
def test_images_that_would_be_enlarged_are_not_shown(cache_bytes):
    cfg = DataConfig(image_size=8, crop="center", min_side=8, cache_bytes=cache_bytes)
    data = batches(cfg, Sizes())
    shown = np.concatenate([data[k]["example"] for k in range(40)])
    assert set(shown) == {i for i in range(SIZE) if i % 3}
    for k in (5, 0, 5):
        same(data[k], batches(cfg, Sizes())[k])
        np.testing.assert_array_equal(data[k]["image"][:, 0, 0, 0], 10 * data[k]["example"])
    assert pipeline.count_too_small(Sizes(), cfg) == (5, SIZE)
    padded = batches(DataConfig(image_size=8, crop="pad", min_side=12), Sizes())
    assert 0 in np.concatenate([padded[k]["example"] for k in range(10)])


def test_a_set_of_small_images_alone_is_one_line():
    with pytest.raises(UserError, match="config.data.min_side=99"):
        batches(DataConfig(image_size=8, min_side=99), Sizes())[0]


def test_every_batch_draws_anew_and_every_seed_has_its_order():
    """All images are alike, so that two batches differ by their draws alone."""
    data = batches(DataConfig(image_size=32, zoom=0.3), source=Dot())
    assert not np.array_equal(data[0]["image"], data[1]["image"])
    orders = [examples_of(batches(seed=seed, batch_size=SIZE)[0]).tolist() for seed in (1, 2)]
    assert orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1])
