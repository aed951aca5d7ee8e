"""Activations stay where the batch puts them: what fully sharded training sends is parameters."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from tests.training import Toy, on_mesh
from unclip_jax.core.trees import count_params
from unclip_jax.models.stages import abstract_boxed, abstract_params
from unclip_jax.nn.layers import constrain
from unclip_jax.plan.hlo import cost_of
from unclip_jax.train.config import MeshConfig
from unclip_jax.train.sharding import batch_sharding, make_mesh, param_shardings
from unclip_jax.train.step import batch_keys, loss_and_grad

ROWS = 256  # so many that one whole activation outweighs all parameters
# A parameter is gathered forward, again backward, and its gradient is summed; the rest is small.
SENT = 4


@pytest.mark.parametrize("stage", ["prior_diffusion", "prior_ar", "decoder"])
def test_what_is_sent_does_not_grow_with_the_batch(stage):
    toy, mesh = Toy(stage), make_mesh(MeshConfig(data=1, fsdp=8))
    shardings = param_shardings(abstract_boxed(toy.spec), mesh)
    place = lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s)  # noqa: E731
    params = jax.tree.map(place, abstract_params(toy.spec), shardings)

    def rows(x):
        shape = (ROWS, *x.shape[1:])
        return jax.ShapeDtypeStruct(shape, x.dtype, sharding=batch_sharding(mesh))

    batch = jax.tree.map(rows, toy.batch())

    def gradient(params, constants, batch):
        keys = batch_keys(jax.random.key(0), ROWS)
        return loss_and_grad(toy.task, params, constants, batch, keys)[0]

    with on_mesh(mesh):
        traced = jax.jit(gradient, out_shardings=shardings).lower(params, toy.constants, batch)
        compiled = traced.compile(compiler_options={"xla_backend_optimization_level": 0})
    sent = sum(one.bytes for one in cost_of(compiled.as_text()).collectives.values())
    assert 0 < sent <= SENT * 4 * count_params(params)


def test_an_activation_is_split_as_its_axes_say():
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))

    def specs(x, *names):
        jaxpr = jax.make_jaxpr(lambda x: constrain(x, *names))(x)
        return [eqn.params["sharding"].spec for eqn in jaxpr.eqns]

    with on_mesh(mesh):
        split = specs(jnp.zeros((8, 3, 6)), "batch", None, "mlp")
        assert split == [PartitionSpec(("data", "fsdp"), None, "tensor")]
        # What the devices do not divide stays whole.
        assert specs(jnp.zeros((1, 3, 5)), "batch", None, "mlp") == [
            PartitionSpec(None, None, None)
        ]
        with pytest.raises(ValueError, match="bacth"):
            constrain(jnp.zeros((8, 3)), "bacth", None)
        with pytest.raises(ValueError, match="table of axes"):
            constrain(jnp.zeros((8, 3)), "batch")
    # As when sampling: no mesh, no table.
    assert specs(jnp.zeros((8, 3, 6)), "batch", None, "mlp") == []
    with nn.logical_axis_rules((("batch", "data"),)):
        assert specs(jnp.zeros((8, 3)), "batch", None) == []
