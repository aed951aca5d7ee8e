import collections
import gzip
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as HuggingFaceTokenizer

from unclip_jax.core.errors import UserError
from unclip_jax.text import tokenizer as module
from unclip_jax.text.tokenizer import (
    CLIP_VOCAB_SIZE,
    Tokenizer,
    build_vocab,
    clean_text,
    load_clip_folder,
    train_tokenizer,
)

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
VOCABULARY = GOLDEN / "clip_vocabulary"
CAPTIONS = [
    f"{article} {colour} {form} in the {style} style"
    for article in ("a", "the", "one")
    for colour in ("red", "dark red", "blue", "light blue", "green")
    for form in ("circle", "square", "triangle", "star's edge")
    for style in ("flat", "3D", "high-contrast")
]


@pytest.fixture(scope="module")
def clip():
    return load_clip_folder(VOCABULARY)


@pytest.fixture(scope="module")
def trained():
    return train_tokenizer(CAPTIONS, 560, context=16)


def test_golden_rows_of_the_reference(clip):
    golden = json.loads((GOLDEN / "clip_tokens.json").read_text(encoding="utf-8"))
    cases, context = golden["cases"], golden["context"]
    tokens, mask, _ = clip.encode([case["text"] for case in cases], context)
    for case, row, real in zip(cases, tokens, mask, strict=True):
        length = len(case["ids"])
        assert row.tolist() == case["ids"] + [0] * (context - length), ascii(case["text"])
        assert real.tolist() == [True] * length + [False] * (context - length)
    assert len(cases) == 240


def test_clip_vocabulary_has_clip_s_ids(clip):
    assert (clip.vocab_size, clip.sot_id, clip.eot_id) == (CLIP_VOCAB_SIZE, 49406, 49407)
    assert clip.pad_id == 0
    assert clip.context == 77
    row = clip.encode(["a photo of a cat"]).tokens[0]  # as published with CLIP
    assert row[:8].tolist() == [49406, 320, 1125, 539, 320, 2368, 49407, 0]


