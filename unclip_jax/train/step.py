"""One training step: gradients by micro-batches, the guarded update, the EMA, metric sums.

A step is a pure function of (state, constants, batch); the seed is a constant in it. Random numbers
of an example depend on (seed, stage, step, row of the global batch) and on nothing else: not on the
devices, the processes or the accumulation.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Key

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
from unclip_jax.train.metrics import named_metrics
from unclip_jax.train.optim import ema_decay, learning_rate_schedule
from unclip_jax.train.sharding import replicated
from unclip_jax.train.state import TrainState
from unclip_jax.train.task import (
    Batch,
    Keys,
    Metrics,
    StepConstants,
    Task,
    split_interleaved,
    split_key,
)

Logged = dict[str, Array]
"""What the loop reads of a step: metric "sums", updates "skipped" in all and in a "row", "rate"."""

Step = Callable[[TrainState, StepConstants, Batch], tuple[TrainState, Logged]]
"""(state, constants, batch) -> (state, logged)."""

EvalStep = Callable[[Params, StepConstants, Batch, int | Int[Array, ""]], Float[Array, "m 2"]]
"""(params, constants, batch, number of the batch) -> metric sums."""

STEP_OPTIONS = {
    "tpu": {"xla_jf_spmd_threshold_for_windowed_einsum_mib": 1_000_000},
    "cpu": {
        "xla_cpu_experimental_ynn_fusion_type": (
            "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"
        )
    },
}
"""XLA's options of a training step, by platform.

TPU: a sharded parameter is gathered before it is multiplied. In rounds of permuted shards, XLA's
default for large arrays, the paper's decoder has 1.84 times the arithmetic and twice the
memory on 8 chips (docs/plans.md).
CPU: XLA's defaults without its library for single convolutions, whose gradients of 3 x 3 kernels
take 1.2 to 1.9 times as long as Eigen's (docs/performance.md).
"""


def make_train_step(
    task: Task, tx: optax.GradientTransformation, train: TrainConfig, optim: OptimConfig, seed: int
) -> Step:
    """Returns step(state, constants, batch) -> (state, logged), to be jitted with donated state.

    An update whose loss or gradient norm is not finite is skipped: parameters, moments and EMA
    stay, and the step is counted. After `skip_limit` of them in a row nothing is updated any more,
    so that the loop, which checks only at logged steps, finds the state from before the first.
    """
    names = logged_metrics(task)
    schedule = learning_rate_schedule(optim, train.steps)

    def step(
        state: TrainState, constants: StepConstants, batch: Batch
    ) -> tuple[TrainState, Logged]:
        key = step_key(stage_key(root_key(seed), task.key_id), state.step)
        keys = batch_keys(key, train.batch_size)._replace(step=state.step)
        grads, metrics = accumulate(task, state.params, constants, batch, keys, train.accumulation)
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


def logged_metrics(task: Task) -> tuple[str, ...]:
    """Returns the names of the rows of the sums that a training step logs."""
    return (*task.metric_names, "grad_norm")


def jit_step(step: Step, shardings: TrainState, mesh: Mesh) -> Step:
    """Returns the step jitted as in a run: the state donated, and its sharding kept."""
    options = STEP_OPTIONS.get(mesh.devices.flat[0].platform)
    out = (shardings, replicated(mesh))
    return jax.jit(step, donate_argnums=0, out_shardings=out, compiler_options=options)


def stack_sums(metrics: Metrics, names: tuple[str, ...]) -> Float[Array, "m 2"]:
    """Returns the (sum, weight) pairs in the order of `names`."""
    return jnp.stack([jnp.asarray(metrics[name], jnp.float32) for name in names])


def batch_keys(key: Key[Array, ""], batch_size: int) -> Keys:
    """Returns the keys of a batch: one per row, and one for dropout."""
    rows = example_keys(key, jnp.arange(batch_size))
    return Keys(rows, jax.random.fold_in(key, DROPOUT_ROW))


def accumulate(
    task: Task, params: Params, constants: StepConstants, batch: Batch, keys: Keys, parts: int
) -> tuple[Params, Metrics]:
    """Returns the gradient of the batch's mean loss and its metrics, in `parts` micro-batches.

    Micro-batch j holds rows j, parts + j, 2 parts + j, ...: each device keeps its own rows. A task
    whose loss couples the examples accumulates by itself.
    """
    if parts == 1 and task.gradient is not None:
        return task.gradient(params, constants, batch, keys)
    if parts == 1:
        return loss_and_grad(task, params, constants, batch, keys)
    micro = split_interleaved(batch, parts)
    rows, dropout = split_interleaved(keys.rows, parts), split_key(keys.dropout, parts)
    step = None if keys.step is None else jnp.broadcast_to(keys.step, (parts,))
    micro_keys = Keys(rows, dropout, step)
    if task.accumulate is not None:
        return task.accumulate(params, constants, micro, micro_keys)

    def add_part(
        total: tuple[Params, Metrics], part: tuple[Batch, Keys]
    ) -> tuple[tuple[Params, Metrics], None]:
        result = loss_and_grad(task, params, constants, *part)
        return jax.tree.map(jnp.add, total, result), None

    first = jax.tree.map(lambda x: x[0], (micro, micro_keys))
    shapes = jax.eval_shape(lambda p: loss_and_grad(task, params, constants, *p), first)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    (grads, metrics), _ = jax.lax.scan(add_part, zeros, (micro, micro_keys))
    return jax.tree.map(lambda g: g / parts, grads), metrics


def loss_and_grad(
    task: Task, params: Params, constants: StepConstants, batch: Batch, keys: Keys
) -> tuple[Params, Metrics]:
    """Returns gradient and metrics of one (micro-)batch."""

    def loss(params: Params) -> tuple[Float[Array, ""], Metrics]:
        return task.loss(params, constants, batch, keys, True)

    (_, metrics), grads = jax.value_and_grad(loss, has_aux=True)(params)
    return grads, metrics


def make_eval_step(task: Task, batch_size: int, seed: int) -> EvalStep:
    """Returns f(params, constants, batch, number) -> sums [m, 2] of one held-out batch.

    Its noise depends on (seed, stage, number of the batch, row) only, and its timesteps are spread
    evenly over the rows.
    """

    def evaluate(
        params: Params, constants: StepConstants, batch: Batch, number: int | Int[Array, ""]
    ) -> Float[Array, "m 2"]:
        key = step_key(stage_key(root_key(seed), task.key_id), HELD_OUT_STEP)
        keys = batch_keys(jax.random.fold_in(key, number), batch_size)
        _, metrics = task.loss(params, constants, batch, keys, False)
        return stack_sums(metrics, task.metric_names)

    return evaluate


class HeldOutLoss:
    """The task's metrics with EMA parameters on fixed held-out batches, timesteps and noise."""

    def __init__(
        self,
        step: EvalStep,
        batches: Sequence[Batch],
        constants: StepConstants,
        names: Sequence[str],
    ):
        """Wraps the compiled evaluation step; `names` are those of its sums."""
        self._step, self._batches, self._constants = step, batches, constants
        self._names = names

    def __call__(self, state: TrainState) -> dict[str, float]:
        """Returns {"held_out/NAME": mean}."""
        sums = [
            self._step(state.ema_params, self._constants, batch, number)
            for number, batch in enumerate(self._batches)
        ]
        total = np.sum(np.asarray(jax.device_get(sums), np.float64), axis=0)
        return {f"held_out/{k}": v for k, v in named_metrics(total, self._names).items()}
