"""The suite of fidelity: its sets, its statistics, chunks that a rerun continues from."""

import dataclasses

import numpy as np
import pytest

from tests.evals.suites import SETTINGS, check_metrics
from unclip_jax.core.errors import UserError
from unclip_jax.evals import comparison, fidelity, image_sets, metrics
from unclip_jax.evals.chunks import Chunks
from unclip_jax.evals.image_sets import ImageSet, RealImages, fill, gather
from unclip_jax.evals.metrics import GROUPS
from unclip_jax.evals.runner import run_suite

FEW = dataclasses.replace(SETTINGS, prompts=12, sample_size=16, limit=None)


def gathered(rows, member=None, **kinds):
    """A set of these features, in chunks of three; by default nothing is left out."""
    kinds = {"pool": rows, "clip": rows, **kinds}
    images = ImageSet("a", len(rows), lambda numbers: np.asarray(numbers))
    chunks = Chunks(None, {})
    extract = lambda numbers: {  # noqa: E731
        "small": np.zeros((len(numbers), 2, 2, 3), np.uint8),
        **{kind: np.asarray(values, np.float32)[numbers] for kind, values in kinds.items()},
    }
    fill(chunks, images, extract, SETTINGS)
    return gather(chunks, images, member)


def in_turn(count):
    """Groups of every GROUPS-th row."""
    return np.arange(count) % GROUPS


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(image_sets, "CHUNK", 3)


def test_moments_of_chunks_are_those_of_the_whole(small_chunks):
    rows = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    found = gathered(rows, in_turn(50))
    whole = found.moments()
    assert whole.count == 50
    np.testing.assert_allclose(whole.mean, rows.astype(np.float64).mean(0), atol=1e-12)
    np.testing.assert_allclose(
        whole.scatter / 49, np.cov(rows.astype(np.float64).T), rtol=1e-12, atol=1e-12
    )
    left = np.delete(rows.astype(np.float64), [7, 27, 47], axis=0)
    np.testing.assert_allclose(found.moments(without=7).mean, left.mean(0), atol=1e-12)
    np.testing.assert_array_equal(found.without(7), left)
    half = gathered(rows).half(1)
    np.testing.assert_array_equal(half.rows["pool"], rows[1::2])
    np.testing.assert_allclose(half.moments().mean, rows[1::2].mean(0), atol=1e-6)
    with pytest.raises(ValueError, match="no halves"):
        found.half(0)


def test_the_jackknife_of_a_mean_is_its_standard_error():
    """Groups of one row: the jackknife of the mean is s / sqrt(n), exactly."""
    values = np.random.default_rng(0).normal(size=30)
    left_out = (values.sum() - values) / 29
    low, high = metrics.jackknife_interval(values.mean(), left_out)
    reach = 1.959964 * values.std(ddof=1) / np.sqrt(30)
    assert (low, high) == pytest.approx((values.mean() - reach, values.mean() + reach))


def test_samples_are_compared_with_real_images_and_these_with_others(small_chunks):
    """A shift by 2 in one of 3 directions is a Fréchet distance of 4, and the real images' is 0."""
    rng = np.random.default_rng(0)
    real = rng.normal(size=(60, 3))
    same = gathered(real)
    sets = gathered(real + [2.0, 0.0, 0.0], in_turn(60)), same, same, same
    found = comparison.Comparison(*sets, "recipe", "reference", "of a CLIP")
    results = comparison.compare(found, "CLIP")
    names = {"frechet_clip", "kid_clip", "cmmd", "precision", "recall", "density", "coverage"}
    assert set(results) == names
    frechet = results["frechet_clip"]
    assert (frechet.value, frechet.baseline) == pytest.approx((4.0, 0.0), abs=1e-5)
    assert frechet.low < frechet.value < frechet.high and frechet.n == 60
    assert results["recall"].baseline == results["precision"].baseline == 1.0
    assert results["recall"].value < 0.9
    assert results["kid_clip"].value > results["kid_clip"].baseline
    made = {name: m.recipe.split("; ")[1] for name, m in results.items()}
    assert made == dict.fromkeys(names, "recipe") | {"cmmd": "of a CLIP"}
    assert all(m.reference == "reference" for m in results.values())
    assert "fid" in comparison.compare(found, "Inception")
    assert "frechet_dinov2" in comparison.compare(found, "DINOv2")
    assert "precision" not in comparison.compare(
        dataclasses.replace(found, sampled=gathered(real[:9])), "CLIP"
    )


