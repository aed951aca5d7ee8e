"""cuDNN's attention: what it is given, where it is taken; the kernel itself runs on a GPU only."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unclip_jax.core import kernels, ready
from unclip_jax.core.errors import UserError
from unclip_jax.core.flops import work_of
from unclip_jax.nn.attention import attend, attend_fused, causal_mask, fits_cudnn
from unclip_jax.nn.remat import remat_module
from unclip_jax.nn.transformer import Block, TransformerConfig

M, N, HEADS, CHANNELS = 67, 85, 2, 16


def arrays(seed=0, dtype=jnp.bfloat16):
    rng = np.random.default_rng(seed)
    sizes = (2, M, HEADS, CHANNELS), (2, N, HEADS, CHANNELS), (2, N, HEADS, CHANNELS)
    return [jnp.asarray(rng.normal(size=size), dtype) for size in sizes]


def masks():
    """None, one per query with a query that sees nothing, and one per key."""
    visible = np.random.default_rng(1).random((2, 1, M, N)) < 0.5
    visible[0, 0, 3] = False
    visible[1, 0, 5] = np.arange(N) == N - 1
    return {"none": None, "query": jnp.asarray(visible), "key": jnp.asarray(visible[:, :, :1])}


@pytest.fixture
def on_a_gpu(monkeypatch):
    """Programs are traced as on a GPU with cuDNN, if the environment chooses it."""
    monkeypatch.setattr(kernels.jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(
        "jax._src.cudnn.fused_attention_stablehlo.check_cudnn_version", lambda: 91000
    )
    monkeypatch.setenv(kernels.VARIABLE, "cudnn")


def calls(function, *args):
    """Names of cuDNN's kernels in the program for NVIDIA GPUs."""
    traced = jax.jit(lambda *args: function(*args)).trace(*args)
    return re.findall(r"__cudnn\$\w+", traced.lower(lowering_platforms=("cuda",)).as_text())


@pytest.mark.parametrize("kind", ["none", "query", "key"])
def test_it_is_given_what_our_own_attention_computes(kind):
    """Values and gradients by JAX's own form of the call: half precision against float32."""
    mask = masks()[kind]
    weights = arrays(2)[0].astype(jnp.float32)
    weights = weights.at[0, 3].set(0.0)  # of the query that sees nothing only the value is the same

    def loss(attention):
        return lambda *qkv: (attention(*qkv, mask).astype(jnp.float32) * weights).sum()

    fused = lambda *args: attend_fused(*args, implementation="xla")  # noqa: E731
    wanted = jax.value_and_grad(loss(attend), (0, 1, 2))(*arrays(dtype=jnp.float32))
    wanted = jax.tree.map(np.asarray, wanted)
    found = jax.value_and_grad(loss(fused), (0, 1, 2))(*arrays())
    found = jax.tree.map(lambda x: np.asarray(x, np.float32), found)
    np.testing.assert_allclose(found[0], wanted[0], atol=0.5)
    for ours, theirs in zip(found[1], wanted[1], strict=True):
        assert np.linalg.norm(ours - theirs) < 0.02 * np.linalg.norm(theirs)
    q, k, v = arrays(dtype=jnp.float32)
    exact = attend(q, k, v + 1, mask)  # with a mean that shows whether keys that fill up count
    half = [x.astype(jnp.bfloat16) for x in (q, k, v + 1)]
    np.testing.assert_allclose(fused(*half, mask).astype(jnp.float32), exact, atol=0.02, rtol=0.005)


def test_the_environment_chooses_it_on_a_gpu(on_a_gpu, monkeypatch):
    """The kernel is called with a bias exactly where there is a mask, and in the backward pass."""
    mask = masks()["key"]
    loss = lambda *args: attend(*args).astype(jnp.float32).sum()  # noqa: E731
    assert calls(attend, *arrays()) == ["__cudnn$fmhaSoftmax"]
    both = ["__cudnn$fmhaScaleBiasSoftmax", "__cudnn$fmhaScaleBiasSoftmaxBackward"]
    assert calls(jax.grad(loss), *arrays(), mask) == both
    assert calls(attend, *arrays(dtype=jnp.float32)) == []
    with kernels.own_attention():
        assert calls(attend, *arrays()) == []
    for value in ("own", ""):
        monkeypatch.setenv(kernels.VARIABLE, value)
        assert calls(attend, *arrays()) == []
    monkeypatch.setenv(kernels.VARIABLE, "flash")
    with pytest.raises(UserError, match="UNCLIP_ATTENTION=flash: write one of own, cudnn"):
        attend(*arrays())


def test_elsewhere_it_is_not_taken(monkeypatch):
    monkeypatch.setenv(kernels.VARIABLE, "cudnn")
    assert calls(attend, *arrays()) == []


def test_a_block_that_is_computed_again_takes_it(on_a_gpu):
    """Forward, again before the backward pass, and that."""
    module = remat_module(Block, "dots")(TransformerConfig(64, 1, 2), jnp.bfloat16)
    x = jnp.zeros((1, 72, 64), jnp.bfloat16)
    with kernels.own_attention():
        params = module.init(jax.random.key(0), x, None, False)

    def loss(params, x):
        return module.apply(params, x, causal_mask(72), False).astype(jnp.float32).sum()

    found = calls(jax.grad(loss), params, x)
    assert found.count("__cudnn$fmhaScaleBiasSoftmaxBackward") == 1
    assert 1 <= found.count("__cudnn$fmhaScaleBiasSoftmax") <= 2


def test_what_fits():
    def fits(length, channels, dtype=jnp.bfloat16):
        return fits_cudnn(jnp.zeros((1, length, 1, channels), dtype))

    assert fits(64, 64) and fits(1024, 128) and fits(81, 8)
    assert not fits(63, 64) and not fits(64, 60) and not fits(64, 136)
    assert not fits(64, 64, jnp.float32)


def test_work_and_kept_programs_tell_the_kernels_apart(on_a_gpu, monkeypatch):
    """2 products of m x n x c a head; a kept program is another one under another kernel."""
    flops = 4.0 * 2 * HEADS * M * N * CHANNELS
    assert work_of(attend, *arrays()).flops == flops
    name = ready.entry_name(("a",))
    monkeypatch.delenv(kernels.VARIABLE)
    assert work_of(attend, *arrays()).flops == flops
    assert ready.entry_name(("a",)) != name
