import pytest

from unclip_jax.data import captions


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("red heart", "a red heart"),
        ("owl", "an owl"),
        ("hourglass", "an hourglass"),
        ("unicorn", "a unicorn"),
        ("euro banknote", "a euro banknote"),
        ("x-ray", "an x-ray"),
        ("SOS button", "an SOS button"),
        ("sun", "the sun"),
        ("sun behind cloud", "a sun behind cloud"),
        ("fire", "fire"),
        ("fire engine", "a fire engine"),
        ("heart on fire", "a heart on fire"),
        ("grapes", "grapes"),
        ("bus", "a bus"),
        ("cactus", "a cactus"),
        ("octopus", "an octopus"),
        ("dress", "a dress"),
        ("compass", "a compass"),
        ("nest with eggs", "a nest with eggs"),
        ("glass of milk", "a glass of milk"),
        ("glasses", "glasses"),
        ("women holding hands", "women holding hands"),
        ("ice hockey", "ice hockey"),
        ("rice ball", "a rice ball"),
        ("Santa Claus", "Santa Claus"),
        ("flag: France", "the flag of France"),
        ("man: red hair", "a man with red hair"),
        ("woman: bald", "a bald woman"),
        ("~flames", "flames"),
        ("the planet earth", "the planet earth"),
    ],
)
def test_articles(name, expected):
    assert captions.phrase(name) == expected


def test_captions_of_a_heart():
    lines = captions.make_captions("red heart", style="3d", tags=["love", "emotion"])
    assert lines[0] == "a red heart"
    assert {"a 3d emoji of a red heart", "red heart, 3d icon", "an emoji of a red heart"} <= set(
        lines
    )
    assert "red heart, love, emotion, 3d icon" in lines
    assert len(set(lines)) == len(lines)
    assert "red heart, flat icon" in captions.make_captions("red heart", style="flat")


def test_a_style_is_never_named_in_another_style():
    words = ("3d", "flat", "noto", "twemoji")
    for style in words:
        text = " ".join(captions.make_captions("owl", style=style))
        assert [w for w in words if w in text] == [style]


def test_every_fixed_prompt_is_a_caption_of_its_concept():
    prompts, synonyms = captions.pinned_prompts(), captions.synonyms()
    assert len(prompts) == 24
    for label, prompt in prompts.items():
        others = synonyms.get(label, ())
        for style in captions.STYLE_WORDS:
            assert prompt in captions.make_captions(label, style=style, other_names=others)


def test_common_list_is_distinct_and_holds_the_fixed_prompts():
    common = captions.common_concepts()
    assert len(set(common)) == len(common)
    assert 200 <= len(common) <= 300
    assert set(captions.pinned_prompts()) <= set(common)
    assert not any(label.startswith(("flag", "keycap")) for label in common)
