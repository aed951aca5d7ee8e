import dataclasses
import json

import numpy as np
import pytest

from unclip_jax.core.errors import UserError
from unclip_jax.data import builder, images
from unclip_jax.data.sets import emoji, recolor
from unclip_jax.data.sets.prepare import prepare_emoji
from unclip_jax.data.sources import all_captions, load_source, locate, select


@pytest.fixture(scope="module")
def everything(prepared):
    splits = "+".join(builder.split_sizes(prepared[0]))
    source = load_source(prepared[0], splits)
    return {source.info(i)["key"]: source[i] for i in range(len(source))}


def test_code_points_have_one_spelling():
    assert emoji.normal_code("23-FE0F-20E3") == "0023-20e3"
    assert emoji.normal_code("1f3f4_e0067") == "1f3f4-e0067"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1f468-200d-2696", "1f469-200d-2696"),  # man judge, woman judge
        ("1f3c3", "1f3c3-200d-2640"),  # person running, woman running
        ("1f44d", "1f44d-1f3fd"),  # thumbs up, with a tone
        ("1f468-1f3fb-200d-1f33e", "1f9d1-200d-1f33e"),  # man farmer with a tone, farmer
        ("1f478", "1f934"),  # princess, prince
        ("1f469-1f3fd-200d-1f9b0", "1f468-200d-1f9b0"),  # red hair
    ],
)
def test_tone_and_gender_do_not_part_a_concept(one, other):
    assert emoji.concept_code(one) == emoji.concept_code(other)


def test_different_things_stay_apart():
    codes = ["1f436", "1f415", "1f9d1-200d-2696", "1f9d1-200d-1f33e", "2764", "2764-200d-1f525"]
    assert len({emoji.concept_code(c) for c in codes}) == len(codes)


def test_split_shares_and_rules():
    cells = [(f"thing {i}", s) for i in range(4000) for s in emoji.STYLES]
    pinned = {f"thing {i}" for i in range(0, 4000, 40)}
    splits = emoji.assign_splits(cells, pinned)
    by_concept = {}
    for (concept, _), split in splits.items():
        by_concept.setdefault(concept, []).append(split)
    whole = [c for c, s in by_concept.items() if "test_concepts" in s]
    assert all(set(by_concept[c]) == {"test_concepts"} for c in whole)
    # Binomial: 3900 concepts at 8% have a standard deviation of 0.43%, 14350 cells of 0.23%.
    assert abs(len(whole) / 3900 - 0.08) < 0.018
    held = sum(s == "test_combinations" for s in splits.values())
    assert abs(held / (len(cells) - len(emoji.STYLES) * (len(whole) + 100)) - 0.08) < 0.01
    assert all("train" in by_concept[c] for c in by_concept if c not in whole)
    assert all(set(by_concept[c]) == {"train"} for c in pinned)


def test_no_everyday_thing_is_held_out_whole():
    """A newcomer asks for those; single cells of them are held out like others."""
    cells = [(f"thing {i}", s) for i in range(500) for s in emoji.STYLES]
    everyday = {f"thing {i}" for i in range(250)}
    splits = emoji.assign_splits(cells, (), everyday)
    whole = {concept for (concept, _), split in splits.items() if split == "test_concepts"}
    assert whole and not whole & everyday
    held = [c for (c, _), split in splits.items() if split == "test_combinations"]
    assert 0.5 < sum(c in everyday for c in held) / sum(c not in everyday for c in held) < 2
    drawing = emoji.Drawing("", emoji.Name("", "", "", (), ()), "bicycle", "noto", (), b"one")
    assert emoji.split_drawings([drawing])["train"] == [drawing]


def test_splits_do_not_depend_on_what_else_there_is():
    cells = [(f"thing {i}", s) for i in range(300) for s in emoji.STYLES]
    some = emoji.assign_splits(cells[:600])
    assert some.items() <= emoji.assign_splits(cells[::-1]).items()


def test_a_drawing_is_in_one_split_only():
    """Concepts that share one stay in train; the others are where they were."""

    def picture(concept, style, data):
        return emoji.Drawing("", emoji.Name("", "", "", (), ()), concept, style, (), data)

    pictures = [
        picture(f"thing {i}", style, f"{style} {i}".encode())
        for i in range(200)
        for style in emoji.STYLES
    ]
    alone = emoji.split_drawings(pictures)
    held = sorted({p.concept for p in alone["test_concepts"]})
    cell = alone["test_combinations"][0]
    trained = next(p for p in alone["train"] if p.concept not in (cell.concept, *held))
    # A chain: the first held concept's drawing is the second's too, whose other one is trained.
    chain = [picture(c, "noto", b"one") for c in held[:2]]
    chain += [picture(c, "flat", b"two") for c in (held[1], trained.concept)]
    twins = [picture(c, cell.style, b"three") for c in (cell.concept, trained.concept)]
    splits = emoji.split_drawings(pictures + chain + twins)
    moved = {*held[:2], cell.concept, trained.concept}
    assert moved <= {p.concept for p in splits["train"]}
    for name in ("test_concepts", "test_combinations"):
        assert splits[name] == [p for p in alone[name] if p.concept not in moved]


