"""The page of suite preference: its questions, its key, and what two models draw for it."""

import base64
import dataclasses
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from tests.evals.suites import SETTINGS
from unclip_jax.core.errors import UserError
from unclip_jax.evals import preference
from unclip_jax.evals.preference import Drawn, alike, choose_captions, make_study, tiled
from unclip_jax.evals.preference_page import page_html
from unclip_jax.evals.runner import write_suite

CAPTIONS = [f"caption {i}" for i in range(8)]


def drawn(base, size=8):
    """Returns images that tell by their first channel who drew them and for which caption."""
    single = np.full((8, size, size, 3), base, np.uint8)
    single[..., 1] = np.arange(8)[:, None, None]
    grids = np.full((2, 16, size, size, 3), base, np.uint8)
    grids[..., 1] = np.arange(2)[:, None, None, None]
    return Drawn(single, grids)


def pixel(uri):
    """Returns the first pixel of an image of the page: (who drew it, number of the caption)."""
    kind, _, data = uri.partition(";base64,")
    assert kind == "data:image/webp"
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    return image.convert("RGB").getpixel((0, 0))[:2]


def shown(page):
    """Reads a page's study back, as its script does."""
    found = re.search(r'<script type="application/json" id="study">(.*?)</script>', page, re.S)
    return json.loads(found[1])


def test_the_key_names_what_is_shown_first():
    study = make_study(CAPTIONS, (drawn(200), drawn(50)), seed=0)
    kinds = [question["kind"] for question in study.shown["questions"]]
    assert kinds == ["photorealism"] * 8 + ["caption"] * 8 + ["diversity"] * 2
    assert {question["caption"] for question in study.shown["questions"][:8]} == {""}
    base = {"model": 200, "baseline": 50}
    for question in study.shown["questions"]:
        pair = [pixel(study.shown["images"][i]) for i in question["images"]]
        assert pair[0][0] == base[study.first[question["id"]]]
        assert {who for who, _ in pair} == {200, 50}
        assert pair[0][1] == pair[1][1]  # both drew one caption
        if question["caption"]:
            assert question["caption"] == CAPTIONS[pair[0][1]]
    assert {study.first[str(i)] for i in range(1, 19)} == {"model", "baseline"}


def test_sides_and_order_are_random_by_the_seed():
    make = lambda seed: make_study(CAPTIONS, (drawn(200), drawn(50)), seed)  # noqa: E731
    assert make(3).shown == make(3).shown and make(3).first == make(3).first
    assert make(3).shown["study"] != make(4).shown["study"]
    wins = [sum(who == "model" for who in make(seed).first.values()) for seed in range(12)]
    assert 80 < sum(wins) < 136  # of 216; five standard deviations are 37
    captions = [[q["caption"] for q in make(seed).shown["questions"]] for seed in (3, 4)]
    assert captions[0] != captions[1] and sorted(captions[0]) == sorted(captions[1])


def test_the_page_does_not_tell_the_models():
    """All that differs between the two is in the key: neither names nor the order of images."""
    study = make_study(CAPTIONS, (drawn(200), drawn(50)), seed=0)
    page = page_html(study.shown)
    names = {"model": "ours", "baseline": "theirs"}
    assert not any(word in page for word in (*names.values(), "baseline"))
    key = study.key(names)
    assert key["study"] in page
    assert key["questions"]["9"]["kind"] == "caption"
    first = [pixel(uri)[0] for uri in shown(page)["images"]]
    assert first != sorted(first) and first != sorted(first, reverse=True)


def test_a_caption_cannot_leave_its_place():
    hostile = ["</script><script>alert(1)</script>", *CAPTIONS[1:]]
    page = page_html(make_study(hostile, (drawn(200), drawn(50)), seed=0).shown)
    assert hostile[0] not in page and page.count("<script") == 2
    assert hostile[0] in {question["caption"] for question in shown(page)["questions"]}


