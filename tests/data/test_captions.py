import pytest

from unclip_jax.data.sets import captions


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
        ("keycap: 5", "a keycap with 5"),
        ("person: beard", "a person with a beard"),
        ("man walking: facing right", "a man walking, facing right"),
        ("family: man, boy", "a family of man, boy"),
        ("woman’s hat", "a woman's hat"),
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


def test_every_caption_of_a_name_its_other_names_and_tags():
    tags = ["heart", "love", "love", "red heart", "warm", "soft", "kind"]
    lines = captions.make_captions("red heart", style="noto", other_names=["~hearts"], tags=tags)
    assert lines == (
        "a red heart",
        "a noto emoji of a red heart",
        "red heart, noto icon",
        "a red heart in the noto style",
        "an emoji of a red heart",
        "red heart emoji",
        "hearts",
        "a noto emoji of hearts",
        "hearts, noto icon",
        "red heart, love, warm, noto icon",
        "red heart, soft, kind, noto icon",
        "red heart, kind",
    )
    plain = captions.make_captions("the planet earth")
    assert plain[:4] == (
        "the planet earth",
        "a picture of the planet earth",
        "planet earth, icon",
        "the planet earth on white",
    )


def test_packaged_tables_have_keys_values_and_no_comments():
    synonyms, pinned = captions.synonyms(), captions.pinned_prompts()
    for key, values in [*synonyms.items(), *((k, (v,)) for k, v in pinned.items())]:
        assert key == key.strip() and not key.startswith("#") and "=" not in key
        assert values and all(value and value == value.strip() for value in values)
        assert not any(mark in value for value in values for mark in ";=#")
    assert captions.emoji_names()["2764-200d-1f525"] == "heart on fire"
    assert not any(word.startswith("#") for word in captions.emoji_words())


def test_a_style_is_never_named_in_another_style():
    words = tuple(captions.STYLE_WORDS)
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


def test_color_captions_name_the_color_and_the_thing():
    lines = captions.color_captions("umbrella", "orange", style="flat")
    assert lines[:2] == ("an orange umbrella", "a flat emoji of an orange umbrella")
    assert all("orange" in line and "umbrella" in line for line in lines)
    assert captions.color_captions("glasses", "red")[0] == "red glasses"


def test_tables_of_things_name_emoji():
    labels = set(captions.emoji_names().values())
    assert set(captions.kinds()) <= labels
    assert set(captions.recolored_things()) <= labels
    assert set(captions.everyday_concepts()) <= labels
    assert set(captions.common_concepts()) <= set(captions.everyday_concepts())
    assert "flower" in captions.kinds()["tulip"]


def test_common_list_is_distinct_and_holds_the_fixed_prompts():
    common = captions.common_concepts()
    assert len(set(common)) == len(common)
    assert 200 <= len(common) <= 300
    assert set(captions.pinned_prompts()) <= set(common)
    assert not any(label.startswith(("flag", "keycap")) for label in common)