@pytest.fixture
def layouts(tmp_path, clip):
    """One folder for each layout that vocabularies are handed round in."""
    merges = [merge for merge in gzip.decompress(_merges_file().read_bytes()).decode().split("\n")]
    openai, hub, pipeline, single = (tmp_path / n for n in ("openai", "hub", "pipeline", "single"))
    for folder in (openai, hub, pipeline / "tokenizer", single):
        folder.mkdir(parents=True)
    (openai / "bpe_simple_vocab_16e6.txt").write_text("\n".join(merges), encoding="utf-8")
    vocab = build_vocab([tuple(merge.split()) for merge in merges[1:-1]])
    for folder in (hub, pipeline / "tokenizer"):
        (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
        text = "\n".join(["#version: 0.2", *merges[1:]])
        (folder / "merges.txt").write_text(text, encoding="utf-8")
    clip.save(single / "tokenizer.json")
    return openai, hub, pipeline, single


def _merges_file() -> Path:
    return VOCABULARY / "bpe_simple_vocab_16e6.txt.gz"


def test_every_layout_gives_the_same_tokenizer(layouts, clip):
    texts = ["A red heart, isn't it? ❤️", "東京 &amp; café", ""]
    for folder in layouts:
        loaded = load_clip_folder(folder)
        assert loaded.vocab_size == CLIP_VOCAB_SIZE
        np.testing.assert_array_equal(loaded.encode(texts).tokens, clip.encode(texts).tokens)


def test_cleaning():
    assert clean_text("  A\tRed\n\nHEART ") == "a red heart"
    assert clean_text("&amp;lt;b&amp;gt;") == "<b>"
    assert clean_text("<b> &amp;amp;amp;") == "<b> &amp;"  # twice; ftfy leaves what holds "<"
    assert clean_text("caf\u00c3\u00a9") == "caf\u00e9"  # mojibake mended
    assert clean_text("\u2018quoted\u2019") == "'quoted'"
    assert clean_text("\ud83d\ude00") == "\U0001f600"  # a surrogate pair is one character
    assert clean_text("") == ""


@pytest.mark.parametrize("text", ["\ud83d", "a \udc80 b", "\ude00\ud83d", "x" * 500 + "\udfff"])
def test_a_lone_surrogate_is_one_clear_line(trained, text):
    with pytest.raises(UserError, match="lone surrogate") as error:
        trained.encode(["fine", text])
    assert len(str(error.value).encode("utf-8").splitlines()) == 1
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("which", ["clip", "trained"])
def test_special_tokens_in_a_text_are_text(which, request):
    tokenizer = request.getfixturevalue(which)
    texts = ["<|endoftext|>", "a<|startoftext|>b <|ENDOFTEXT|>", "&lt;|endoftext|&gt;", "!"]
    for row, mask in zip(*tokenizer.encode(texts, 128)[:2], strict=True):
        inner = row[mask][1:-1]
        assert not np.isin(inner, [tokenizer.sot_id, tokenizer.eot_id, tokenizer.pad_id]).any()
        assert row.argmax() == mask.sum() - 1  # the tower finds the true end


def test_long_texts_lose_their_last_pieces_keep_eot_and_are_flagged(trained):
    fits, cut = "square " + "circle " * 13, "square " + "circle " * 14
    tokens, mask, truncated = trained.encode([fits, cut, ""])
    square, circle = (trained.encode([word]).tokens[0, 1] for word in ("square", "circle"))
    assert trained.encode(["circle", "square"]).mask.sum(axis=1).tolist() == [3, 3]
    expected = [trained.sot_id, square, *[circle] * 13, trained.eot_id]
    assert tokens[0].tolist() == tokens[1].tolist() == expected
    assert truncated.tolist() == [False, True, False]
    assert mask.sum(axis=1).tolist() == [16, 16, 2]


def test_encode_refuses_what_it_cannot_mean(trained):
    with pytest.raises(TypeError):
        trained.encode("one string")
    with pytest.raises(ValueError, match="context"):
        trained.encode(["a"], context=1)
    assert trained.encode([]).tokens.shape == (0, 16)


def test_trained_vocabulary_has_clip_s_layout(trained):
    assert trained.encode(["red circle"]).tokens[0, 0] == trained.sot_id == 558
    assert trained.eot_id == trained.vocab_size - 1 == 559
    assert trained.decode([0]) == "!"
    assert trained.context == 16


def _words(captions):
    """Counts the words of CAPTIONS, cut by hand as CLIP's pattern cuts, as tuples of symbols."""
    counts = collections.Counter()
    for caption in captions:
        for word in (
            caption.lower().replace("'s", " 's").replace("-", " - ").replace("3d", "3 d").split()
        ):
            counts[(*word[:-1], word[-1] + "</w>")] += 1
    return counts


def naive_merges(captions, count):
    """Byte-pair encoding by its definition (Sennrich et al. 2016): merge the commonest pair.

    Ties go to the pair with the smaller ids, a later merge having the larger id.
    """
    words = _words(captions)
    printable = [chr(i) for i in (*range(33, 127), *range(161, 173), *range(174, 256))]
    ids = {symbol: i for i, symbol in enumerate(printable)}
    ids |= {symbol + "</w>": 256 + i for i, symbol in enumerate(printable)}
    merges = []
    while len(merges) < count:
        pairs = collections.Counter()
        for word, times in words.items():
            for pair in zip(word, word[1:], strict=False):
                pairs[pair] += times
        best = min(pairs, key=lambda pair: (-pairs[pair], ids[pair[0]], ids[pair[1]]))
        merges.append(best)
        ids.setdefault("".join(best), 512 + len(merges))
        words = collections.Counter({_merge(word, best): times for word, times in words.items()})
    return merges


def _merge(word, pair):
    merged, i = [], 0
    while i < len(word):
        joined = word[i : i + 2] == pair
        merged.append("".join(pair) if joined else word[i])
        i += 2 if joined else 1
    return tuple(merged)


def test_training_merges_the_commonest_pairs(tmp_path, trained):
    trained.save(tmp_path / "tokenizer.json")
    saved = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    merges = [tuple(merge) for merge in saved["model"]["merges"]]
    assert merges == naive_merges(CAPTIONS, len(merges))
    assert len(merges) == 560 - 514


def test_training_does_not_depend_on_order_or_process(tmp_path, trained):
    trained.save(tmp_path / "here.json")
    train_tokenizer(CAPTIONS[::-1], 560, context=16).save(tmp_path / "reversed.json")
    code = (
        "import json, sys\n"
        "from unclip_jax.text.tokenizer import train_tokenizer\n"
        "train_tokenizer(json.loads(sys.argv[1]), 560, context=16).save(sys.argv[2])\n"
        "print(sorted({'torch', 'tensorflow', 'jax'} & set(sys.modules)))\n"
    )
    there = tmp_path / "there.json"
    command = [sys.executable, "-c", code, json.dumps(CAPTIONS), str(there)]
    run = subprocess.run(command, cwd=GOLDEN.parents[1], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"  # and a tokenizer needs none of them
    here = (tmp_path / "here.json").read_bytes()
    assert here == (tmp_path / "reversed.json").read_bytes() == there.read_bytes()


def test_training_on_few_captions_gives_a_smaller_vocabulary():
    assert train_tokenizer([], 1000).vocab_size == 514
    assert train_tokenizer(["xy xy"], 1000).vocab_size == 515
    with pytest.raises(UserError, match="514"):
        train_tokenizer(CAPTIONS, 513)


@settings(deadline=None, max_examples=200)
@given(st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=40))
def test_decoding_gives_the_cleaned_text_back(trained, text):
    row = trained.encode([text], context=512).tokens[0]
    ids = row[1 : row.argmax()]
    clean = clean_text(text).replace("\u0345", "")  # the one character CLIP's pattern drops
    assert "".join(trained.decode(ids).split()) == "".join(clean.split())


@settings(deadline=None, max_examples=200)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_any_text_becomes_a_well_formed_row(trained, text):
    tokens, mask, truncated = trained.encode([text, "", text])
    length = mask[0].sum()
    assert mask[0].tolist() == [True] * length + [False] * (16 - length)
    assert tokens[0, 0] == trained.sot_id
    assert np.flatnonzero(tokens[0] == trained.eot_id).tolist() == [length - 1]
    assert not tokens[0, length:].any()
    np.testing.assert_array_equal(tokens[0], tokens[2])  # no text sees its neighbours
    assert truncated[0] == truncated[2]


def test_saving_keeps_everything(tmp_path, trained):
    trained.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    loaded.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "tokenizer.json").read_bytes()
    assert loaded.context == trained.context == 16
    assert Tokenizer.load(tmp_path / "tokenizer.json", context=20).context == 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.json", "tokenizer.json"]