def test_prepared_counts(prepared, everything):
    out, made = prepared
    assert made["broken"] == ["flat/1f436"]
    # 3d, twemoji: 10 each; flat: 10 less the broken one; noto: a heart by alias and an apple; the
    # others: what has a name of emojibase's.
    drawn = [e["style"] for e in everything.values() if e["category"] != "recolored"]
    assert {s: drawn.count(s) for s in emoji.STYLES} == {
        "3d": 10,
        "flat": 9,
        "noto": 2,
        "twemoji": 10,
        "blob": 2,
        "mozilla": 2,
        "emojione": 2,
        "streamline": 1,
    }
    styles = [e["style"] for e in everything.values()]
    assert sum(sum(c.values()) for c in made["images"].values()) == len(styles) + 1


def test_no_skin_tones(everything):
    assert not any("1f3f" in key or "tone" in str(e["captions"]) for key, e in everything.items())


def test_genders_share_a_concept_and_a_split(prepared, everything):
    judges = [k for k in everything if "2696" in k]
    assert {everything[k]["concept"] for k in judges} == {"judge"}
    assert {everything[k]["captions"][0] for k in judges} == {
        "a judge",
        "a man judge",
        "a woman judge",
    }
    for style in ("3d", "flat", "twemoji"):
        where = [
            split
            for split in builder.split_sizes(prepared[0])
            for info in map(
                load_source(prepared[0], split).info, range(1000)[: _size(prepared, split)]
            )
            if info["concept"] == "judge" and info["style"] == style
        ]
        assert len(where) == 3
        assert len(set(where)) == 1


def _size(prepared, split):
    return builder.split_sizes(prepared[0])[split]


def test_drawings_are_on_white(everything):
    for key, color in [("flat/2764", (0, 255, 0)), ("noto/2764", (0, 0, 255))]:
        image = everything[key]["image"]
        assert image.shape == (64, 64, 3)
        assert tuple(image[32, 32]) == color
        assert tuple(image[0, 0]) == (255, 255, 255)
    bitmap = everything["3d/2764"]["image"]
    assert bitmap.shape == (256, 256, 3)
    assert tuple(bitmap[100, 100]) == (255, 0, 0)
    assert tuple(bitmap[200, 200]) == (255, 255, 255)


def test_odd_shapes_are_padded_to_squares(everything):
    assert everything["3d/2600"]["image"].shape == (264, 264, 3)


def test_captions_tags_and_categories(everything):
    sun = everything["flat/2600"]
    assert sun["captions"][0] == "the sun"
    assert sun["category"] == "sky-weather"
    assert "a car" in everything["3d/1f697"]["captions"]
    assert "dog emoji" in everything["3d/1f436"]["captions"]
    assert "hot stuff emoji" in everything["3d/1f525"]["captions"]


