"""The aesthetics suite: on a toy bundle, and on samples whose ratings and overlap are known."""

import base64
import dataclasses
import io
import json

import numpy as np
import pytest
from PIL import Image

from tests.evals.suites import SETTINGS, check_metrics
from tests.toy import toy_bundle
from unclip_jax.core.errors import UserError
from unclip_jax.evals import ratings
from unclip_jax.evals.aesthetics import (
    Batch,
    rated_grid,
    rating_probe,
    realism_probe,
    sweep_metrics,
)
from unclip_jax.evals.preference import Drawn, judged_pairs, make_study
from unclip_jax.evals.preference_page import page_html
from unclip_jax.evals.ratings import Linear
from unclip_jax.evals.runner import run_suite


def write_ratings(folder):
    """Writes gray images, the brighter the better; returns the table."""
    lines = ["image,rating"]
    for i in range(24):
        Image.new("RGB", (16, 16), (10 * i,) * 3).save(folder / f"{i}.png")
        lines.append(f"{i}.png,{i / 4}")
    path = folder / "ratings.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def write_study(folder, model, count=40):
    """Writes a page, its key and answers: the greener image is always preferred."""
    rng = np.random.default_rng(0)
    shade = lambda *shape: np.broadcast_to(  # noqa: E731
        rng.integers(0, 256, (*shape, 1, 1, 3), np.uint8), (*shape, 8, 8, 3)
    ).copy()
    drawn = tuple(Drawn(shade(count), shade(1, 16)) for _ in range(2))
    study = make_study([f"caption {i}" for i in range(count)], drawn, 0)
    (folder / "preference.html").write_text(page_html(study.shown), encoding="utf-8")
    names = {"model": "ours", "baseline": "theirs"}
    (folder / "preference_key.json").write_text(json.dumps(study.key(names)))
    answers = {}
    for question in study.shown["questions"]:
        images = [study.shown["images"][i] for i in question["images"]]
        green = [green_of(uri) for uri in images]
        answers[question["id"]] = "first" if green[0] > green[1] else "second"
    answers["1"] = "not sure"
    path = folder / "answers.json"
    path.write_text(json.dumps({"study": study.shown["study"], "rater": "r", "answers": answers}))
    return path


def green_of(uri):
    data = base64.b64decode(uri.partition(";base64,")[2])
    return Image.open(io.BytesIO(data)).convert("RGB").getpixel((0, 0))[1]


def test_samples_of_every_scale_are_rated(model, tmp_path, monkeypatch):
    images = tmp_path / "images"
    images.mkdir()
    settings = dataclasses.replace(SETTINGS, eval_clip=toy_bundle(seed=1), sample_size=16)
    settings = dataclasses.replace(settings, prompts=6, scales=(1.0, 3.0), baseline=model)
    with pytest.raises(UserError, match="--ratings FILE"):
        run_suite("aesthetics", model, settings)
    answers = write_study(tmp_path, model)
    settings = dataclasses.replace(
        settings,
        ratings=write_ratings(tmp_path),
        answers=(answers,),
        image_folder=images,
    )
    results = run_suite("aesthetics", model, settings)
    check_metrics(results)
    kinds = ("rating", "realism", "recall", "precision")
    swept = {f"{who}/{kind}_{scale}" for who in ("model", "baseline") for kind in kinds
             for scale in (1, 3)}  # fmt: skip
    assert set(results) == {"probe/r_squared", "probe/correlation", "proxy/accuracy", *swept}
    assert results["model/rating_3"].value == results["baseline/rating_3"].value  # one bundle
    assert results["model/rating_1"].value != results["model/rating_3"].value
    assert results["model/rating_1"].n == 6
    assert {path.name for path in images.iterdir()} == {
        "aesthetics_images.png",
        "aesthetics_recall.png",
    }


def test_judged_pairs_hold_what_was_preferred(tmp_path, model):
    """The greener one, whichever side and model it was of."""
    pairs = judged_pairs([write_study(tmp_path, model)])
    assert len(pairs) == 39  # one is not sure; captions and sets do not count
    assert all(pair.preferred[0, 0, 1] >= pair.other[0, 0, 1] for pair in pairs)
    (tmp_path / "preference.html").write_text("<html></html>")
    with pytest.raises(UserError, match="no page of suite preference"):
        judged_pairs([tmp_path / "answers.json"])


def test_a_page_of_another_study_or_damaged_is_refused(tmp_path, model):
    answers = write_study(tmp_path, model)
    page = tmp_path / "preference.html"
    text = page.read_text(encoding="utf-8")
    for old, new, message in (
        ('"study": "', '"study": "0', "another study"),
        ("data:image/webp;base64,", "data:image/webp;base64,AAAA", "damaged|readable"),
        ('"images": [', '"images": [3, ', "damaged"),
    ):
        page.write_text(text.replace(old, new), encoding="utf-8")
        with pytest.raises(UserError, match=message):
            judged_pairs([answers])


