"""Suites with a ground truth by construction: their own scenes are what a perfect model draws."""

import dataclasses

import numpy as np
import pytest

from tests.evals.suites import SETTINGS, check_metrics
from unclip_jax.core.errors import UserError
from unclip_jax.data.sets import scenes, words
from unclip_jax.evals import binding, complexity, scene_prompts, spelling
from unclip_jax.evals.runner import run_suite

SCENES = dataclasses.replace(SETTINGS, data="scenes:size=32", prompts=6)
LEFT, RIGHT = (0.27, 0.5), (0.73, 0.5)


def draw(*objects):
    return scenes.draw([(*pair, at, 0.19) for pair, at in objects], 32)


def prompts(*images):
    wanted = [[("red", "circle"), ("blue", "square")]] * len(images)
    return scene_prompts.Prompts(
        ["a red circle left of a blue square"] * len(images),
        np.stack(images),
        wanted,
        ["left of"] * len(images),
    )


def test_verdicts_of_drawings_whose_answer_is_known():
    found = prompts(
        draw((("red", "circle"), LEFT), (("blue", "square"), RIGHT)),
        draw((("red", "circle"), RIGHT), (("blue", "square"), LEFT)),
        draw((("blue", "circle"), LEFT), (("red", "square"), RIGHT)),
        draw((("red", "circle"), LEFT)),
    )
    values = binding.verdicts(found.images, found)
    assert values["bound"].tolist() == [1, 1, 0, 0]
    assert values["swapped"].tolist() == [0, 0, 1, 0]
    assert values["count"].tolist() == [1, 1, 1, 0]
    np.testing.assert_array_equal(values["related"], [1, 0, np.nan, np.nan])


def test_captions_carry_their_scene():
    found = scene_prompts.scene_prompts(SCENES, "binding", "unseen", 2)
    assert len(found.captions) == 6
    for caption, wanted, where in zip(found.captions, found.wanted, found.relations, strict=True):
        (color, form), (other, form2) = wanted
        a, b = ("an" if c == "orange" else "a" for c in (color, other))
        assert caption == f"{a} {color} {form} {where} {b} {other} {form2}"
    scores = binding.verdicts(found.images, found)
    assert scores["bound"].all() and scores["related"].all() and scores["count"].all()


def test_seen_pairs_come_in_new_scenes():
    """Their pairs are those of the training set, and none of its images is among them."""
    trained = scenes.ScenesSource("train", size=32)
    pairs = {
        pair for i in range(300) for pair in scene_prompts.pairs_of(trained.info(i)["concept"])
    }
    many = dataclasses.replace(SCENES, prompts=3000)
    with pytest.MonkeyPatch.context() as patch:  # what is drawn does not matter here
        patch.setattr(scenes, "draw", lambda objects, size: np.zeros((1, 1, 3), np.uint8))
        seen, unseen = (
            scene_prompts.scene_prompts(many, "binding", group, 2) for group in ("seen", "unseen")
        )
    assert len(seen.captions) == len(unseen.captions) == scenes.SPLITS["test"]
    assert {pair for both in seen.wanted for pair in both} == pairs
    assert not {pair for both in unseen.wanted for pair in both} & pairs
    first = [trained.scene(i) for i in range(3)]
    with pytest.MonkeyPatch.context() as patch:
        asked = []
        patch.setattr(scenes.ScenesSource, "scene", lambda self, i: asked.append(i) or first[i % 3])
        scene_prompts.scene_prompts(SCENES, "binding", "seen", 2)
    assert min(asked) >= len(trained)


def test_captions_that_name_the_same_are_one_group():
    wanted = [[("red", "bar"), ("blue", "star")], [("blue", "star"), ("red", "bar")]]
    wanted += [[("red", "star"), ("blue", "bar")]]
    found = scene_prompts.Prompts([""] * 3, np.zeros((3, 1, 1, 3), np.uint8), wanted, [None] * 3)
    assert found.groups[0] == found.groups[1] != found.groups[2]
    scores = {"model": {"bound": np.array([1.0] * 50 + [0.0] * 50)}}
    groups = np.repeat(["a", "b"], 50)  # two captions in truth
    metric = scene_prompts.compared(scores, "{}/{}".format, "", "", groups)["model/bound"]
    assert (metric.low, metric.high) == (0.0, 1.0)


