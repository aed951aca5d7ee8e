"""The training state and its initialization, which is sharded from the start."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import AbstractMesh, Mesh

from unclip_jax.core.types import Params
from unclip_jax.models.stages import unboxed
from unclip_jax.train.sharding import RULES, Rules, param_shardings, replicated


@struct.dataclass
class TrainState:
    """All that a step changes; a checkpoint holds it and the data iterator's state.

    Attributes:
        step: int, steps taken, skipped ones included.
        params: what is trained.
        ema_params: their moving average (EMA), which is evaluated and shipped.
        opt_state: optax's.
        skipped: int, updates skipped because a value in them was not finite.
        consecutive_skips: int, how many of them in a row up to now.
        sums: float [m, 2], sum and weight of every metric since the last logged step.
    """

    step: Any
    params: Params
    ema_params: Params
    opt_state: Any
    skipped: Any
    consecutive_skips: Any
    sums: Any


def jit_once(
    function: Callable[..., Any], platform: str | None = None, **options: Any
) -> Callable[..., Any]:
    """Jits what runs once: on a CPU without optimization, which takes a quarter of the time."""
    if (platform or jax.default_backend()) == "cpu":
        options["compiler_options"] = {"xla_backend_optimization_level": 0}
    return jax.jit(function, **options)


def fresh_copy(params: Params) -> Params:
    """Copies parameters to new buffers, sharded alike: a donated step writes to both trees."""
    return jax.jit(lambda p: jax.tree.map(lambda x: x + 0, p))(params)


def make_state(params: Params, tx: optax.GradientTransformation, num_metrics: int) -> TrainState:
    """Returns the state of step 0; the EMA starts at the parameters."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        ema_params=jax.tree.map(jnp.copy, params),
        opt_state=tx.init(params),
        skipped=jnp.zeros((), jnp.int32),
        consecutive_skips=jnp.zeros((), jnp.int32),
        sums=jnp.zeros((num_metrics, 2), jnp.float32),
    )


def state_shardings(
    boxed: Params,
    tx: optax.GradientTransformation,
    num_metrics: int,
    mesh: Mesh | AbstractMesh,
    rules: Rules = RULES,
) -> TrainState:
    """Returns the shardings of the state; moments and EMA are sharded as their parameters."""
    params = unboxed(boxed)
    shardings = param_shardings(boxed, mesh, rules)
    abstract = jax.eval_shape(lambda p: make_state(p, tx, num_metrics), params)
    whole = replicated(mesh)
    state = jax.tree.map(lambda _: whole, abstract)
    opt_state = optax.tree.map_params(
        tx,
        lambda _, sharding: sharding,
        abstract.opt_state,
        shardings,
        transform_non_params=lambda _: whole,
    )
    return state.replace(params=shardings, ema_params=shardings, opt_state=opt_state)


def init_state(
    init: Callable[[], Params],
    tx: optax.GradientTransformation,
    num_metrics: int,
    shardings: TrainState,
) -> TrainState:
    """Creates the state on its devices; none of them ever holds more than its shard.

    Args:
        init: returns the boxed parameters.
    """
    return jit_init(init, tx, num_metrics, shardings)()


def jit_init(
    init: Callable[[], Params],
    tx: optax.GradientTransformation,
    num_metrics: int,
    shardings: TrainState,
    platform: str | None = None,
) -> Callable[[], TrainState]:
    """Returns the program that creates the state.

    Args:
        platform: of the shardings' devices, where these are not the process's own.
    """

    def create() -> TrainState:
        return make_state(unboxed(init()), tx, num_metrics)

    return jit_once(create, platform, out_shardings=shardings)