def test_means_recall_and_their_baselines():
    """Half of the real images lie at one place, half at another; samples only at the first."""
    rng = np.random.default_rng(0)
    near = lambda place, n: place + 0.01 * rng.normal(size=(n, 2))  # noqa: E731
    real = np.stack([near([1.0, 0.0], 20), near([0.0, 1.0], 20)], axis=1).reshape(-1, 2)
    none = np.zeros((8, 2, 2, 3), np.uint8)
    batches = [
        Batch("model", 1.0, none, near([1.0, 0.0], 8)),
        Batch("baseline", 2.5, none, real[:8]),
    ]
    probe = Linear(np.array([2.0, 0.0]), 1.0)
    results = sweep_metrics(
        batches, {"rating": probe}, real, "shapes train, 40 images", np.array(list("abcdefgh"))
    )
    assert results["model/rating_1"].value == pytest.approx(3.0, abs=0.01)
    assert results["model/rating_1"].baseline == pytest.approx(2.0, abs=0.02)
    assert results["baseline/rating_2.5"].value == pytest.approx(2.0, abs=0.02)
    assert results["model/recall_1"].value <= 0.75 < results["baseline/recall_2.5"].value
    assert "8 training images" in results["model/recall_1"].recipe
    assert results["model/recall_1"].reference == "shapes train, 40 images"
    assert results["model/recall_1"].baseline > 0.5


def test_recall_has_an_interval_of_enough_samples_and_none_of_few_training_images():
    rng = np.random.default_rng(0)
    real, emb = rng.normal(size=(120, 3)), rng.normal(size=(60, 3)) + [1.0, 0.0, 0.0]
    batch = Batch("model", 1.0, np.zeros((60, 2, 2, 3), np.uint8), emb)
    probe, concepts = Linear(np.array([1.0, 0.0, 0.0]), 0.0), np.arange(60).astype(str)
    results = sweep_metrics([batch], {"rating": probe}, real, "train", concepts)
    for name in ("recall", "precision"):
        metric = results[f"model/{name}_1"]
        assert metric.low < metric.value < metric.high and "jackknife" in metric.recipe
    of_two = sweep_metrics([batch], {"rating": probe}, real, "train", np.repeat(["a", "b"], 30))
    assert of_two["model/recall_1"].low is None
    rating = results["model/rating_1"]
    ends = of_two["model/rating_1"].high - of_two["model/rating_1"].low
    assert ends != pytest.approx(rating.high - rating.low, rel=0.05)
    few = sweep_metrics([batch], {"rating": probe}, real[:7], "train", concepts)
    assert set(few) == {"model/rating_1"}


def test_the_probe_is_measured_on_what_it_has_not_seen(monkeypatch):
    """More columns than images: the fit is exact, and of noise nothing is learned."""
    monkeypatch.setattr(ratings, "PENALTIES", (1e-9,))
    rng = np.random.default_rng(0)
    emb, noise = rng.normal(size=(60, 64)), rng.normal(size=60)
    _, found = rating_probe(emb, noise, seed=0)
    assert found["probe/r_squared"].value < 0.3
    assert found["probe/r_squared"].n == 12
    along = emb[:, 0] / np.linalg.norm(emb, axis=1)
    _, found = rating_probe(emb[:, :8], along, seed=0)
    assert found["probe/correlation"].value > 0.8


def test_the_proxy_is_measured_on_other_questions():
    rng = np.random.default_rng(1)
    preferred, other = rng.normal(size=(2, 40, 64))
    _, found = realism_probe(preferred, other, [str(i) for i in range(40)])
    assert 0.2 < found["proxy/accuracy"].value < 0.8
    assert found["proxy/accuracy"].baseline == 0.5


def test_the_grid_has_the_highest_and_the_lowest():
    """Each image is as bright as its rating; the strips begin with the ends."""
    shades = np.arange(20, dtype=np.uint8)
    images = np.broadcast_to((12 * shades)[:, None, None, None], (20, 96, 96, 3)).copy()
    batch = Batch("model", 2.0, images, np.zeros((20, 2)))
    grid = np.asarray(rated_grid([batch], [shades.astype(float)], [f"c{i // 2}" for i in shades]))
    first, second = (set(np.unique(grid[:, 8 + 48 + 104 * column])) for column in (0, 1))
    assert {12 * 19, 0} <= first
    assert {12 * 17, 12 * 2} <= second and 12 * 18 not in second  # a caption is there once