def test_softened_images_are_a_second_ceiling():
    real = np.stack([draw((("red", "circle"), LEFT), (("blue", "star"), RIGHT))] * 4)
    soft = scene_prompts.softened(real, seed=0)
    x = np.arange(-4, 5)
    line = np.exp(-0.5 * (x / 0.7) ** 2)
    kernel = np.outer(line, line) / line.sum() ** 2
    row = col = 16
    wanted = (real[0, row - 4 : row + 5, col - 4 : col + 5, 0] * kernel).sum()
    errors = soft[:, row, col, 0] - wanted
    assert np.abs(errors).max() < 40  # five sigma of the noise
    flat = np.full((1, 64, 64, 3), 128, np.uint8)
    assert scene_prompts.softened(flat, 0).std() == pytest.approx(8.0, abs=0.3)


def test_differences_to_the_baseline_are_paired_and_nan_is_left_out():
    scores = {
        "model": {"bound": np.array([1.0, 1, 0, 1]), "related": np.array([1, np.nan, np.nan, 0])},
        "baseline": {"bound": np.array([1.0, 0, 0, 0]), "related": np.array([1, 1, np.nan, 1.0])},
    }
    found = scene_prompts.compared(scores, "{}/{}".format, "how", "what", np.arange(4))
    assert found["model/bound"].value == 0.75 and found["baseline/bound"].value == 0.25
    assert (found["over_baseline/bound"].value, found["over_baseline/bound"].baseline) == (0.5, 0)
    assert (found["model/related"].value, found["model/related"].n) == (0.5, 2)
    assert (found["over_baseline/related"].value, found["over_baseline/related"].n) == (-0.5, 2)
    assert found["model/bound"].recipe == "how" and found["model/bound"].reference == "what"


def test_shares_of_the_objects_that_are_there():
    found = prompts(
        draw((("red", "circle"), LEFT), (("blue", "square"), RIGHT)),
        draw((("red", "circle"), LEFT), (("green", "square"), RIGHT)),
        draw((("red", "circle"), LEFT), (("red", "circle"), RIGHT)),
    )
    values = complexity.shares(found.images, found)
    assert values["objects"].tolist() == [1.0, 0.5, 0.5]
    assert values["scenes"].tolist() == [1.0, 0.0, 0.0]


def test_letters_and_words_right():
    images = [spelling.render(word, 32) for word in ("bato", "bapo", "bat", "batoz", "")]
    values = spelling.letters_right(np.stack(images), ["bato"] * 5)
    assert values["letters"].tolist() == [1.0, 0.75, 0.75, 1.0, 0.0]
    assert values["words"].tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]


def test_binding_draws_with_both_bundles(model, tmp_path, monkeypatch):
    settings = dataclasses.replace(SCENES, baseline=model, image_folder=tmp_path)
    shown, grid = [], binding.binding_grid
    keep = lambda captions, drawn: shown.append(drawn) or grid(captions, drawn)  # noqa: E731
    monkeypatch.setattr(binding, "binding_grid", keep)
    results = run_suite("binding", model, settings)
    check_metrics(results)
    ways = {"model", "embedding_only", "baseline", "real", "real_soft", "reconstruction"}
    assert {name.split("/")[1] for name in results} == ways | {"over_baseline"}
    assert results["seen/real/bound"].value == results["unseen/real/bound"].value == 1.0
    assert results["seen/real_soft/bound"].value > 0.6
    # The same bundle, the same keys: the same images.
    np.testing.assert_array_equal(shown[0]["model"], shown[0]["baseline"])
    assert (shown[0]["model"] != shown[0]["embedding_only"]).any()
    assert (tmp_path / "binding_images.png").stat().st_size > 0


def test_complexity_counts_from_one_to_six(model, tmp_path):
    settings = dataclasses.replace(SCENES, image_folder=tmp_path)
    results = run_suite("complexity", model, settings)
    check_metrics(results)
    assert [results[f"real/scenes_{n}"].value for n in range(1, 7)] == [1.0] * 6
    assert (tmp_path / "complexity_images.png").stat().st_size > 0


def test_spelling_has_seen_and_unseen_words(model, tmp_path, monkeypatch):
    known = (tuple("abcdef"), ("ta", "re", "mi", "so", "lu", "po"))
    monkeypatch.setattr(words, "words", lambda split: known)
    data = {"data": "words:size=32", "prompts": 48}
    settings = dataclasses.replace(SCENES, image_folder=tmp_path, **data)
    results = run_suite("spelling", model, settings)
    check_metrics(results)
    real = [f"{group}/real/words_{n}" for group in ("seen", "unseen") for n in (1, 2)]
    assert [results[name].value for name in real] == [1.0] * 4
    assert (tmp_path / "spelling_images.png").stat().st_size > 0


@pytest.mark.parametrize("suite", ["binding", "complexity", "spelling"])
def test_other_data_has_no_ground_truth(model, suite):
    with pytest.raises(UserError, match=f"suite {suite} needs .*--data"):
        run_suite(suite, model, SETTINGS)