def test_saved_file_serves_other_programs(tmp_path, trained):
    """The `tokenizers` library alone gives the same rows for clean text."""
    trained.save(tmp_path / "tokenizer.json")
    other = HuggingFaceTokenizer.from_file(str(tmp_path / "tokenizer.json"))
    texts = ["a dark red circle!", "", "the star's edge in the high-contrast style " * 3]
    rows = [encoding.ids for encoding in other.encode_batch(texts)]
    np.testing.assert_array_equal(rows, trained.encode(texts).tokens)


def test_a_pickled_tokenizer_is_the_same(trained):
    copy = pickle.loads(pickle.dumps(trained))
    np.testing.assert_array_equal(copy.encode(CAPTIONS).tokens, trained.encode(CAPTIONS).tokens)


def test_the_encoder_is_the_one_inside_transformers_class(clip):
    """All but what is meant to differ: the normalizer and the pattern."""
    from transformers import CLIPTokenizer

    theirs = CLIPTokenizer(vocab=clip.vocab, merges=clip.merges, split_special_tokens=True)
    found = json.loads(clip._backend.to_str())
    expected = json.loads(theirs.backend_tokenizer.to_str())
    differing = {key for key in expected if found[key] != expected[key]}
    assert differing == {"normalizer", "pre_tokenizer"}
    assert clip._backend.encode_special_tokens == theirs.backend_tokenizer.encode_special_tokens


def test_a_vocabulary_that_transformers_reads_otherwise_is_refused(monkeypatch):
    class Other:
        def __init__(self, vocab, merges):
            self.sot, self.eot = vocab[module.SOT], vocab[module.EOT]

        def __call__(self, texts):
            return {"input_ids": [[self.sot, self.eot] for _ in texts]}

    monkeypatch.setattr(module, "_clip_tokenizer_class", lambda: Other)
    with pytest.raises(UserError, match="clip_vocabulary: transformers' CLIPTokenizer encodes"):
        load_clip_folder(VOCABULARY)


