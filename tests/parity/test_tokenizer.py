"""Live comparison with OpenAI's tokenizer on its own vocabulary file."""

import numpy as np
import pytest

from tests.clip_reference import VOCABULARY, reference_file, reference_module, reference_row
from tests.strings import varied_strings
from unclip_jax.text.tokenizer import CLIP_VOCAB_SIZE, clean_text, load_clip_folder


@pytest.fixture(scope="module")
def module():
    return reference_module()


@pytest.fixture(scope="module")
def reference(module):
    return module.SimpleTokenizer()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    source = reference_file(VOCABULARY)
    (folder / source.name).write_bytes(source.read_bytes())
    return load_clip_folder(folder)


def test_vocabulary_is_the_reference_s(tokenizer, reference):
    assert tokenizer.vocab_size == len(reference.encoder) == CLIP_VOCAB_SIZE
    assert tokenizer.sot_id == reference.encoder["<|startoftext|>"]
    assert tokenizer.eot_id == reference.encoder["<|endoftext|>"]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_thousand_strings_agree(tokenizer, reference, seed):
    texts = varied_strings(1000, seed)
    ours = tokenizer.encode(texts).tokens
    theirs = np.array([reference_row(reference, text, 77) for text in texts])
    differing = [ascii(texts[i]) for i in np.flatnonzero((ours != theirs).any(axis=1))]
    assert differing == []


def test_long_texts_agree_to_the_last_token(tokenizer, reference):
    texts = varied_strings(200, seed=2)
    ours = tokenizer.encode(texts, context=2048).tokens
    assert [list(row) for row in ours] == [reference_row(reference, t, 2048) for t in texts]


def test_cleaning_agrees(module):
    for text in varied_strings(1000, seed=3):
        assert clean_text(text) == module.whitespace_clean(module.basic_clean(text)).lower()
