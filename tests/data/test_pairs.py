"""Images of two things: what is drawn where, what they are called, what is held out."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.data.emoji_world import circle
from unclip_jax.core.errors import UserError
from unclip_jax.data import images, sources
from unclip_jax.data.sets import captions, emoji, pairs
from unclip_jax.data.sets.emoji import Drawing, Name
from unclip_jax.data.sets.prepare import prepare_emoji

ROOT = Path(__file__).resolve().parents[2]
THINGS = ("cat face", "dog face", "tulip", "honeybee", "automobile", "bicycle", "key", "house")


def drawing(label, color="#ff0000", style="flat"):
    code = f"{sum(map(ord, label)):04x}"
    name = Name(code, label, "animal-mammal", (), ())
    svg = circle(color, code).encode()
    return Drawing(f"{style}/{code}", name, label, style, (captions.phrase(label),), svg)


@pytest.mark.parametrize("size", [64, 97])
def test_each_thing_is_drawn_on_its_side(size):
    pair = pairs.make_pair(drawing("key", "#ff0000"), drawing("house", "#0000ff"))
    colors = {"key": (255, 0, 0), "house": (0, 0, 255)}
    pixels = images.decode(pair.render(size)).astype(int)
    assert pixels.shape == (size, size, 3)
    for side, half in ((pair.left, pixels[:, : size // 2]), (pair.right, pixels[:, size // 2 :])):
        rows, columns = np.nonzero(np.all(half == colors[side.name.label], axis=-1))
        # A circle of half its square's side, the square 0.54 of the image's, shifted by up to 0.06.
        assert np.ptp(rows) == pytest.approx(0.27 * size, abs=3)
        assert np.ptp(columns) == pytest.approx(0.27 * size, abs=3)
        assert abs(rows.mean() / size - 0.5) < 0.06 + 0.02
        middle = columns.mean() + (size // 2 if side is pair.right else 0)
        assert middle / size == pytest.approx(0.27 if side is pair.left else 0.73, abs=0.02)
    assert (pixels[0] == 255).all() and (pixels[:, size // 2] == 255).all()


def test_which_is_on_the_left_depends_on_the_names_alone():
    one, other = drawing("key"), drawing("house")
    assert pairs.make_pair(one, other) == pairs.make_pair(other, one)
    left = {pairs.make_pair(drawing("key"), drawing(x)).left.name.label for x in THINGS[:6]}
    assert left > {"key"}  # not always the same side


def test_both_orders_are_said_and_both_are_true():
    lines = captions.pair_captions(("cat",), ("flower", "tulip"), style="flat")
    assert lines[:2] == ("a cat and a flower", "a flat emoji of a cat and a flower")
    assert {"a flower and a cat", "a cat next to a tulip", "tulip and cat, flat icon"} <= set(lines)
    for line in lines:
        assert "cat" in line and ("flower" in line or "tulip" in line)
    assert captions.pair_captions(("sun",), ("grapes",))[0] == "the sun and grapes"


def test_the_listed_pairs_are_held_out_under_every_name():
    assert pairs.is_held_out(drawing("dog face"), drawing("cat face"))
    assert pairs.is_held_out(drawing("honeybee"), drawing("tulip"))  # a bee and a flower
    assert pairs.is_held_out(drawing("hot beverage"), drawing("cookie"))


def test_the_list_is_that_of_the_prompts():
    tried = json.loads((ROOT / "docs/prompts.json").read_text())["pairs"]
    tried = [entry["prompt"] for entry in tried if entry["kind"] == "two things"]
    listed = [set(two) for two in captions.held_pairs()]
    for prompt in tried:
        things = prompt.replace(" in ", " and ").split(" and ")
        assert {thing.split(" ", 1)[1] for thing in things} in listed, prompt
    assert len(tried) == len(listed) == 15


def test_about_a_twelfth_is_held_out():
    words = [drawing(f"thing {n}") for n in range(60)]
    held = [pairs.is_held_out(a, b) for i, a in enumerate(words) for b in words[:i]]
    assert 0.06 < np.mean(held) < 0.10  # 1,770 pairs at 8%: 0.065 to 0.095 at two sigma and a half


def test_pairs_are_made_of_training_drawings_of_one_style():
    train = [drawing(x, style=style) for x in THINGS for style in ("flat", "noto")]
    held = [drawing("rocket")]
    face = Drawing("flat/1", Name("1", "key", "face-smiling", (), ()), "key", "flat", (), b"")
    blue = Drawing("flat/2", Name("2", "key", "tool", (), ()), "key", "flat", (), b"", "blue")
    splits = {"train": [*train, face, blue, drawing("no everyday thing")], "test_concepts": held}
    found = pairs.with_pairs(splits, 28)  # all of 8 things
    made = [one for split in found.values() for one in split if isinstance(one, pairs.Pair)]
    assert len(made) == len({one.key for one in made}) == 2 * 28
    members = {side for one in made for side in (one.left, one.right)}
    assert members == set(train)
    assert all(one.left.style == one.right.style == one.style for one in made)
    for one in made:
        is_train = one in found["train"]
        assert is_train != pairs.is_held_out(one.left, one.right)
    fewer = pairs.with_pairs(splits, 5)
    assert {str(x.key) for x in fewer["train"]} <= {str(x.key) for x in found["train"]}
    with pytest.raises(UserError, match="--pairs 29: style flat has things for 28 pairs only"):
        pairs.with_pairs(splits, 29)


def test_everyday_things_include_their_pairs(packages, unpinned, tmp_path, monkeypatch):
    monkeypatch.setattr(emoji, "PACKAGES", unpinned[0])
    monkeypatch.setattr(emoji, "NAMES", unpinned[1])
    made = prepare_emoji(tmp_path / "set", packages=packages, size=32, styles=("twemoji",), pairs=1)
    source = sources.load_source(str(tmp_path / "set"), "+".join(made["images"]))
    found = [source.info(i) for i in sources.matching_indices(source, concepts="everyday")]
    (pair,) = [info for info in found if info["category"] == "pair"]
    assert " and " in pair["captions"][0] and pair["style"] == "twemoji"
    assert '"pair"' in (tmp_path / "set/README.md").read_text()
    with pytest.raises(UserError, match="style twemoji has things for 15 pairs"):
        prepare_emoji(tmp_path / "x", packages=packages, styles=("twemoji",), pairs=1000, size=32)
    assert not (tmp_path / "x").exists()
