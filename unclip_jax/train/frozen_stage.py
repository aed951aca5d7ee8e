"""The other stage, beside CLIP, that a stage is trained on: DALL·E's discrete VAE.

Its network runs inside the training step with parameters that never change. The config of the
trained stage states its sizes; `config.STAGE` names the bundle that has its parameters.
"""

import dataclasses

import jax
import jax.numpy as jnp

from unclip_jax.checkpoint import bundle
from unclip_jax.checkpoint.runs import params_digest
from unclip_jax.core.errors import UserError
from unclip_jax.core.prng import root_key
from unclip_jax.core.types import Params
from unclip_jax.models.stages import StageSpec, init_variables, make_module, unboxed
from unclip_jax.train.resolve import RANDOM
from unclip_jax.train.state import jit_once


@dataclasses.dataclass(frozen=True)
class FrozenStage:
    """Parameters of a stage that is not trained, and their digest."""

    params: Params
    digest: str


def load_frozen_stage(spec: StageSpec, name: str) -> FrozenStage:
    """Loads the stage of a bundle, or draws an untrained one (RANDOM).

    Args:
        spec: what the stage that is trained expects.

    Raises:
        UserError: the bundle has no such stage, or one of other sizes.
    """
    stage = spec.stage
    if name == RANDOM:
        module = make_module(spec)
        params = unboxed(jit_once(lambda key: init_variables(spec, module, key))(root_key(0)))
        return FrozenStage(params, params_digest(params))
    found = bundle.load(name, stages=[stage]).stage(stage)
    if found.spec.model != spec.model:
        raise UserError(
            f"the {stage} in {name} has other sizes than config.model.{stage}: pass another "
            f"--config.{stage}, or set config.model.{stage} to its config"
        )
    return FrozenStage(jax.tree.map(jnp.asarray, found.params), params_digest(found.params))
