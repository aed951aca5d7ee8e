"""The table of axes, the share of each device, that the mesh changes no gradient, what it costs."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tests import budgets
from tests.budgets import compiled_cost
from tests.networks import redraw
from tests.training import Toy, as_double, double_precision, largest_difference, on_mesh
from unclip_jax.core.errors import UserError
from unclip_jax.core.prng import root_key
from unclip_jax.models.stages import abstract_boxed, init_variables
from unclip_jax.nn.layers import AXES
from unclip_jax.train.config import MeshConfig
from unclip_jax.train.sharding import (
    RULES,
    BatchSharding,
    batch_sharding,
    check_batch_size,
    make_mesh,
    merge_rules,
    mesh_sizes,
    param_shardings,
    run_context,
)
from unclip_jax.train.state import init_state, jit_once, state_shardings
from unclip_jax.train.step import accumulate, batch_keys

# Sums over the batch are taken in another order; float64 keeps 16 digits.
GRADIENT_TOLERANCE = 1e-9
SHARE = 1.1


def boxed(names, shape):
    return {"w": nn.LogicallyPartitioned(jax.ShapeDtypeStruct(shape, jnp.float32), names)}


def spec_of(names, shape, mesh):
    return param_shardings(boxed(names, shape), mesh)["w"].spec


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))


def test_every_axis_of_the_models_has_a_rule():
    assert set(AXES) <= {name for name, _ in RULES}


@pytest.mark.parametrize(
    ("cfg", "sizes"),
    [
        (MeshConfig(), (8, 1, 1)),
        (MeshConfig(fsdp=4), (2, 4, 1)),
        (MeshConfig(fsdp=-1), (1, 8, 1)),  # data is -1 by default, and gives way
        (MeshConfig(tensor=2, fsdp=-1), (1, 4, 2)),
        (MeshConfig(data=2, fsdp=2, tensor=-1), (2, 2, 2)),
    ],
)
def test_one_axis_takes_the_remaining_devices(cfg, sizes):
    assert mesh_sizes(cfg, 8) == sizes


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (MeshConfig(fsdp=-1, tensor=-1), "more than one -1"),
        (MeshConfig(data=3), "does not fit 8 devices"),
        (MeshConfig(data=2, fsdp=2), "does not fit 8 devices"),
    ],
)
def test_sizes_that_do_not_multiply_to_the_devices_are_refused(cfg, message):
    with pytest.raises(UserError, match=message):
        mesh_sizes(cfg, 8)


def test_axes_go_where_the_table_says(mesh):
    assert spec_of(("embed", "mlp"), (4, 8), mesh) == PartitionSpec("fsdp", "tensor")
    assert spec_of((None, None, "embed", "mlp"), (3, 3, 4, 8), mesh)[2:] == ("fsdp", "tensor")
    assert spec_of(("norm",), (8,), mesh) == PartitionSpec(None)


def test_rules_of_a_config_come_first_and_change_the_sharding(mesh):
    rules = merge_rules((("mlp", "fsdp"), ("embed", None)))
    assert rules[:2] == (("mlp", "fsdp"), ("embed", None)) and len(rules) == len(RULES)
    kernel = boxed(("embed", "mlp"), (4, 8))
    assert param_shardings(kernel, mesh, rules)["w"].spec == PartitionSpec(None, "fsdp")
    assert merge_rules(()) == RULES


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ((("embd", "fsdp"),), "'embd' is not a logical axis.*did you mean embed"),
        ((("embed", "fdsp"),), "'embed' cannot go to 'fdsp'; mesh axes are data, fsdp, tensor"),
        ((("mlp", None), ("mlp", "fsdp")), "names an axis twice: mlp, mlp"),
        ((("batch", None),), "'batch' is not a logical axis of parameters"),
    ],
)
def test_rules_that_cannot_be_are_one_line(rules, words):
    with pytest.raises(UserError, match=words) as refused:
        merge_rules(rules)
    assert "\n" not in str(refused.value)


def test_a_mesh_axis_is_given_out_once(mesh):
    assert spec_of(("heads", "mlp"), (8, 8), mesh) == PartitionSpec(None, "tensor")


def test_a_dimension_that_does_not_divide_stays_whole(mesh):
    assert spec_of(("embed", "mlp"), (3, 8), mesh) == PartitionSpec(None, "tensor")


def test_unknown_and_missing_names_are_errors(mesh):
    with pytest.raises(ValueError, match="embde"):
        spec_of(("embde", "mlp"), (4, 8), mesh)
    with pytest.raises(ValueError, match="no logical axis names"):
        param_shardings({"w": jax.ShapeDtypeStruct((4,), jnp.float32)}, mesh)


def test_meshes_that_do_not_fit_the_devices_are_errors():
    assert dict(make_mesh(MeshConfig(fsdp=4)).shape) == {"data": 2, "fsdp": 4, "tensor": 1}
    for cfg in (MeshConfig(fsdp=3), MeshConfig(data=1), MeshConfig(fsdp=-1, tensor=-1)):
        with pytest.raises(UserError, match="config.train.mesh"):
            make_mesh(cfg)


def test_a_run_is_traced_under_its_mesh_and_precision(mesh):
    for dtype, precision in (("float32", "highest"), ("bfloat16", "default")):
        with run_context(mesh, dtype):
            assert jax.config.jax_default_matmul_precision == precision
            assert jax.sharding.get_mesh() == mesh


def test_examples_are_split_over_data_and_fsdp(mesh):
    """Of two by two by two devices each pair along "tensor" holds a quarter of the batch."""
    assert batch_sharding(mesh).shard_shape((8, 3)) == (2, 3)


class Sliced:
    """A device of one of several slices, as far as the layout of a mesh asks."""

    platform, device_kind, process_index = "other", "other", 0

    def __init__(self, number, slices):
        self.id, self.slice_index = number, number * slices // 8


@pytest.mark.parametrize(("slices", "shape"), [(2, (2, 4, 1)), (2, (4, 1, 2)), (4, (4, 2, 1))])
def test_slices_share_nothing_but_the_data_axis(slices, shape):
    devices = [Sliced(number, slices) for number in range(8)]
    mesh = make_mesh(MeshConfig(*shape), devices[::-1])
    assert mesh.devices.shape == shape
    rows = mesh.devices.reshape(slices, -1)
    assert [len({device.slice_index for device in row}) for row in rows] == [1] * slices
    assert {device.id for device in mesh.devices.flat} == set(range(8))


def test_slices_that_the_data_axis_does_not_divide_are_an_error():
    devices = [Sliced(number, 2) for number in range(8)]
    with pytest.raises(UserError, match=r"data=1 must be a multiple of the 2 slices.*data=2"):
        make_mesh(MeshConfig(1, 8, 1), devices)


def test_a_batch_that_the_devices_do_not_divide_is_an_error():
    with pytest.raises(UserError, match="batch_size=12 must be a multiple of the 8"):
        check_batch_size(12, make_mesh(MeshConfig()))
    with pytest.raises(UserError, match="batch_size=4 must be a multiple of the 8"):
        check_batch_size(4, make_mesh(MeshConfig(data=2, fsdp=4)))


@pytest.mark.parametrize("shape", [(1, 8, 1), (2, 2, 2)])
def test_each_device_holds_its_share_of_the_state(shape):
    toy = Toy("prior_diffusion")
    mesh = make_mesh(MeshConfig(*shape))
    with on_mesh(mesh):
        shardings = state_shardings(abstract_boxed(toy.spec), toy.tx, toy.count, mesh)
        state = init_state(
            lambda: init_variables(toy.spec, toy.module, root_key(0)),
            toy.tx,
            toy.count,
            shardings,
        )
    held = {device: 0 for device in jax.devices()}
    large, total = 0, 0
    for leaf in jax.tree.leaves(state):
        total += leaf.nbytes
        large += leaf.nbytes if leaf.ndim > 1 else 0
        for shard in leaf.addressable_shards:
            held[shard.device] += shard.data.nbytes
    assert large > 0.8 * total  # at toy width vectors, which stay whole, weigh more than they do
    share = (total - large) + large / (shape[1] * shape[2])
    assert max(held.values()) <= SHARE * share + 0.15 * large


STAGES = (
    "clip:scanned",
    "prior_diffusion:scanned",
    "prior_ar",
    "decoder",
    "decoder:glide",
    "upsampler_256",
    "upsampler_1024",
)
MESHES = {
    "data": (MeshConfig(data=8), 1),
    "fsdp": (MeshConfig(data=1, fsdp=8), 1),
    "tensor": (MeshConfig(data=1, tensor=8), 1),
    "all, two parts": (MeshConfig(data=2, fsdp=2, tensor=2), 2),
}
"""Kind -> mesh and micro-batches."""


def double_gradient(name, params, constants, batch, mesh, parts=1):
    """The gradient of a batch of eight on a mesh, all in float64, and its cost.

    Call it in double precision.
    """
    toy = Toy(name, jnp.float64, caption_drop=0.5, image_drop=0.3)
    with on_mesh(mesh):
        placed = jax.device_put(params, param_shardings(abstract_boxed(toy.spec), mesh))
        rows = BatchSharding(mesh, 8).to_global(batch)

        def gradient(params, constants, batch):
            keys = batch_keys(root_key(3), 8)
            return accumulate(toy.task, params, constants, batch, keys, parts)[0]

        compiled = jit_once(gradient).lower(placed, constants, rows).compile()
        return jax.device_get(compiled(placed, constants, rows)), compiled_cost(compiled)


@pytest.mark.parametrize("name", STAGES)
def test_every_mesh_gives_the_gradient_of_one_device(name, monkeypatch):
    """One device against data, fsdp and tensor parallelism, and a mixture in two micro-batches."""
    plain = Toy(name, caption_drop=0.5, image_drop=0.3)
    # Of fresh parameters the last convolution is zero, and so is every gradient behind it.
    given = tuple(map(as_double, (redraw(plain.params()), plain.constants, plain.batch())))
    with double_precision(monkeypatch):
        one, _ = double_gradient(name, *given, make_mesh(MeshConfig(), jax.devices()[:1]))
        leaves = list(map(np.asarray, jax.tree.leaves(one)))
        assert all(leaf.dtype == np.float64 for leaf in leaves)
        # The codec of the autoregressive prior is fitted beforehand, and has none.
        assert sum(bool(leaf.any()) for leaf in leaves) > 0.85 * len(leaves)
        sharded = {
            kind: double_gradient(name, *given, make_mesh(cfg), parts)
            for kind, (cfg, parts) in MESHES.items()
        }
    found = {kind: largest_difference(one, gradient) for kind, (gradient, _) in sharded.items()}
    assert all(difference < GRADIENT_TOLERANCE for difference in found.values()), found
    for kind, (_, cost) in sharded.items():
        budgets.check("compiled", f"{name} on {kind}", cost)


def test_every_budget_is_of_a_gradient_on_a_mesh():
    names = [f"{name} on {kind}" for name in STAGES for kind in MESHES]
    budgets.check_names("compiled", names)


@pytest.mark.parametrize("shape", [(8, 1, 1), (2, 2, 2), (1, 4, 2), (1, 1, 8)])
@pytest.mark.parametrize("backwards", [False, True])
def test_processes_bring_the_rows_that_their_devices_hold(shape, backwards, monkeypatch):
    """Two processes of four devices each: rows that both hold (tensor), devices in any order."""
    mesh = make_mesh(MeshConfig(*shape))
    if backwards:
        mesh = Mesh(mesh.devices.reshape(-1)[::-1].reshape(shape), mesh.axis_names)
    batch = {"image": np.arange(16 * 3).reshape(16, 3), "mask": np.arange(16) > 3}
    place = BatchSharding(mesh, 16)
    assert place.rows.tolist() == list(range(16))
    for name, array in place.to_global(batch).items():
        np.testing.assert_array_equal(array, batch[name])
    for devices in (jax.devices()[:4], jax.devices()[4:]):
        held = place.sharding.devices_indices_map((16,))
        mine = {device: index for device, index in held.items() if device in devices}
        monkeypatch.setattr(NamedSharding, "addressable_devices_indices_map", lambda *_: mine)  # noqa: B023
        part = BatchSharding(mesh, 16)
        monkeypatch.undo()
        expected = {row for index in mine.values() for row in np.arange(16)[index]}
        assert part.rows.tolist() == sorted(expected)
        for index in mine.values():  # what each device is given is the global batch's
            local = batch["image"][part.rows]
            np.testing.assert_array_equal(part.shard(local, index), batch["image"][index])
