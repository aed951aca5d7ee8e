"""The batch of guidance: what its unconditional half is conditioned on."""

import jax.numpy as jnp
import numpy as np

from unclip_jax.core.types import Cond, TextFeatures
from unclip_jax.models.denoising import cfg_batch


def marked(*values):
    """Caption features that show which they are."""
    return TextFeatures(text_emb=jnp.asarray(values, jnp.float32)[:, None] * jnp.ones((1, 4)))


def test_the_unconditional_half_has_no_embedding_and_the_empty_caption():
    low_res = jnp.arange(2.0)[:, None, None, None] * jnp.ones((1, 2, 2, 3))
    cond = Cond(
        image_emb=jnp.eye(2),
        image_keep=jnp.array([True, False]),
        text=marked(1, 2),
        low_res=low_res,
    )
    both = cfg_batch(cond, marked(9), 2)
    np.testing.assert_array_equal(both.image_emb, np.tile(np.eye(2), (2, 1)))
    assert both.image_keep.tolist() == [True, False, False, False]
    assert both.text.text_emb[:, 0].tolist() == [1, 2, 9, 9]
    assert both.low_res[:, 0, 0, 0].tolist() == [0, 1, 0, 1]


def test_the_unconditional_half_may_have_an_embedding_of_its_own():
    cond = Cond(
        image_emb=jnp.eye(2),
        image_keep=jnp.array([True, False]),
        negative_emb=5 * jnp.eye(2),
        text=marked(1, 2),
    )
    both = cfg_batch(cond, marked(9), 2)
    np.testing.assert_array_equal(both.image_emb, np.concatenate([np.eye(2), 5 * np.eye(2)]))
    assert both.image_keep.tolist() == [True, False, True, True]
    assert both.text.text_emb[:, 0].tolist() == [1, 2, 9, 9]