def test_an_interval_is_of_the_samples(small_chunks):
    """Of equal groups every left-out statistic is the same: no width."""
    row = np.random.default_rng(0).normal(size=(3, 2))
    rows = np.repeat(row, GROUPS, axis=0)
    equal = gathered(rows, np.tile(in_turn(GROUPS), 3))
    found = comparison.Comparison(equal, equal, equal, equal, "", "")
    metric = found.metric(
        "mean", lambda real: lambda images, g: float(images.moments(without=g).mean[0])
    )
    assert metric.low == pytest.approx(metric.value) == pytest.approx(metric.high)


def test_inception_has_its_scores(small_chunks):
    """By hand: FID 4 and sFID 9 are shifts; sure of four classes the score is 4, blind it is 1."""
    logits = np.log(np.array([[0.7, 0.2, 0.1]]))
    np.testing.assert_allclose(comparison.softmax(logits + 5.0), [[0.7, 0.2, 0.1]])
    rng = np.random.default_rng(0)
    pool, spatial = rng.normal(size=(40, 3)), rng.normal(size=(40, 5))
    sure, blind = 100.0 * np.eye(4)[np.arange(40) % 4], np.zeros((40, 4))
    sampled = gathered(pool + [2.0, 0, 0], spatial=spatial + [0, 3.0, 0, 0, 0], logits=sure)
    real = gathered(pool, spatial=spatial, logits=blind)
    found = comparison.Comparison(sampled, real, real, real, "by a network", "", "by a CLIP")
    results = comparison.compare(found, "Inception")
    values = {name: results[name].value for name in ("fid", "sfid", "inception_score")}
    assert values == pytest.approx({"fid": 4.0, "sfid": 9.0, "inception_score": 4.0}, abs=1e-5)
    assert results["inception_score"].baseline == pytest.approx(1.0)
    score = "mean of 10 runs in the order of the prompts; by a network"
    assert results["inception_score"].recipe == score
    assert results["cmmd"].recipe.endswith("; by a CLIP")
    # Runs of 2 have two classes each, of 4 all four; ten runs of 40 images have four.
    runs = dataclasses.replace(found, score_run=2)
    by_two = comparison.compare(runs, "Inception")["inception_score"]
    assert by_two.value == pytest.approx(2.0) and "mean of runs of 2 images" in by_two.recipe


def test_a_small_set_has_no_inception_score(small_chunks):
    """As in a smoke run of eight samples, which is no error."""
    rows = np.random.default_rng(0).normal(size=(9, 3))
    few = gathered(rows, spatial=rows, logits=np.zeros((9, 4)))
    found = comparison.Comparison(few, few, few, few, "", "")
    assert set(comparison.compare(found, "Inception")) == {"fid", "sfid", "kid", "cmmd"}
    more = gathered(np.tile(rows, (2, 1)), spatial=np.tile(rows, (2, 1)), logits=np.zeros((18, 4)))
    mixed = dataclasses.replace(found, sampled=more)
    assert "inception_score" not in comparison.compare(mixed, "Inception")
    assert "inception_score" in comparison.distances(
        dataclasses.replace(mixed, other=more), "Inception"
    )


def test_images_of_a_concept_are_left_out_together():
    """Also those of a second caption of one image that names no concept."""
    real = RealImages(
        ImageSet("real", 3, lambda numbers: numbers), "", ((),) * 4, ("a", "", "", "a"), ("",) * 4
    )
    labels = fidelity.concept_groups(real, [3, 1, 0, 2, 1])
    assert [list(labels).index(label) for label in labels] == [0, 1, 0, 3, 1]


def test_halves_are_said_to_be_biased(small_chunks):
    """Without other real images, as COCO's: N against N, which the report says."""
    real = gathered(np.random.default_rng(0).normal(size=(30, 3)))
    one, two, label = comparison.halves(real)
    assert (len(one), len(two)) == (15, 15)
    assert "15 images each" in label and "biased further upward" in label


def test_captions_go_around_the_images():
    captions = (("a cat", "a 3d emoji of a cat"), ("a dog",), ())
    real = RealImages(
        ImageSet("real", 3, lambda numbers: numbers), "", captions, ("c", "d", "e"), ("3d", "", "")
    )
    rows, chosen = fidelity.choose_captions(real, 2, seed=0)
    assert dict(zip(rows, chosen, strict=True)) == {0: "a 3d emoji of a cat", 1: "a dog"}
    rows, chosen = fidelity.choose_captions(real, 9, seed=0)
    assert (rows[-1], chosen[-1]) == (0, "a cat") and len(rows) == 3


