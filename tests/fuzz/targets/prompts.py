"""Files of prompts, up to the tokens and file names made of them; manifests of bulk runs."""

import functools
import json
from pathlib import Path

from hypothesis import strategies as st

from tests.fuzz.framework import Target
from tests.fuzz.hostile import damaged, hostile_json

SAMPLE = "a red heart\n\n❤️ and a 🍕.\nein rotes Herz\n👩🏽‍🚀 'quoted'\t!\nСолнце &amp; 日本\n"
IDENTITY = {"settings": {"seed": 0, "size": 16}, "prompts": "0" * 16, "parameters": "1" * 64}


@functools.cache
def emoji_model():
    """Returns a bundle without parameters, read as one of the emoji set is."""
    from unclip_jax.checkpoint.bundle import Bundle
    from unclip_jax.text.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(["a red heart", "the sun"] * 3, 540, 12)
    provenance = {"stages": {"clip": {"data": {"name": "emoji"}}}}
    return Bundle(name="fuzz", stages={}, tokenizer=tokenizer, provenance=provenance)


def prompt_files() -> st.SearchStrategy[bytes]:
    def encoded(text: str) -> bytes:
        return text.encode("utf-8", "surrogatepass")

    emoji = st.sampled_from("❤️🍕🚀🇫🇷3️⃣👩🏽\u200d™\ufe0f\U0001faff\U000e0041\x00\u2028\ufeff")
    lines = st.lists(st.text(max_size=60) | st.lists(emoji, max_size=30).map("".join), max_size=8)
    long = st.integers(1, 3000).map(lambda n: "🍕" * n)
    texts = lines.map("\n".join).map(encoded) | long.map(encoded)
    return damaged(SAMPLE.encode()) | texts


def read(case: bytes, folder: Path) -> None:
    from unclip_jax.cli.sample import read_prompt_file
    from unclip_jax.sampling.pipeline import requests_for
    from unclip_jax.sampling.prompts import read_prompts, unknown_words
    from unclip_jax.workflows.text_to_image import file_name

    path = folder / "prompts.txt"
    path.write_bytes(case)
    requests = requests_for(read_prompt_file(str(path)), 1)[:20]
    model = emoji_model()
    prompts = [request.prompt for request in requests]
    model.tokenizer.encode(read_prompts(model, prompts))
    for request in requests:
        assert len(file_name(request)) < 80
        unknown_words(model, request.prompt)


def prompt_lists() -> st.SearchStrategy[bytes]:
    pair = {"prompt": "a blue car", "kind": "color and thing"}
    return hostile_json({"about": "plain prompts", "nouns": ["a cat", "a dog"], "pairs": [pair]})


def read_list(case: bytes, folder: Path) -> None:
    from unclip_jax.evals.prompts import read_prompts

    path = folder / "prompts.json"
    path.write_bytes(case)
    assert all(prompt.text.strip() for prompt in read_prompts(path))


STUDY = {"study": "0" * 16, "rater": "1"}


def answers() -> st.SearchStrategy[bytes]:
    return hostile_json({**STUDY, "answers": {"1": "first", "2": "not sure"}})


def read_rater(case: bytes, folder: Path) -> None:
    from unclip_jax.evals.preference_answers import Key, read_answers

    path = folder / "answers.json"
    path.write_bytes(case)
    kinds = {"1": "caption", "2": "diversity"}
    key = Key(STUDY["study"], "a", "b", kinds, {"1": True, "2": False})
    assert {answer.score for answer in read_answers([path], key)} <= {0.0, 0.5, 1.0}


def keys_of_pages() -> st.SearchStrategy[bytes]:
    question = {"kind": "caption", "caption": "a cat", "first": "model"}
    names = {"study": STUDY["study"], "model": "a", "baseline": "b"}
    return hostile_json({**names, "questions": {"1": question}})


def read_page_key(case: bytes, folder: Path) -> None:
    from unclip_jax.evals.preference_answers import read_key

    path = folder / "preference_key.json"
    path.write_bytes(case)
    key = read_key(path)
    assert key.kinds.keys() == key.first.keys()


def rating_tables() -> st.SearchStrategy[bytes]:
    rows = b"image,rating\n" + b"".join(b"%d.png,%d\n" % (i, i % 5) for i in range(24))
    lines = st.lists(hostile_json({"image": "1.png", "rating": 4.5}), min_size=1, max_size=30)
    return damaged(rows) | lines.map(b"\n".join)


def read_table(case: bytes, folder: Path) -> None:
    from unclip_jax.evals.ratings import read_ratings

    path = folder / ("ratings.csv" if case[:1] == b"i" else "ratings.jsonl")
    path.write_bytes(case)
    rated = read_ratings(path)
    assert len(rated.paths) == len(rated.ratings) and abs(rated.ratings).max() < float("inf")


def manifests() -> st.SearchStrategy[bytes]:
    return hostile_json({"images": [], **IDENTITY, "complete": False})


def go_on(case: bytes, folder: Path) -> None:
    from unclip_jax.workflows.text_to_image import SampleJob, can_resume

    out = folder / "out"
    out.mkdir()
    (out / "manifest.json").write_bytes(case)
    job = SampleJob(*(["a red heart"], "emoji", out, {}), num=1, seed=0, overwrite=False, bulk=True)
    (folder / "scratch").mkdir()
    if can_resume(job, job.requests, folder / "scratch", IDENTITY):
        held = json.loads(case)
        assert {key: held[key] for key in IDENTITY} == IDENTITY


TARGETS = [
    Target("--prompts FILE", st.deferred(prompt_files), read, ms=20.0),
    Target("--prompts-file of eval", st.deferred(prompt_lists), read_list, ms=3.0),
    Target("--answers of eval", st.deferred(answers), read_rater, ms=3.0),
    Target("--ratings of eval", st.deferred(rating_tables), read_table, ms=3.0),
    Target("preference_key.json", st.deferred(keys_of_pages), read_page_key, ms=3.0),
    Target("manifest.json of a bulk run", st.deferred(manifests), go_on, ms=3.0),
]
