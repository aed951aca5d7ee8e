"""Inception's parts against NumPy, its sizes against published ones; no weights are needed."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from unclip_jax.convert.name_tables import source_of
from unclip_jax.core.errors import UserError
from unclip_jax.core.trees import unflatten_paths
from unclip_jax.evals.networks.inception import (
    BLOCKS,
    ConvNorm,
    Inception,
    Mixed,
    Step,
    load_inception,
    pool,
    shapes,
)
from unclip_jax.evals.networks.inception_names import (
    TF_ENDS,
    tf_graph_table,
    tf_places,
    torch_fidelity_table,
)

KERAS_PARAMS = 23_851_784  # keras.io/api/applications, InceptionV3: 1,000 classes, norms unscaled


@pytest.fixture(scope="module")
def ours():
    return shapes()


def test_parameters_are_as_many_as_published(ours):
    """The body is the published network's; only the classes differ, and that norms have a scale."""
    body = {path: np.prod(shape) for path, shape in ours.items() if path != "fc/kernel"}
    unscaled = sum(int(n) for path, n in body.items() if not path.endswith("scale"))
    assert unscaled == KERAS_PARAMS - (2048 * 1000 + 1000)
    assert ours["fc/kernel"] == (2048, 1008)
    assert sum(path.endswith("kernel") for path in body) == 94


def test_names_are_those_of_the_published_file(ours):
    table = torch_fidelity_table(ours)
    leaves = [(source_of(table, path), path.rpartition("/")[2]) for path in ours]
    keys = {key for source, leaf in leaves for key in source.keys(leaf)}
    assert len(keys) == 5 * 94 + 1
    assert {
        "Conv2d_1a_3x3.conv.weight",
        "Mixed_5b.branch5x5_2.bn.running_mean",
        "Mixed_6d.branch7x7dbl_5.bn.running_var",
        "Mixed_7a.branch7x7x3_4.bn.weight",
        "Mixed_7c.branch3x3dbl_3b.bn.bias",
        "fc.weight",
    } <= keys


def test_names_of_the_graph_are_those_that_torch_fidelity_converts(ours):
    """Pairs of its utils/util_convert_inception_weights.py, one for each kind of branch."""
    made = tf_places(ours)
    known = {
        "conv_1a": "conv",
        "conv_4a": "conv_4",
        "mixed_5b/branch1x1": "mixed/conv",
        "mixed_5b/branch5x5_2": "mixed/tower/conv_1",
        "mixed_5b/branch3x3dbl_3": "mixed/tower_1/conv_2",
        "mixed_5c/branch_pool": "mixed_1/tower_2/conv",
        "mixed_6a/branch3x3": "mixed_3/conv",
        "mixed_6a/branch3x3dbl_1": "mixed_3/tower/conv",
        "mixed_6d/branch1x1": "mixed_6/conv",
        "mixed_6e/branch7x7_3": "mixed_7/tower/conv_2",
        "mixed_6e/branch7x7dbl_5": "mixed_7/tower_1/conv_4",
        "mixed_7a/branch3x3_2": "mixed_8/tower/conv_1",
        "mixed_7a/branch7x7x3_4": "mixed_8/tower_1/conv_3",
        "mixed_7b/branch3x3_2b": "mixed_9/tower/mixed/conv_1",
        "mixed_7c/branch3x3dbl_2": "mixed_10/tower_1/conv_1",
        "mixed_7c/branch3x3dbl_3a": "mixed_10/tower_1/mixed/conv",
        "mixed_7c/branch_pool": "mixed_10/tower_2/conv",
    }
    assert {place: made[place] for place in known} == known
    assert len(set(made.values())) == 94
    keys = {key for source in tf_graph_table(ours).values() for key in source.names}
    assert {"conv_1/conv2d_params", "mixed_2/conv/batchnorm/moving_variance"} <= keys
    assert {key.rpartition("/")[2] for key in keys} | {"biases"} == TF_ENDS
    assert len(keys) == 5 * 94 + 1