@pytest.mark.parametrize("suite", ["fidelity", "guidance"])
def test_too_few_captions_are_said_and_the_prior_is_that_asked_for(model, monkeypatch, suite):
    """Both before anything is sampled."""
    plans, told = [], []

    def stop(bundle, requests, plan, settings, name):
        plans.append(plan)
        raise RuntimeError("asked to sample")

    monkeypatch.setattr(f"unclip_jax.evals.{suite}.sampled_images", stop)
    asked = {"prompts": 10_000, "note": told.append, "prior": "text"}
    with pytest.raises(RuntimeError, match="asked to sample"):
        run_suite(suite, model, dataclasses.replace(FEW, **asked))
    assert plans[0].prior == "text"
    (line,) = told
    assert line.endswith("captions, fewer than --prompts, 10,000") and SETTINGS.data in line


def test_the_clip_score_is_cut_at_zero():
    image, text = np.array([[1.0, 1.0], [-1.0, 0.0]]), np.array([[2.0, 0.0], [1.0, 0.0]])
    np.testing.assert_allclose(fidelity.clip_score(image, text), [100 / np.sqrt(2), 0.0])


def test_the_nearest_training_image_is_found_across_blocks(monkeypatch):
    monkeypatch.setattr(fidelity, "BLOCK", 1)
    gallery = np.arange(40, dtype=np.uint8)[:, None, None, None] * np.ones((2, 2, 3), np.uint8)
    images = gallery[[3, 39]] + np.uint8(2)
    np.testing.assert_allclose(fidelity.nearest_pixels(images, gallery[:30]), [0.0, 12.0])


def test_photos_are_cut_and_padded_sets_padded(model):
    settings = dataclasses.replace(FEW, data="shapes:size=24,count=6")
    real = image_sets.real_images(settings, ("test",), model, 16, "real")
    assert real.images.make(range(1, 3)).shape == (2, 16, 16, 3)
    assert real.label == f"shapes:size=24,count=6 test, {real.images.count} images"
    picked = real.subset([2, 0], "other").make(range(2))
    np.testing.assert_array_equal(picked, real.images.make(range(3))[[2, 0]])


def test_the_suite_continues_from_its_chunks(model, tmp_path, monkeypatch):
    """A run that ends half-way: the rerun samples only what is missing, for the same figures."""
    monkeypatch.setattr(image_sets, "CHUNK", 4)
    whole = run_suite("fidelity", model, dataclasses.replace(FEW, image_folder=tmp_path))
    check_metrics(whole)
    assert whole["frechet_clip"].n == 12 and whole["clip_score"].baseline is not None
    assert whole["clip_score"].baseline == whole["clip_score_real"].value
    assert ", prior diffusion, guidance 3" in whole["frechet_clip"].recipe
    assert "baseline: 12 images of train" in whole["frechet_clip"].reference
    assert (tmp_path / "fidelity_images.png").stat().st_size > 0

    made, generate, stop = [], image_sets.generate, RuntimeError("killed")

    def counted(model, requests, *args, **options):
        if len(made) == 2:
            raise stop
        made.append(requests[0].prompt_index)
        return generate(model, requests, *args, **options)

    monkeypatch.setattr(image_sets, "generate", counted)
    cached = dataclasses.replace(FEW, cache=tmp_path / "cache")
    with pytest.raises(RuntimeError, match="killed"):
        run_suite("fidelity", model, cached)
    made.clear()
    assert run_suite("fidelity", model, cached) == whole
    assert made == [8]
    made.clear()
    with pytest.raises(RuntimeError, match="killed"):  # other settings share nothing
        run_suite("fidelity", model, dataclasses.replace(cached, guidance=1.5))


def test_a_damaged_chunk_is_made_again(tmp_path):
    chunks = Chunks(tmp_path, {"a": 1})
    chunks.fill("s", 1, lambda number: {"x": np.arange(3)})
    (path,) = chunks.folder.iterdir()
    path.write_bytes(path.read_bytes()[:-40])
    chunks.fill("s", 1, lambda number: {"x": np.arange(4)})
    assert next(chunks.read_all("s", 1))["x"].tolist() == [0, 1, 2, 3]


def test_unknown_features_are_refused(model):
    with pytest.raises(UserError, match="unknown features"):
        run_suite("fidelity", model, dataclasses.replace(FEW, features="vgg"))
