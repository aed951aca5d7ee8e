"""Attention against a loop in float64 NumPy, and what the masks let through."""

import jax.numpy as jnp
import numpy as np

from unclip_jax.nn.attention import attend, causal_mask, key_mask, split_heads


def loop_attention(q, k, v, mask):
    out = np.zeros(q.shape)
    for b, m, h in np.ndindex(q.shape[:3]):
        logits = k[b, :, h] @ q[b, m, h] / np.sqrt(q.shape[-1])
        weights = np.exp(logits - logits.max()) * mask[b, m]
        out[b, m, h] = weights @ v[b, :, h] / weights.sum()
    return out


def test_attend_equals_a_loop():
    rng = np.random.default_rng(0)
    q, k, v = rng.normal(size=(2, 5, 3, 4)), *rng.normal(size=(2, 2, 5, 3, 4))
    visible = np.array([[1, 1, 1, 1, 1], [1, 0, 1, 0, 0]], bool)
    mask = np.tril(np.ones((5, 5), bool)) & visible[:, None]
    ours = attend(
        *(jnp.asarray(x, jnp.float32) for x in (q, k, v)),
        causal_mask(5) & key_mask(jnp.asarray(visible)),
    )
    np.testing.assert_allclose(ours, loop_attention(q, k, v, mask), atol=1e-5)


def test_attend_takes_large_logits_in_bfloat16():
    q = jnp.full((1, 1, 1, 4), 100, jnp.bfloat16)
    k = jnp.stack([q[:, 0], -q[:, 0]], axis=1)
    v = jnp.stack([jnp.ones((1, 1, 4)), jnp.full((1, 1, 4), 2.0)], axis=1).astype(jnp.bfloat16)
    np.testing.assert_array_equal(attend(q, k, v).astype(jnp.float32), np.ones((1, 1, 1, 4)))


def test_split_heads_reads_q_k_v_head_by_head():
    q, k, v = split_heads(jnp.arange(12.0).reshape(1, 1, 12), heads=2, parts=3)
    np.testing.assert_array_equal(q[0, 0], [[0, 1], [6, 7]])
    np.testing.assert_array_equal(k[0, 0], [[2, 3], [8, 9]])
    np.testing.assert_array_equal(v[0, 0], [[4, 5], [10, 11]])


def test_half_precision_logits_are_compared_in_float32():
    """Logits 257 and 256, which one bfloat16 number stands for: weights sigmoid(1) and the rest."""
    q = jnp.full((1, 1, 1, 4), 2.0, jnp.bfloat16)  # by 4^-1/2: ones
    k = jnp.asarray([[255.0, 1, 1, 0], [256, 0, 0, 0]], jnp.bfloat16)[None, :, None]
    v = jnp.asarray([[1.0, 1, 1, 1], [0, 0, 0, 0]], jnp.bfloat16)[None, :, None]
    out = attend(q, k, v).astype(jnp.float32)
    np.testing.assert_allclose(out, np.full((1, 1, 1, 4), 1 / (1 + np.exp(-1))), rtol=2**-8)
