import jax
import jax.numpy as jnp
import numpy as np

from unclip_jax.core.types import Cond, TextFeatures, where_text


def features(rng, n, with_tokens=True):
    return TextFeatures(
        text_emb=jnp.asarray(rng.normal(size=(n, 4)), jnp.float32),
        text_states=jnp.asarray(rng.normal(size=(n, 3, 5)), jnp.float32),
        text_mask=jnp.asarray(rng.integers(0, 2, (n, 3)), bool),
        clip_tokens=jnp.asarray(rng.integers(0, 9, (n, 3)), jnp.int32),
        tokens=jnp.asarray(rng.integers(0, 9, (n, 6)), jnp.int32) if with_tokens else None,
    )


def test_where_text_takes_whole_captions():
    rng = np.random.default_rng(0)
    text, empty = features(rng, 4), features(rng, 1)
    keep = np.array([True, False, True, False])
    mixed = jax.jit(where_text)(jnp.asarray(keep), text, empty)
    for name in ("text_emb", "text_states", "text_mask", "clip_tokens", "tokens"):
        given, null = np.asarray(getattr(text, name)), np.asarray(getattr(empty, name))
        expected = np.stack([given[i] if keep[i] else null[0] for i in range(4)])
        result = getattr(mixed, name)
        np.testing.assert_array_equal(result, expected)
        assert result.dtype == given.dtype


def test_where_text_leaves_absent_fields_absent():
    rng = np.random.default_rng(1)
    text, empty = features(rng, 2, with_tokens=False), features(rng, 2, with_tokens=False)
    mixed = where_text(jnp.array([False, False]), text, empty)
    assert mixed.tokens is None
    np.testing.assert_array_equal(mixed.text_emb, empty.text_emb)


def test_structs_go_through_tree_maps_that_return_no_arrays():
    cond = Cond(image_emb=jnp.zeros((2, 3)), text=TextFeatures(text_emb=jnp.zeros((2, 3))))
    shapes = jax.tree.map(lambda leaf: leaf.shape, cond)
    assert (shapes.image_emb, shapes.text.text_emb, shapes.low_res) == ((2, 3), (2, 3), None)
    axes = Cond(image_emb=0, text=TextFeatures(text_emb=0))
    total = jax.vmap(lambda c: c.image_emb.sum() + c.text.text_emb.sum(), in_axes=(axes,))
    assert total(cond).shape == (2,)
