"""One training step: gradients by micro-batches, the guarded update, the moving average, sums.

A step is a pure function of (state, frozen, batch); the seed is a constant in it. Random numbers of
an example depend on (seed, stage, step, row of the global batch) and on nothing else: not on the
devices, the processes or the accumulation.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float

from unclip_jax.core.prng import (
    DROPOUT_ROW,
    HELD_OUT_STEP,
    example_keys,
    root_key,
    stage_key,
    step_key,
)
from unclip_jax.core.trees import ema_update
from unclip_jax.core.types import Params
from unclip_jax.train.config import OptimConfig, TrainConfig
from unclip_jax.train.optim import ema_decay, learning_rate_schedule
from unclip_jax.train.sharding import replicated
from unclip_jax.train.state import TrainState
from unclip_jax.train.tasks.clip import Keys, Sums, Task

Step = Callable[[TrainState, Any, Any], tuple[TrainState, dict[str, Array]]]
"""(state, frozen, batch) -> (state, what the loop logs: sums, skipped, row, rate)."""

STEP_OPTIONS = {
    "tpu": {"xla_jf_spmd_threshold_for_windowed_einsum_mib": 1_000_000},
    "cpu": {
        "xla_cpu_experimental_ynn_fusion_type": (
            "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"
        )
    },
}
"""XLA's options of a training step, by platform.