def test_the_same_drawings_give_the_same_bytes(packages, unpinned, prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(emoji, "PACKAGES", unpinned[0])
    monkeypatch.setattr(emoji, "NAMES", unpinned[1])
    prepare_emoji(tmp_path / "again", packages=packages, size=64)
    first = sorted(prepared[0].iterdir())
    assert first
    for path in first:
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_attribution_lies_beside_the_records(prepared):
    entries = json.loads((prepared[0] / "LICENSES.json").read_text())
    assert {e["part"]: e["license"] for e in entries} == {
        "3d": "MIT",
        "flat": "MIT",
        "noto": "Apache-2.0",
        "twemoji": "CC-BY-4.0",
        "blob": "Apache-2.0",
        "mozilla": "Apache-2.0",
        "emojione": "CC-BY-4.0",
        "streamline": "CC-BY-4.0",
        "names": "MIT",
    }
    assert "Microsoft" in (prepared[0] / "README.md").read_text()


def test_an_existing_folder_is_kept(prepared, packages):
    before = sorted(p.name for p in prepared[0].iterdir())
    with pytest.raises(UserError, match="exists"):
        prepare_emoji(prepared[0], packages=packages)
    assert sorted(p.name for p in prepared[0].iterdir()) == before


def test_an_unknown_style_is_named(tmp_path, packages):
    with pytest.raises(UserError, match="cubist"):
        prepare_emoji(tmp_path / "x", packages=packages, styles=("cubist",))


def test_select_by_concept_and_style(prepared):
    source = load_source(prepared[0], "train")
    hearts = select(source, concepts="red heart, sun", styles=("3d", "flat"))
    assert {hearts[i]["concept"] for i in range(len(hearts))} == {"red heart", "sun"}
    assert len(hearts) == 4
    common = select(source, concepts="common")
    assert "judge" not in {common.info(i)["concept"] for i in range(len(common))}
    everyday = select(source, concepts="everyday")
    concepts = {everyday.info(i)["concept"] for i in range(len(everyday))}
    assert {"red heart", "automobile"} <= concepts and "judge" not in concepts
    assert any(concept.endswith(" automobile") for concept in concepts)
    flags = select(source, concepts="no_flags")
    assert not any("flag" in flags.info(i)["category"] for i in range(len(flags)))
    with pytest.raises(UserError, match="nonsense"):
        select(source, concepts="nonsense")


def test_all_captions_are_those_of_the_examples(prepared):
    source = select(load_source(prepared[0], "train"), concepts="sun", styles=("3d", "flat"))
    lines = all_captions(source)
    assert lines == sorted(set(lines))
    assert {"the sun", "a 3d emoji of the sun", "a flat emoji of the sun"} <= set(lines)


def test_sets_are_found_by_name_and_version(prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("UNCLIP_DATA", str(prepared[0].parent))
    assert locate("emoji") == prepared[0]
    with pytest.raises(UserError, match="unclip data ingest"):
        locate("missing")
    with pytest.raises(UserError, match="no split 'dev'"):
        load_source("emoji", "dev")
    (tmp_path / "named").mkdir()
    (tmp_path / "named" / "1.0.0").symlink_to(prepared[0])
    assert locate(tmp_path / "named") == tmp_path / "named" / "1.0.0"


def test_a_broken_drawing_is_one_line():
    with pytest.raises(UserError, match="not a drawable SVG"):
        emoji.render_svg("<svg", 32)


def test_sets_without_code_points_are_read_by_name(everything):
    """By the label, else by a shortcode that is no other emoji's label."""
    named = {k for k in everything if k.split("/")[0] in emoji.NAMED_ALONE and k.count("/") == 1}
    assert named == {
        "blob/2764",
        "blob/1f697",
        "mozilla/1f436",
        "mozilla/1f697",
        "emojione/2600",
        "emojione/1f525",
        "streamline/1f436",
    }
    assert "a blob emoji of a red heart" in everything["blob/2764"]["captions"]


def test_things_are_there_in_further_colors(everything):
    """The mozilla car is blue (#0000ff): it is named so, and the other nine colors are made."""
    cars = {k: e for k, e in everything.items() if k.startswith("mozilla/1f697")}
    others = set(recolor.COLORS) - {"blue"}
    assert set(cars) == {"mozilla/1f697"} | {f"mozilla/1f697/{color}" for color in others}
    assert "a blue car" in cars["mozilla/1f697"]["captions"]
    red = cars["mozilla/1f697/red"]
    assert (red["captions"][0], red["concept"]) == ("a red car", "red automobile")
    assert not any("blue" in caption for caption in red["captions"])
    r, g, b = (int(v) for v in red["image"][32, 32])
    assert r > 180 and max(g, b) < 60
    assert not any(k.count("/") > 1 for k in everything if "2764" in k)  # hearts are not listed


def test_a_recolored_drawing_is_in_no_easier_split_than_its_original():
    """And of the pairs of thing and color about 8% are held out in all styles."""
    name = emoji.Name("", "automobile", "", (), ())
    colors = tuple(recolor.COLORS)

    def drawings(concept):
        for style in emoji.STYLES:
            plain = emoji.Drawing("", name, concept, style, (), f"{concept} {style}".encode())
            yield plain
            for color in colors:
                yield dataclasses.replace(plain, concept=f"{color} {concept}", color=color)

    everything = [d for i in range(300) for d in drawings(f"thing {i}")]
    splits = emoji.split_drawings(everything)
    where = {(d.concept, d.style): split for split, ds in splits.items() for d in ds}
    trained_pairs, held_pairs = 0, 0
    for drawing in everything:
        if not drawing.color:
            continue
        plain = drawing.concept.partition(" ")[2]
        original = where[plain, drawing.style]
        if original != "train":
            assert where[drawing.concept, drawing.style] == original
            continue
        held = {where[drawing.concept, s] for s in emoji.STYLES if where[plain, s] == "train"}
        assert len(held) == 1  # one split in all styles whose original is trained
        trained_pairs += held == {"train"}
        held_pairs += held == {"test_combinations"}
    share = held_pairs / (held_pairs + trained_pairs)
    assert abs(share - 0.08) < 0.02  # 2,700 pairs: a standard deviation of 0.5%


def test_vectors_are_drawn_at_any_size():
    svg = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 2 2"><path d="M0 0h1v2H0z"/></svg>'
    image = images.decode(emoji.render_svg(svg, 200))
    assert image.shape == (200, 200, 3)
    np.testing.assert_array_equal(image[:, :100], 0)
    np.testing.assert_array_equal(image[:, 100:], 255)