def test_images_are_brought_to_one_size_and_grids_to_four_by_four():
    small = alike(drawn(9, size=32), 16)
    assert small.single.shape == (8, 16, 16, 3) and small.grids.shape == (2, 16, 16, 16, 3)
    images = np.zeros((16, 2, 2, 3), np.uint8)
    images[..., 0] = np.arange(16)[:, None, None]
    whole = tiled(images)
    assert whole.shape == (4 * 2 + 3 * 4, 4 * 2 + 3 * 4, 3)
    np.testing.assert_array_equal(whole[::6, ::6, 0], np.arange(16).reshape(4, 4))
    assert (whole[2] == 255).all()  # between two rows


def test_two_models_draw_the_captions(model, tmp_path, monkeypatch):
    """Also if they are one: their noise differs."""
    monkeypatch.setattr(preference, "SIDE", 2)
    settings = dataclasses.replace(SETTINGS, prompts=2, sample_size=16, image_folder=tmp_path)
    recorded = {"model": "a", "baseline": "b"}
    with pytest.raises(UserError, match="--baseline"):
        write_suite("preference", model, settings, recorded, tmp_path)
    settings = dataclasses.replace(settings, baseline=model)
    result, text = write_suite("preference", model, settings, recorded, tmp_path)
    assert result["questions"] == {"photorealism": 2, "caption": 2, "diversity": 1}
    assert "preference_key.json" in text
    study = shown((tmp_path / "preference.html").read_text(encoding="utf-8"))
    key = json.loads((tmp_path / "preference_key.json").read_text(encoding="utf-8"))
    assert (key["model"], key["baseline"], key["study"]) == ("a", "b", study["study"])
    assert len(set(study["images"])) == 6
    captions = {question["caption"] for question in key["questions"].values()}
    assert captions == {"", *choose_captions(settings)[0]}


def test_prompts_may_come_from_a_list(tmp_path):
    listed, told = tmp_path / "list.txt", []
    listed.write_text("a cat\na dog\na car\n")
    settings = dataclasses.replace(SETTINGS, prompts_file=listed, prompts=2, note=told.append)
    assert len(set(choose_captions(settings)[0]) & {"a cat", "a dog", "a car"}) == 2
    assert told == []
    assert len(choose_captions(dataclasses.replace(settings, prompts=4))[0]) == 3
    assert told == [f"{listed}: 3 captions, fewer than --prompts, 4"]


def test_sets_are_asked_of_captions_from_everywhere(model, tmp_path, monkeypatch):
    """A list may be sorted: of 40 captions the 10 with sets are not the first 10."""
    sorted_captions = [f"{i:02d}" for i in range(40)]
    mixed = preference.in_random_order(sorted_captions, 0)
    assert sorted(mixed) == sorted_captions
    assert {int(caption) // 10 for caption in mixed[:10]} == {0, 1, 2, 3}
    assert preference.in_random_order(sorted_captions, 1) != mixed

    chosen, drawn_captions = (sorted_captions, sorted_captions), []

    def stop(bundle, captions, place, settings):
        drawn_captions.extend(captions)
        raise RuntimeError("asked to draw")

    monkeypatch.setattr(preference, "choose_captions", lambda settings: chosen)
    monkeypatch.setattr(preference, "draw", stop)
    settings = dataclasses.replace(SETTINGS, baseline=model)
    with pytest.raises(RuntimeError, match="asked to draw"):
        preference.write_preference(tmp_path, model, settings, {})
    assert drawn_captions == mixed


def test_the_baseline_has_a_prior_of_its_own(model, monkeypatch):
    priors = []

    def sample(bundle, texts, *, num, prior, **settings):
        priors.append(prior)
        return np.zeros((len(texts) * num, 16, 16, 3), np.uint8)

    monkeypatch.setattr(preference.api, "sample", sample)
    settings = dataclasses.replace(SETTINGS, prior="text")
    for place in (0, 1):
        preference.draw(model, ["a", "b"], place, settings)
    assert priors == ["text", "text", None, None]