TPU: a sharded parameter is gathered and then multiplied with. In rounds of permuted shards, which
XLA else takes for large arrays, the paper's decoder has 1.84 times the arithmetic and twice the
memory on 8 chips (docs/plans.md).
CPU: XLA's defaults without its library for single convolutions, whose gradients of 3 x 3 kernels
take 1.2 to 1.9 times as long as Eigen's (benchmarks/README.md).
"""


def make_train_step(
    task: Task, tx: optax.GradientTransformation, train: TrainConfig, optim: OptimConfig, seed: int
) -> Step:
    """Returns step(state, frozen, batch) -> (state, logged); to be jitted with the state donated.

    An update whose loss or gradient norm is not finite is left out: parameters, moments and average
    stay, and the step is counted. After `skip_limit` of them in a row nothing is updated any more,
    so that the loop, which looks only now and then, finds the state as it was before the first.
    """
    names = task.metric_names + ("grad_norm",)
    schedule = learning_rate_schedule(optim, train.steps)

    def step(state: TrainState, frozen: Any, batch: Any) -> tuple[TrainState, Any]:
        key = step_key(stage_key(root_key(seed), task.key_id), state.step)
        keys = batch_keys(key, train.batch_size)
        grads, metrics = accumulate(task, state.params, frozen, batch, keys, train.accumulation)
        norm = optax.global_norm(grads)
        finite = jnp.isfinite(norm) & jnp.isfinite(metrics["loss"][0])
        halted = state.consecutive_skips >= train.skip_limit
        ok = finite & ~halted
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = task.project(optax.apply_updates(state.params, updates))
        done = state.step - state.skipped
        decay, rate = ema_decay(optim, done), jnp.asarray(schedule(done), jnp.float32)
        ema_params = ema_update(state.ema_params, params, decay)
        keep = lambda new, old: jnp.where(ok, new, old)  # noqa: E731
        metrics["grad_norm"] = jnp.stack([norm, jnp.ones_like(norm)])
        fresh = state.step % train.log_every == 0
        before = jnp.where(fresh, 0.0, state.sums)
        sums = before + jnp.where(ok, stack_sums(metrics, names), 0.0)
        state = TrainState(
            step=state.step + 1,
            params=jax.tree.map(keep, params, state.params),
            ema_params=jax.tree.map(keep, ema_params, state.ema_params),
            opt_state=jax.tree.map(keep, opt_state, state.opt_state),
            skipped=state.skipped + ~ok,
            consecutive_skips=jnp.where(ok, 0, state.consecutive_skips + 1),
            sums=sums,
        )
        logged = {
            "sums": sums,
            "skipped": state.skipped,
            "row": state.consecutive_skips,
            "rate": rate,
        }
        return state, logged

    return step


def jit_step(step: Step, shardings: TrainState, mesh: Mesh) -> Any:
    """Returns the step jitted as a run has it: the state donated, and sharded as it came."""
    options = STEP_OPTIONS.get(mesh.devices.flat[0].platform)
    out = (shardings, replicated(mesh))
    return jax.jit(step, donate_argnums=0, out_shardings=out, compiler_options=options)


def stack_sums(metrics: dict[str, Any], names: tuple[str, ...]) -> Float[Array, "m 2"]:
    """Returns the (sum, weight) pairs in the order of `names`."""
    return jnp.stack([jnp.asarray(metrics[name], jnp.float32) for name in names])


def batch_keys(key: Any, batch_size: int) -> Keys:
    """Returns the keys of a batch: one per row, and one of dropout."""
    rows = example_keys(key, jnp.arange(batch_size))
    return Keys(rows, jax.random.fold_in(key, DROPOUT_ROW))


def accumulate(
    task: Task, params: Params, frozen: Any, batch: Any, keys: Keys, parts: int
) -> tuple[Any, dict[str, Any]]:
    """Returns the gradient of the batch's mean loss and its metrics, in `parts` micro-batches.

    Micro-batch j holds rows j, parts + j, 2 parts + j, ...: each device keeps its own rows. A task
    whose loss couples the examples has its own way of doing this.
    """
    if parts == 1 and task.gradient is not None:
        return task.gradient(params, frozen, batch, keys)
    if parts == 1:
        return loss_and_grad(task, params, frozen, batch, keys)
    cut = lambda x: jnp.swapaxes(x.reshape(-1, parts, *x.shape[1:]), 0, 1)  # noqa: E731
    micro = jax.tree.map(cut, batch)
    drop = jax.vmap(jax.random.fold_in, (None, 0))(keys.dropout, jnp.arange(parts))
    micro_keys = Keys(cut(keys.rows), drop)
    if task.accumulate is not None:
        return task.accumulate(params, frozen, micro, micro_keys)

    def body(total: Any, part: Any) -> tuple[Any, None]:
        result = loss_and_grad(task, params, frozen, *part)
        return jax.tree.map(jnp.add, total, result), None

    first = jax.tree.map(lambda x: x[0], (micro, micro_keys))
    shapes = jax.eval_shape(lambda p: loss_and_grad(task, params, frozen, *p), first)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    (grads, metrics), _ = jax.lax.scan(body, zeros, (micro, micro_keys))
    return jax.tree.map(lambda g: g / parts, grads), metrics


def loss_and_grad(
    task: Task, params: Params, frozen: Any, batch: Any, keys: Keys
) -> tuple[Any, dict[str, Any]]:
    """Returns gradient and metrics of one (micro-)batch."""

    def loss(params: Params) -> tuple[Float[Array, ""], dict[str, Sums]]:
        return task.loss(params, frozen, batch, keys, True)

    (_, metrics), grads = jax.value_and_grad(loss, has_aux=True)(params)
    return grads, metrics


def make_eval_step(task: Task, batch_size: int, seed: int) -> Callable[[Any, Any, Any, Any], Any]:
    """Returns f(params, frozen, batch, number) -> sums [m, 2] of one held-out batch.

    Its noise depends on (seed, stage, number of the batch, row) only, and its timesteps are spread
    evenly over the rows.
    """

    def evaluate(params: Params, frozen: Any, batch: Any, number: Any) -> Float[Array, "m 2"]:
        key = step_key(stage_key(root_key(seed), task.key_id), HELD_OUT_STEP)
        keys = batch_keys(jax.random.fold_in(key, number), batch_size)
        _, metrics = task.loss(params, frozen, batch, keys, False)
        return stack_sums(metrics, task.metric_names)

    return evaluate
