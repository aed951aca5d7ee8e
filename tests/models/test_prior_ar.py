"""The autoregressive prior: causal by gradient, uses what it is given, cached equals uncached."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import networks
from tests.shipped_configs import spec_of
from unclip_jax.core.errors import UserError
from unclip_jax.core.trees import count_params, flatten_paths
from unclip_jax.core.types import Cond
from unclip_jax.models.pca_codec import CodecConfig
from unclip_jax.models.prior_ar import PriorArConfig
from unclip_jax.models.stages import (
    StageSpec,
    abstract_params,
    make_module,
    spec_from_dict,
    spec_to_dict,
)
from unclip_jax.nn.causal import CrossInputs

K, BUCKETS = networks.CODEC.components, networks.CODEC.buckets
SAME = 1e-5  # float32 sums in another order

KINDS = {
    "tokens": {"text": "tokens"},
    "states": {},
    "bare states": {"encoder": None},
    "scanned": {"text": "tokens", "scanned": True},
}


@functools.cache
def made(kind):
    return networks.make(networks.prior_ar_spec(**KINDS[kind]))


def embedded(params, module, vectors, dot, cond):
    """The logits with the codes' vectors given instead of the codes, which have no gradient."""

    def forward(net, x):
        prefix = net._prefix(dot, cond)
        x = jnp.concatenate([prefix, x[:, :-1]], axis=1) + net.pos_embed[None, : K + 2]
        reading = CrossInputs(*net.caption(cond.text, False))
        return net._logits(net.trunk(x, reading)[0][:, 2:])

    return module.apply({"params": params}, vectors, method=forward)


@pytest.mark.parametrize("kind", ["tokens", "scanned"])
def test_logits_are_causal(kind):
    """The gradient of the logits of code i in code j is zero for j >= i, and not for j < i."""
    module, params, _ = made(kind)
    codes, dot, cond = networks.prior_ar_inputs()
    vectors = params["code_embed"]["embedding"][codes]

    def logits(x):
        return embedded(params, module, x, dot, cond)[0].sum(-1)

    jacobian = np.abs(jax.jit(jax.jacrev(logits))(vectors)[:, 0]).sum(-1)  # [i, j]
    assert (jacobian[np.triu_indices(K)] == 0).all()
    assert (jacobian[np.tril_indices(K, -1)] > 1e-6).all()


@pytest.mark.parametrize("kind", KINDS)
def test_every_input_changes_the_first_code(kind):
    _, params, apply = made(kind)
    codes, dot, cond = networks.prior_ar_inputs()
    out = apply(params, codes, dot, cond)
    assert out.shape == (2, K, BUCKETS) and out.dtype == jnp.float32
    caption = "tokens" if KINDS[kind].get("text") == "tokens" else "text_states"
    changed = [(codes, (dot + 1) % 7, cond)]
    for name in ("text_emb", caption):
        text = dataclasses.replace(cond.text, **{name: getattr(cond.text, name)[::-1]})
        changed.append((codes, dot, Cond(text=text)))
    for inputs in changed:
        assert jnp.abs(apply(params, *inputs) - out)[:, 0].max() > 1e-3
    other = apply(params, codes.at[:, -1].add(1) % BUCKETS, dot, cond)
    np.testing.assert_array_equal(other, out)  # nothing comes after the last code


@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_hidden(kind):
    _, params, apply = made(kind)
    codes, dot, cond = networks.prior_ar_inputs()
    text = dataclasses.replace(
        cond.text,  # caption 0 ends at position 1, so position 4 is padding in both
        tokens=cond.text.tokens.at[:, 4].set(5),
        text_states=cond.text.text_states.at[:, 4].add(1),
    )
    change = apply(params, codes, dot, Cond(text=text)) - apply(params, codes, dot, cond)
    assert jnp.abs(change).max() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_cached_steps_equal_the_whole_pass(kind):
    module, params, apply = made(kind)
    codes, dot, cond = networks.prior_ar_inputs()
    whole = apply(params, codes, dot, cond)

    @jax.jit
    def steps(params, codes):
        run = functools.partial(module.apply, {"params": params})
        logits, state = run(dot, cond, method="begin")
        found = [logits]
        for number in range(1, K):
            code = codes[:, number - 1]
            logits, state = run(code, jnp.int32(number), state, method="step")
            found.append(logits)
        return jnp.stack(found, axis=1)

    np.testing.assert_allclose(steps(params, codes), whole, atol=SAME)