def test_features_have_the_sizes_of_both_evaluators(ours):
    params = {path: jax.ShapeDtypeStruct(shape, jnp.float32) for path, shape in ours.items()}
    images = jax.ShapeDtypeStruct((2, 64, 48, 3), jnp.uint8)
    network = Inception(layers=("192", "768"))
    made = jax.eval_shape(network.apply, {"params": unflatten_paths(params)}, images)
    widths = {"pool": 2048, "spatial": 7 * 17 * 17, "logits": 1008, "192": 192, "768": 768}
    assert {key: value.shape for key, value in made.items()} == {
        key: (2, width) for key, width in widths.items()
    }


def test_convolution_norm_and_relu():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 5, 6, 2)).astype(np.float32)
    params = {
        "kernel": rng.standard_normal((3, 3, 2, 4)).astype(np.float32),
        "scale": rng.standard_normal(4).astype(np.float32),
        "bias": rng.standard_normal(4).astype(np.float32),
        "mean": rng.standard_normal(4).astype(np.float32),
        "var": np.abs(rng.standard_normal(4)).astype(np.float32) * 0.01,
    }
    made = ConvNorm(Step(4, (3, 3), 2), "VALID").apply({"params": params}, jnp.asarray(x))
    raw = np.array(
        [
            [np.tensordot(x[0, i : i + 3, j : j + 3], params["kernel"], 3) for j in (0, 2)]
            for i in (0, 2)
        ],
        np.float64,
    )
    normed = (raw - params["mean"]) / np.sqrt(params["var"] + 0.001)
    expected = np.maximum(normed * params["scale"] + params["bias"], 0)
    np.testing.assert_allclose(made[0], expected, rtol=1e-4, atol=1e-4)


def test_mean_pool_leaves_the_padding_out():
    x = jnp.arange(1.0, 10.0).reshape(1, 3, 3, 1)
    made = pool(x, "mean")[0, :, :, 0]
    np.testing.assert_allclose(made, [[3, 3.5, 4], [4.5, 5, 5.5], [6, 6.5, 7]], rtol=1e-6)


def test_max_pool_knows_no_zeros_outside():
    x = -jnp.arange(1.0, 10.0).reshape(1, 3, 3, 1)
    np.testing.assert_array_equal(
        pool(x, "max")[0, :, :, 0], [[-1, -1, -2], [-1, -1, -2], [-4, -4, -5]]
    )
    np.testing.assert_array_equal(pool(x, "stride")[0, :, :, 0], [[-1]])


@pytest.mark.parametrize("name", ["mixed_7b", "mixed_7c"])
def test_only_the_last_block_has_a_max_pool(name):
    """With all kernels 0 but the pool's first channel, the last channels show the pool."""
    x = np.random.default_rng(0).standard_normal((1, 4, 4, 3)).astype(np.float32)
    block = Mixed(BLOCKS[name])
    boxes = jax.eval_shape(block.init, jax.random.key(0), jnp.asarray(x))["params"]
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), boxes)
    ones = np.ones(192, np.float32)
    params["branch_pool"] |= {"scale": ones, "var": 0.999 * ones}
    params["branch_pool"]["kernel"][0, 0, 0] = 1.0
    made = block.apply({"params": params}, jnp.asarray(x))
    assert made.shape == (1, 4, 4, 2048)
    kind = "max" if name == "mixed_7c" else "mean"
    expected = np.maximum(pool(jnp.asarray(x), kind)[..., :1], 0)
    np.testing.assert_allclose(made[..., -1:], expected, atol=1e-5)


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "inception_v3_google.safetensors"
    save_file({"AuxLogits.conv0.conv.weight": np.zeros((1, 1), np.float32)}, path)
    with pytest.raises(UserError, match=r"unknown keys for InceptionV3: AuxLogits\.conv0"):
        load_inception(path)


def test_a_file_is_checked_by_the_digest_in_its_name(tmp_path):
    content = b"not what it says"
    path = tmp_path / "weights-inception-2015-12-05-6726825d.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"SHA-256 begins with 6726825d, but .*; fetch it again"):
        load_inception(path)
    right = tmp_path / f"weights-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    right.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read safely"):
        load_inception(right)
