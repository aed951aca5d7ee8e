"""Trains one stage: sets the run up, runs its loop to the end or a stop, and finishes it."""

import contextlib
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from unclip_jax.core.distributed import (
    broadcast_from_zero,
    is_process_zero,
    locked_by_zero,
    run_on_process_zero,
)
from unclip_jax.core.errors import UserError
from unclip_jax.train import resolve
from unclip_jax.train.distill import with_student
from unclip_jax.train.fitting import (
    VARIANCE_TABLE,
    estimate_variance_table,
    write_variance_table,
)
from unclip_jax.train.loop import Hook, Loop, LoopParts, ProgressBar, Stop
from unclip_jax.train.metrics import Log, no_log
from unclip_jax.train.report import Report
from unclip_jax.train.setup import Run, set_up
from unclip_jax.train.sharding import make_mesh, merge_rules, run_context
from unclip_jax.train.state import TrainState
from unclip_jax.train.step import HeldOutLoss, Logged, jit_step
from unclip_jax.train.task import Batch
from unclip_jax.train.tasks.diffusion import make_inputs
from unclip_jax.train.throughput import TracedSteps, peak_seconds

HookMaker = Callable[[Run], Sequence[Hook]]


def train(
    config: Mapping[str, Any],
    workdir: Path,
    *,
    make_hooks: HookMaker = lambda run: (),
    make_progress: Callable[[int, int], ProgressBar] | None = None,
    log: Log = no_log,
    profile: int = 0,
) -> bool:
    """Trains one stage in `workdir`, from where it stands; returns whether its end was reached.

    Args:
        config: the sections of a config file as plain mappings.
        make_progress: (steps done, steps in all) -> progress bar.
        log: logging callback for the few lines that a person should read.
        profile: steps that a profiler's trace is written of, under workdir/profile.

    Every process of a job calls it with the same arguments and a workdir that all of them see;
    only process 0 logs and shows progress.
    """
    workdir, start = Path(workdir), time.monotonic()
    if "\\" in str(workdir.absolute()):  # refused when the first checkpoint is written, else
        raise UserError(f"--workdir {workdir}: checkpoints need a path without a backslash")
    config = with_student(config)
    settings = resolve.read_settings(config)
    resolve.check_stores(settings)
    if not is_process_zero():
        make_progress, log = None, no_log
    cfg, rules = settings.train, merge_rules(settings.train.sharding_rules)
    mesh = make_mesh(cfg.mesh)
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(Stop())
        stack.enter_context(locked_by_zero(workdir, "unclip train"))
        stack.enter_context(run_context(mesh, cfg.dtype, rules))
        run = set_up(config, settings, workdir, mesh, log=log, stack=stack)
        report = Report(workdir, log) if is_process_zero() else None
        if report:
            stack.callback(report.write)  # also where the loop fails
        step = compiled_step(run)
        if profile:
            step = TracedSteps(step, workdir / "profile", profile)
            stack.enter_context(contextlib.closing(step))
        parts = LoopParts(
            step=step,
            data=run.batches,
            store=run.store,
            writer=run.writer,
            metric_names=run.program.metric_names,
            evaluate=held_out_loss(run),
            hooks=make_hooks(run),
            progress=make_progress(int(run.state.step), cfg.steps) if make_progress else None,
            peak_seconds=functools.partial(seconds_at_peak, run),
            after_save=report.refresh if report else lambda: None,
        )
        run.writer.phase(int(run.state.step), "set-up", time.monotonic() - start)
        state, done = Loop(cfg, settings.eval.every, parts).run(run.state, stop)
        if done:
            write_table_if_analytic(run, state, log)
    return done


def compiled_step(run: Run) -> Callable[[TrainState, Batch], tuple[TrainState, Logged]]:
    """Returns the compiled step (state, batch) -> (state, logged)."""
    program = run.program
    step = jit_step(program.step(), program.state_shardings(run.mesh), run.mesh)
    return lambda state, batch: step(state, run.constants, batch)


def seconds_at_peak(run: Run, state: TrainState, batch: Batch) -> dict[str, float]:
    """Returns the seconds that a step would take at the devices' peak."""
    arguments = (state, run.constants, batch)
    return peak_seconds(run.program.step, run.program.spec, arguments, jax.devices())


def held_out_loss(run: Run) -> HeldOutLoss | None:
    """Returns the compiled evaluation; None without held-out batches."""
    if not run.held_out:
        return None
    step = run.program.jit_evaluation(run.mesh)
    return HeldOutLoss(step, run.held_out, run.constants, run.program.task.metric_names)


def write_table_if_analytic(run: Run, state: TrainState, log: Log) -> None:
    """Writes the analytic variance's table, if the stage samples with one and has none yet."""
    program = run.program
    diffusion = program.spec.diffusion
    if diffusion is None or diffusion.variance != "analytic" or not run.held_out:
        return
    if broadcast_from_zero((run.workdir / VARIANCE_TABLE).exists()):
        return
    log("estimating the analytic variance on held-out data")
    inputs, _ = make_inputs(program.spec, program.settings.train, program.clip)
    table = estimate_variance_table(program, inputs, state.ema_params, run.constants, run.held_out)
    run_on_process_zero(lambda: write_variance_table(run.workdir, table))