def test_examples_do_not_see_each_other():
    _, params, apply = made("states")
    codes, dot, cond = networks.prior_ar_inputs()
    other = apply(params, codes.at[0].set(0), (dot.at[0].add(1)), cond)
    np.testing.assert_array_equal(other[1], apply(params, codes, dot, cond)[1])


def test_bfloat16_stays_close():
    spec = networks.prior_ar_spec()
    _, params, apply = made("states")
    exact = apply(params, *networks.prior_ar_inputs())
    rough = jax.jit(make_module(spec, jnp.bfloat16).apply)(
        {"params": params}, *networks.prior_ar_inputs()
    )
    assert rough.dtype == jnp.float32
    assert 0 < jnp.abs(rough - exact).max() / jnp.abs(exact).max() < 5e-2


def test_what_does_not_fit_is_named():
    module, params, _ = made("states")
    codes, dot, cond = networks.prior_ar_inputs()
    with pytest.raises(ValueError, match="cond.text is None"):
        module.apply({"params": params}, codes, dot, Cond())
    with pytest.raises(ValueError, match="3 codes for a prior"):
        module.apply({"params": params}, codes[:, :3], dot, cond)
    stack = networks.STACK
    with pytest.raises(ValueError, match="needs an encoder"):
        PriorArConfig(stack, CodecConfig(2), image_dim=4, vocab_size=9)
    cfg = PriorArConfig(stack, CodecConfig(2), image_dim=4, encoder=stack, context=5)
    with pytest.raises(UserError, match="model.vocab_size not set"):
        make_module(StageSpec("prior_ar", cfg))
    with pytest.raises(ValueError, match="at least 7"):
        PriorArConfig(stack, CodecConfig(5), 8, text="clip_states", text_dim=4, positions=6)
    with pytest.raises(ValueError, match="exceeds"):
        PriorArConfig(stack, CodecConfig(5), 4, text="clip_states", text_dim=4)


def test_spec_round_trip():
    spec = networks.prior_ar_spec(text="tokens")
    assert spec_from_dict(spec_to_dict(spec)) == spec


def test_the_papers_size():
    """12 L w^2 of self-attention and MLPs: 1.21B + 0.80B; table 3 says 1B."""
    flat = flatten_paths(abstract_params(spec_of("configs/paper/prior_ar.py")))

    def count(*prefixes, without=()):
        leaves = [
            leaf
            for path, leaf in flat.items()
            if path.startswith(prefixes) and not any(part in path for part in without)
        ]
        return count_params(leaves)

    encoder = count("caption/transformer")
    decoder = count("decoder", without=("cross", "ln_2"))
    assert encoder == pytest.approx(12 * 24 * 2048**2, rel=5e-3)
    assert decoder == pytest.approx(12 * 24 * 1664**2, rel=5e-3)
    w, e, layers = 1664, 2048, 24
    caption = layers * (12 * e**2 + 13 * e) + (49408 + 256 + 2) * e
    codes = layers * (12 * w**2 + 13 * w + 2 * w**2 + 2 * w * e + 6 * w)  # with cross-attention
    # Code and dot tables, head, positions, z_t's projection, first token, last norm.
    ends = (3 * 1024 + 384 + 1024 + 1 + 1 + 2) * w + 1024
    codec = 319 * 1024 + 1024 + 319 + 101
    assert count("") == caption + codes + ends + codec == 2_412_790_692


def test_the_sequence_begins_with_dot_text_embedding_and_first_token():
    """z_t comes at unit variance: its length does not matter."""
    module, params, _ = made("states")
    _, dot, cond = networks.prior_ar_inputs()
    found = np.asarray(module.apply({"params": params}, dot, cond, method="_prefix"))
    np.testing.assert_array_equal(found[:, 0], params["dot_embed"]["embedding"][dot])
    z = np.float64(cond.text.text_emb)
    unit = z / np.sqrt(np.square(z).mean(1, keepdims=True))
    proj = {name: np.float64(value) for name, value in params["text_emb_proj"].items()}
    np.testing.assert_allclose(found[:, 1], unit @ proj["kernel"] + proj["bias"], atol=1e-5)
    np.testing.assert_array_equal(found[:, 2], np.tile(params["bos"], (2, 1)))
