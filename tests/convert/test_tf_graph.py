"""Constants of frozen graphs, and files that are none."""

import struct

import numpy as np
import pytest

from tests.tf_graphs import constant, content, field
from unclip_jax.convert.tf_graph import only_named, open_graph
from unclip_jax.core.errors import UserError


def write(folder, *nodes: bytes):
    relu = field(1, field(1, b"conv") + field(2, b"Relu") + field(3, b"conv/CheckNumerics"))
    versions = field(4, field(1, 21))
    path = folder / "graph.pb"
    path.write_bytes(relu + b"".join(nodes) + versions)
    return path


def test_constants_are_read_by_name(tmp_path):
    kernel = np.random.default_rng(0).standard_normal((3, 3, 2, 4))
    few = np.array([1.5, -2.0, 3.0], np.float32)
    packed = field(5, struct.pack("<3f", *few))
    path = write(
        tmp_path,
        constant("conv/conv2d_params", kernel.shape, content(kernel)),
        constant("softmax/biases", (3,), packed),
        constant("Sub/y", (), content(np.array(128.0))),
        constant("batchnorm/gamma", (2, 2), field(5, struct.pack("<f", 0.5))),
        constant("ResizeBilinear/size", (2,), field(4, b"\0" * 8), dtype=3),
    )
    found = open_graph(path)
    assert found.shapes == {
        "conv/conv2d_params": (3, 3, 2, 4),
        "softmax/biases": (3,),
        "Sub/y": (),
        "batchnorm/gamma": (2, 2),
    }
    np.testing.assert_array_equal(found["conv/conv2d_params"], kernel.astype(np.float32))
    np.testing.assert_array_equal(found["softmax/biases"], few)
    np.testing.assert_array_equal(found["batchnorm/gamma"], np.full((2, 2), 0.5))  # one for all
    assert set(only_named(found, {"biases"}).shapes) == {"softmax/biases"}


@pytest.mark.parametrize(
    ("shape", "body"),
    [((4,), content(np.zeros(3))), ((2,), b""), ((1 << 40, 1 << 40), content(np.zeros(1)))],
    ids=["fewer", "none", "huge"],
)
def test_constants_that_do_not_fill_their_shape_are_refused(tmp_path, shape, body):
    path = write(tmp_path, constant("a", shape, body))
    with pytest.raises(UserError, match=r"graph\.pb: constant a does not fill its shape; fetch"):
        open_graph(path)


def test_other_files_are_refused(tmp_path):
    path = write(tmp_path, constant("a", (2,), content(np.zeros(2))))
    whole = path.read_bytes()
    path.write_bytes(whole[:-15])
    with pytest.raises(UserError, match="is not a TensorFlow graph; fetch it again"):
        open_graph(path)
    with pytest.raises(UserError, match="is missing"):
        open_graph(tmp_path / "none.pb")