def _bad_vocabularies():
    good = build_vocab([("a", "b")])
    swapped = good | {module.SOT: good[module.EOT], module.EOT: good[module.SOT]}
    gap = {token: i + (i > 100) for token, i in good.items()}
    renamed = {("word" if token == "!" else token): i for token, i in good.items()}
    return {
        "last two": (swapped, [("a", "b")]),
        "not 0..": (gap, [("a", "b")]),
        "byte symbols": (renamed, [("a", "b")]),
        "not in the vocabulary": (good, [("b", "a")]),
    }


@pytest.mark.parametrize("message", list(_bad_vocabularies()))
def test_a_vocabulary_of_another_layout_is_refused(message):
    with pytest.raises(UserError, match=message):
        Tokenizer(*_bad_vocabularies()[message])


def _write(folder, **files):
    for name, content in files.items():
        name = name.replace("_json", ".json").replace("_txt", ".txt").replace("_gz", ".gz")
        data = content if isinstance(content, bytes) else content.encode("utf-8")
        (folder / name).write_bytes(data)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no CLIP vocabulary"),
        ({"tokenizer_json": "{"}, "not readable as JSON"),
        ({"tokenizer_json": "[]"}, "not a JSON object"),
        ({"tokenizer_json": '{"model": {"type": "Unigram"}}'}, "not a CLIP tokenizer"),
        ({"vocab_json": "{}", "merges_txt": "#version: 0.2\na b\nabc\n"}, "not a pair"),
        ({"vocab_json": '{"a": "b"}', "merges_txt": ""}, "not a mapping"),
        ({"vocab_json": "{}", "merges_txt": b"\xff\xfe"}, "cannot be read"),
        ({"bpe_simple_vocab_16e6_txt": "#version\na b\n"}, "1 merges instead of 48894"),
        ({"bpe_simple_vocab_16e6_txt_gz": b"no gzip"}, "cannot be read"),
        ({"bpe_simple_vocab_16e6_txt_gz": gzip.compress(b"a b\n" * 999)[:-9]}, "cannot be read"),
    ],
)
def test_a_bad_folder_is_one_clear_line(tmp_path, files, message):
    _write(tmp_path, **files)
    with pytest.raises(UserError, match=message) as error:
        load_clip_folder(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_folder_or_file_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="is not a folder"):
        load_clip_folder(tmp_path / "nowhere")
    with pytest.raises(UserError, match="cannot read"):
        Tokenizer.load(tmp_path / "nowhere.json")


def test_importing_the_module_loads_nothing_heavy():
    code = (
        "import sys\n"
        "import unclip_jax.text.tokenizer\n"
        "heavy = {'torch', 'tensorflow', 'jax', 'transformers', 'tokenizers', 'ftfy'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=GOLDEN.parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == "[]\n"


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("truncation.max_length", "77", "truncation.max_length"),
        ("truncation.max_length", 1, "truncation.max_length"),
        ("truncation.max_length", 10**12, "truncation.max_length"),
        ("truncation", [77], "truncation.max_length"),
        ("model.merges", {"a": 1}, "merges"),
        ("model.merges", 5, "merges"),
        ("model.merges", [7], "not a pair"),
        ("model.merges", [None], "not a pair"),
        ("model.merges", [["a", 1]], "not a pair"),
        ("model.vocab", None, "vocabulary"),
        ("model.vocab", {"a": 0.5}, "vocabulary"),
        ("model", "x", "not a CLIP tokenizer"),
    ],
)
def test_a_value_of_a_wrong_kind_is_one_line(trained, tmp_path, path, value, words):
    trained.save(tmp_path / "tokenizer.json")
    content = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    *parents, last = path.split(".")
    part = content
    for key in parents:
        part = part[key]
    part[last] = value
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=words) as error:
        Tokenizer.load(tmp_path / "tokenizer.json")
    assert str(tmp_path / "tokenizer.json") in str(error.value)


def test_a_pair_that_occurs_once_is_not_merged():
    assert train_tokenizer(["xy"], 1000).vocab_size == 514
