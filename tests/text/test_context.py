"""Captions at another context length are those that the tokenizer makes for it."""

import jax.numpy as jnp
import numpy as np
import pytest

from unclip_jax.text.context import fit_context, until_eot
from unclip_jax.text.tokenizer import train_tokenizer


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
def test_until_eot_ends_at_the_largest_id(kind):
    tokens = kind([[8, 3, 9, 0, 0], [8, 9, 0, 0, 0], [8, 0, 0, 1, 9]])
    found = until_eot(tokens)
    assert type(found) is type(tokens) and found.sum(-1).tolist() == [3, 2, 5]


def test_the_mask_is_the_tokenizers():
    captions = ["a red heart", "", "the sun above a green apple and a blue car"]
    found = train_tokenizer(captions * 3, 540, 12).encode(captions)
    np.testing.assert_array_equal(until_eot(found.tokens), found.mask)
    assert found.truncated.any()  # cut at its EOT, which is then the last one


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
@pytest.mark.parametrize("end", range(1, 7))
def test_a_cut_caption_ends_with_its_end(end, kind):
    """Seven positions brought to four; the end of text, 9, stands at any of them."""
    ids = np.array([[8, 1, 2, 3, 4, 5, 6]])
    ids[0, end], ids[0, end + 1 :] = 9, 0
    expected = [*ids[0, :3], 9 if end >= 3 else 0]
    found = fit_context(kind(ids), 4)
    assert type(found) is type(kind(ids)) and found.tolist() == [expected]
    assert fit_context(kind(ids), 9).tolist() == [[*ids[0], 0, 0]]


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
def test_contexts_are_cut_as_the_tokenizer_cuts_them(kind):
    texts = ["a", "a red heart on a very long and winding road"]
    tokenizer = train_tokenizer(texts, 514)
    long = tokenizer.encode(texts, 60)
    for context in (8, 60, 80):
        expected = tokenizer.encode(texts, context)
        tokens = fit_context(kind(long.tokens), context)
        np.testing.assert_array_equal(tokens, expected.tokens)
        np.testing.assert_array_equal(until_eot(tokens), expected.mask)
