"""The suite of plain prompts: its file, its ranks, its verdicts."""

import dataclasses
import json

import numpy as np
import pytest

from tests.toy import toy_bundle
from unclip_jax.core.errors import UserError
from unclip_jax.evals.clip_encoder import ClipEncoder
from unclip_jax.evals.prompts import Prompt, prompt_metrics, ranks_of, read_prompts
from unclip_jax.evals.runner import run_suite
from unclip_jax.evals.settings import Settings


def test_prompts_are_read_by_group(tmp_path):
    path = tmp_path / "list.json"
    pair = {"prompt": " a blue car ", "kind": "color"}
    path.write_text(json.dumps({"about": "a note", "nouns": ["a cat"], "pairs": [pair]}))
    assert read_prompts(path) == [
        Prompt("a cat", "nouns"),
        Prompt("a blue car", "pairs", "color"),
    ]
    plain = tmp_path / "list.txt"
    plain.write_text("a cat\n\n a dog \n")
    assert read_prompts(plain) == [Prompt("a cat", "prompts"), Prompt("a dog", "prompts")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "has no prompts"),
        ('{"nouns": [""]}', "nouns has an entry that is no prompt"),
        ('{"nouns": [3]}', "nouns has an entry that is no prompt"),
        ('{"nouns": [{"prompt": "a cat", "kind": 1}]}', "nouns has an entry"),
        ('{"nouns": {"a": 1}}', "nouns is no list"),
        ('["a cat"]', "list.json"),
    ],
)
def test_another_form_is_one_line(tmp_path, text, words):
    path = tmp_path / "list.json"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        read_prompts(path)
    with pytest.raises(UserError, match=r"missing\.txt"):
        read_prompts(tmp_path / "missing.txt")


def test_a_rank_counts_the_texts_that_fit_as_well():
    """Image 0 is its text; image 1 is nearer to text 2; image 2 fits two texts equally well."""
    image_emb = np.array([[1.0, 0.0, 0.0], [0.0, 0.6, 0.8], [0.0, 0.0, 2.0]])
    text_emb = np.array([[3.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.5]])
    assert ranks_of(image_emb, text_emb, [0, 1, 2]).tolist() == [1, 3, 2]


def test_a_prompt_given_twice_is_one_text():
    """Two images of text 0: neither ranks below a copy of its own text."""
    image_emb = np.array([[1.0, 0.1], [1.0, 0.2], [0.0, 1.0]])
    assert ranks_of(image_emb, np.eye(2), [0, 0, 1]).tolist() == [1, 1, 1]


def test_hits_are_counted_by_group_and_kind():
    prompts = [Prompt("a", "nouns"), Prompt("b", "nouns"), Prompt("c", "pairs", "color")]
    results = prompt_metrics(prompts, np.array([1, 6, 5]), 50)
    values = {name: (metric.value, metric.n) for name, metric in results.items()}
    assert values == {
        "nouns/top_1": (0.5, 2),
        "nouns/top_5": (0.5, 2),
        "pairs/top_1": (0.0, 1),
        "pairs/top_5": (1.0, 1),
        "pairs/color/top_1": (0.0, 1),
        "pairs/color/top_5": (1.0, 1),
    }
    assert results["nouns/top_5"].baseline == pytest.approx(0.1)


def test_what_the_suite_needs_is_named(tmp_path):
    settings = Settings("shapes")
    with pytest.raises(UserError, match="pass --eval-clip"):
        run_suite("prompts", toy_bundle(), settings)
    with pytest.raises(UserError, match="pass --prompts-file"):
        run_suite("prompts", toy_bundle(), Settings("shapes", eval_clip=toy_bundle()))


def test_a_clip_without_an_image_tower_is_refused_before_the_sampling(tmp_path, monkeypatch):
    path = tmp_path / "list.txt"
    path.write_text("a cat\n")
    whole = toy_bundle()
    clip = whole.stages["clip"]
    spec = dataclasses.replace(clip.spec, model=dataclasses.replace(clip.spec.model, vision=None))
    stages = {"clip": dataclasses.replace(clip, spec=spec)}
    judge = dataclasses.replace(whole, stages=stages)
    monkeypatch.setattr("unclip_jax.api.sample", lambda *args, **options: pytest.fail("sampled"))
    with pytest.raises(UserError, match="no image tower"):
        run_suite("prompts", whole, Settings("shapes", eval_clip=judge, prompts_file=path))


def test_a_file_that_is_no_text_is_one_line(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not UTF-8 text"):
        read_prompts(path)


def test_every_prompt_gets_a_verdict(tmp_path, monkeypatch):
    """Also one that is there twice, which the CLIP embeds once."""
    path = tmp_path / "list.txt"
    path.write_text("a cat\na cat\na dog\n")
    embedded = []
    captions = ClipEncoder.captions
    monkeypatch.setattr(
        ClipEncoder, "captions", lambda *args: embedded.append(args[1]) or captions(*args)
    )
    model = toy_bundle()
    settings = Settings("shapes", eval_clip=model, prompts_file=path, image_folder=tmp_path)
    results = run_suite("prompts", model, settings)
    assert results["prompts/top_1"].n == 3
    assert len(set(embedded[0])) == len(embedded[0])
    verdicts = json.loads((tmp_path / "prompts_verdicts.json").read_text())
    assert [v["prompt"] for v in verdicts] == ["a cat", "a cat", "a dog"]
    assert all(v["rank"] >= 1 and v["eye"] is None for v in verdicts)
    assert (tmp_path / "prompts_images.png").stat().st_size > 0
