"""tokenizer.json, and the vocab.json with merges.txt of a CLIP folder."""

import functools
import gzip
import json
from pathlib import Path

from hypothesis import strategies as st

from tests.fuzz.framework import Target, kept_folder
from tests.fuzz.hostile import damaged, hostile_json


@functools.cache
def sample() -> Path:
    from tests.toy import CAPTIONS, CONTEXT
    from unclip_jax.text.tokenizer import train_tokenizer

    path = kept_folder("tokenizers") / "tokenizer.json"
    train_tokenizer(CAPTIONS * 3, 540, CONTEXT).save(path)
    return path


@functools.cache
def content() -> dict:
    return json.loads(sample().read_text(encoding="utf-8"))


def merges() -> bytes:
    pairs = content()["model"]["merges"]
    lines = [merge if isinstance(merge, str) else " ".join(merge) for merge in pairs]
    return "\n".join(["#version: 0.2", *lines]).encode()


def load(case: bytes, folder: Path) -> None:
    from unclip_jax.text.tokenizer import Tokenizer

    path = folder / "tokenizer.json"
    path.write_bytes(case)
    Tokenizer.load(path).encode(["a red heart", "déjà vu"])


def load_folder(case: tuple[bytes, bytes, bool], folder: Path) -> None:
    from unclip_jax.text.tokenizer import load_clip_folder

    vocab, lines, zipped = case
    if zipped:
        (folder / "bpe_simple_vocab_16e6.txt.gz").write_bytes(gzip.compress(lines, 1)[:-1])
    else:
        (folder / "vocab.json").write_bytes(vocab)
        (folder / "merges.txt").write_bytes(lines)
    load_clip_folder(folder).encode(["a red heart"])


def folders() -> st.SearchStrategy:
    vocab = json.dumps(content()["model"]["vocab"]).encode()
    hostile = st.tuples(
        hostile_json(content()["model"]["vocab"]), st.just(merges()), st.just(False)
    )
    return st.one_of(hostile, st.tuples(st.just(vocab), damaged(merges()), st.booleans()))


TARGETS = [
    Target("tokenizer.json", st.deferred(lambda: hostile_json(content())), load, ms=6.0),
    Target("vocab.json and merges", st.deferred(folders), load_folder, ms=6.0),
]
