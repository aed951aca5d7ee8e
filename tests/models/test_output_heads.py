"""In bfloat16 the last norm and layer of each network compute in float32.

The head is computed again in float64, from the trunk's own output, and must agree to float32's
rounding: bfloat16 misses by 100 times the tolerance.
"""

import jax
import jax.numpy as jnp
import numpy as np

from tests import networks
from unclip_jax.core.types import Cond
from unclip_jax.models.stages import make_module

NORM_EPS = 1e-5
CLOSE = 2e-5  # float32 against float64, relative to the largest output


def captured(spec, inputs):
    """Parameters, output and what every submodule returned, in bfloat16."""
    params = networks.make(spec)[1]
    module = make_module(spec, jnp.bfloat16)
    run = jax.jit(
        lambda p, *a: module.apply({"params": p}, *a, capture_intermediates=True),
        # Else a head fused with its trunk sees values that were never rounded to bfloat16.
        compiler_options={"xla_allow_excess_precision": False},
    )
    out, state = run(params, *inputs)
    return params, out, state["intermediates"]


def float64(tree):
    return jax.tree.map(lambda a: np.asarray(a, np.float64), tree)


def layer_norm(x, p):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + NORM_EPS) * p["scale"] + p["bias"]


def group_norm(x, p, groups):
    n, h, w, c = x.shape
    x = x.reshape(n, h, w, groups, c // groups)
    x = x - x.mean((1, 2, 4), keepdims=True)
    x = x / np.sqrt((x**2).mean((1, 2, 4), keepdims=True) + NORM_EPS)
    return x.reshape(n, h, w, c) * p["scale"] + p["bias"]


def conv3(x, p):
    h, w = x.shape[1:3]
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [x[:, i : i + h, j : j + w] @ p["kernel"][i, j] for i in range(3) for j in range(3)]
    return sum(taps) + p["bias"]


def assert_same(out, expected):
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, expected, atol=CLOSE * np.abs(expected).max())


def upsampler_inputs():
    cond = Cond(low_res=networks.normal(1, networks.SIZE, networks.SIZE, 3))
    return networks.normal(1, 2 * networks.SIZE, 2 * networks.SIZE, 3), jnp.full(1, 400), cond


def test_unet():
    spec = networks.upsampler_spec()
    params, out, seen = captured(spec, upsampler_inputs())
    seen, p = seen["unet"], float64(params["unet"])
    (trunk,), (head,) = seen["up_0_res_1"]["__call__"], seen["conv_out"]["__call__"]
    assert trunk.dtype == jnp.bfloat16 and out.dtype == jnp.float32
    h = group_norm(np.asarray(trunk, np.float64), p["norm_out"], spec.model.unet.norm_groups)
    assert_same(head, conv3(h / (1 + np.exp(-h)), p["conv_out"]))


def test_diffusion_prior():
    spec = networks.prior_spec()
    params, out, seen = captured(spec, networks.prior_inputs())
    (trunk,) = seen["transformer"]["__call__"]
    assert trunk.dtype == jnp.bfloat16
    p = float64(params)
    h = layer_norm(np.asarray(trunk[:, -1], np.float64), p["ln_final"])
    assert_same(out, h @ p["out_proj"]["kernel"] + p["out_proj"]["bias"])


def test_autoregressive_prior():
    spec = networks.prior_ar_spec()
    params, out, seen = captured(spec, networks.prior_ar_inputs())
    ((trunk, _),) = seen["decoder"]["__call__"]
    assert trunk.dtype == jnp.bfloat16
    p = float64(params)
    h = layer_norm(np.asarray(trunk[:, 2:], np.float64), p["ln_final"])
    assert_same(out, h @ p["head"]["kernel"] + p["head"]["bias"])


def test_decoder():
    """The same network body; its types, without running it."""
    spec = networks.decoder_spec()
    module, params = make_module(spec, jnp.bfloat16), networks.make(spec)[1]
    run = lambda *a: module.apply({"params": params}, *a, capture_intermediates=True)  # noqa: E731
    seen = jax.eval_shape(run, *networks.decoder_inputs())[1]["intermediates"]["unet"]
    types = {
        name: str(seen[name]["__call__"][0].dtype) for name in seen if "__call__" in seen[name]
    }
    assert types["norm_out"] == types["conv_out"] == "float32"
    assert types["conv_in"] == types["up_0_res_1"] == "bfloat16"
