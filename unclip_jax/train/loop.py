"""The training loop: dispatch, record, evaluate, save, stop.

The order of a run, which resuming relies on:
  1. The state is restored (or initialized), the data iterator set to where the restored step left
     it, and the record truncated to that step.
  2. Step n + 1 is dispatched before the metrics of step n are read.
  3. The record up to step n is on disk before the checkpoint of step n is begun.
The loop knows neither models nor tasks nor files of images. It gets a step function, iterators,
writers and hooks.
"""

import contextlib
import dataclasses
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, Protocol, runtime_checkable

import jax

from unclip_jax.checkpoint.store import CheckpointStore
from unclip_jax.core.distributed import broadcast_from_zero
from unclip_jax.core.errors import UserError
from unclip_jax.train.config import TrainConfig
from unclip_jax.train.metrics import Writer, named_metrics
from unclip_jax.train.state import TrainState
from unclip_jax.train.step import Batch, Logged


@runtime_checkable
class BatchIterator(Protocol):
    """Batches on the devices, and the position after the last one."""

    def __next__(self) -> Batch:
        """Returns the next batch."""

    def get_state(self) -> dict[str, Any]:
        """Returns the position as JSON, for `set_state`."""


@runtime_checkable
class ProgressBar(Protocol):
    """Shows the progress of a run; tqdm is one."""

    def update(self, n: int) -> Any:
        """Advances by n steps."""

    def set_postfix_str(self, text: str, refresh: bool = True) -> Any:
        """Shows a text next to the bar."""

    def close(self) -> Any:
        """Ends the bar."""


@dataclasses.dataclass(frozen=True)
class Hook:
    """A callback (step, state) of every `every` steps, outside the record: sample grids, tests."""

    every: int
    run: Callable[[int, TrainState], None]


@dataclasses.dataclass(frozen=True)
class LoopParts:
    """What the loop drives.

    Attributes:
        step: compiled (state, batch) -> (state, logged).
        evaluate: held-out metrics of a state, a function of (seed, step); None = never.
        metric_names: of the rows of the logged sums.
        peak_seconds: (state, batch) -> {name: seconds a step would take at the devices' peak};
            called once, while the first step runs.
        after_save: called after each checkpoint, as part of saving.
    """

    step: Callable[[TrainState, Batch], tuple[TrainState, Logged]]
    data: BatchIterator
    store: CheckpointStore
    writer: Writer
    metric_names: tuple[str, ...]
    evaluate: Callable[[TrainState], dict[str, float]] | None = None
    hooks: Sequence[Hook] = ()
    progress: ProgressBar | None = None
    peak_seconds: Callable[[TrainState, Batch], dict[str, float]] = lambda state, batch: {}
    after_save: Callable[[], None] = lambda: None


class Stop:
    """Set by SIGTERM or Ctrl-C during training: the run then saves and exits cleanly.

    Before the first step and after the last there is nothing to save, and compiling the step may
    take minutes: there signals act as they did before the run. In between a signal is acted on
    after the step under way; one that arrives while a later program compiles (the first evaluation,
    the first sample grid) waits for it, since XLA cannot be interrupted.
    """

    def __init__(self) -> None:
        """Starts unset."""
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Stop":
        """Handles Ctrl-C if the job has several processes.

        There SIGTERM is handled by jax from the start, which tells the other processes; Ctrl-C is
        turned into one.
        """
        if jax.process_count() > 1:
            self._handle({signal.SIGINT: self._forward})
        return self

    def __exit__(self, *exception: object) -> None:
        """Restores the signal handlers."""
        self.end()

    def begin(self) -> None:
        """Installs the handlers: from here on there are steps to save. Main thread only.

        In a job of several processes all of them stop at the same step.
        """
        if jax.process_count() == 1 and not self._previous:
            self._handle({signal.SIGTERM: self._request, signal.SIGINT: self._request})

    def end(self) -> None:
        """Restores the previous handlers: everything is saved."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _handle(self, handlers: dict[int, Callable[[int, FrameType | None], None]]) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                self._previous[number] = signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.requested:  # a second signal ends the run at once
            raise KeyboardInterrupt
        self.requested = True

    def _forward(self, number: int, frame: FrameType | None) -> None:
        self._request(number, frame)
        os.kill(os.getpid(), signal.SIGTERM)


class StepClock:
    """Measures steps per second of training alone: time spent elsewhere is left out."""

    def __init__(self, step: int):
        """Starts at a step."""
        self.restart(step)

    def restart(self, step: int) -> None:
        """Counts from this step and from now on."""
        self.step, self._start = step, time.monotonic()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves out the time spent inside."""
        start = time.monotonic()
        try:
            yield
        finally:
            self._start += time.monotonic() - start

    def rate(self, step: int) -> float | None:
        """Returns steps per second since the last call, None if there were none; restarts."""
        steps, start = step - self.step, self._start
        self.restart(step)
        return steps / (self._start - start) if steps > 0 else None


class Loop:
    """One run from a state to `cfg.steps`, or to a stop."""

    def __init__(self, cfg: TrainConfig, eval_every: int, parts: LoopParts):
        """Prepares a run; nothing happens before `run`."""
        self.cfg, self.eval_every, self.parts = cfg, eval_every, parts
        self._pending: tuple[int, Logged] | None = None
        self._clock = StepClock(0)
        self._peak: dict[str, float] = {}
        self._last_save, self._saved_step = time.monotonic(), -1

    def run(self, state: TrainState, stop: Stop) -> tuple[TrainState, bool]:
        """Trains to the end or to `stop`; returns the state and whether the end was reached."""
        step, started = int(state.step), time.monotonic()
        first = step
        self._clock.restart(step)
        in_flight: list[Logged] = []
        while step < self.cfg.steps and not self._should_stop(step, stop):
            batch = next(self.parts.data)
            state, logged = self.parts.step(state, batch)
            step += 1
            self._flush()  # the metrics of step - 1, now that this step is under way
            if step % self.cfg.log_every == 0 or step == self.cfg.steps:
                self._pending = (step, logged)
            in_flight.append(logged)
            if len(in_flight) > 2:  # at most two steps in flight: bounded memory, prompt signals
                jax.block_until_ready(in_flight.pop(0))
            if step == first + 1:  # compilation does not count towards the rate
                self._peak = self.parts.peak_seconds(state, batch)
                jax.block_until_ready(logged)
                self.parts.writer.phase(step, "compile", time.monotonic() - started)
                self._clock.restart(step)
                stop.begin()
            self._after_step(step, state)
        done = step >= self.cfg.steps
        if step not in (first, self._saved_step):
            self._save(step, state, None)
        self._flush()
        with self._paused(state, step, "saving"):
            self.parts.store.wait()
        stop.end()
        if self.parts.progress is not None:
            self.parts.progress.close()
        return state, done

    def _should_stop(self, step: int, stop: Stop) -> bool:
        """Whether any process was asked to stop; all processes agree on the step."""
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            return multihost_utils.reached_preemption_sync_point(step)
        return stop.requested

    def _saves_at(self, step: int) -> bool:
        due = step % self.cfg.save_every == 0 or step == self.cfg.steps
        if due or self.cfg.save_seconds is None:
            return due
        if jax.process_count() > 1 and step % self.cfg.log_every:
            return False  # agreeing means waiting for each other: only where processes wait anyway
        return broadcast_from_zero(time.monotonic() - self._last_save > self.cfg.save_seconds)

    def _after_step(self, step: int, state: TrainState) -> None:
        """Evaluates, saves and runs hooks where they are due."""
        parts, last = self.parts, step == self.cfg.steps
        held_out = None
        if parts.evaluate is not None and (step % self.eval_every == 0 or last):
            with self._paused(state, step, "evaluation"):
                values = parts.evaluate(state)
            held_out = values["held_out/loss"]
            parts.writer.metrics(step, values)
        if self._saves_at(step):
            self._save(step, state, held_out)
        for hook in parts.hooks:
            if hook.every and (step % hook.every == 0 or last):
                with self._paused(state, step, "samples"):
                    hook.run(step, state)
        if parts.progress is not None:
            parts.progress.update(1)

    @contextlib.contextmanager
    def _paused(self, state: TrainState, step: int, phase: str) -> Iterator[None]:
        """Records what is pending and waits for the steps in flight; time inside is the phase's."""
        self._flush()
        jax.block_until_ready(state)
        with self._clock.paused():
            start = time.monotonic()
            yield
            self.parts.writer.phase(step, phase, time.monotonic() - start)

    def _save(self, step: int, state: TrainState, held_out: float | None) -> None:
        with self._paused(state, step, "saving"):
            self._check(step, int(state.consecutive_skips))
            self.parts.store.save(step, state, self.parts.data.get_state(), held_out)
            self.parts.after_save()
        self._last_save, self._saved_step = time.monotonic(), step

    def _flush(self) -> None:
        """Reads and writes the metrics of the last logged step, if they are pending."""
        if self._pending is None:
            return
        (step, logged), self._pending = self._pending, None
        logged = jax.device_get(logged)
        self._check(step, int(logged["row"]))
        values = named_metrics(logged["sums"], self.parts.metric_names)
        values["learning_rate"] = float(logged["rate"])
        values["skipped"] = int(logged["skipped"])
        self.parts.writer.metrics(step, values)
        self._write_timings(step, values)

    def _write_timings(self, step: int, values: dict[str, float]) -> None:
        """Writes rates, and the line next to the progress bar."""
        loss = f"{values['loss']:.4f}" if "loss" in values else "-"
        text = f"step {step}/{self.cfg.steps} loss {loss}"
        steps, rate = step - self._clock.step, self._clock.rate(step)
        if rate is not None:
            images = rate * self.cfg.batch_size
            left = (self.cfg.steps - step) / rate
            timings = {"images_per_second": images, "seconds_left": left, "time": time.time()}
            timings["seconds"] = steps / rate
            timings |= {name: seconds * rate for name, seconds in self._peak.items()}
            self.parts.writer.timings(step, timings)
            text += f" {images:.1f} images/s"
        if self.parts.progress is not None:
            self.parts.progress.set_postfix_str(text)

    def _check(self, step: int, skips: int) -> None:
        """Raises UserError if `skips` updates in a row, up to this step, were not finite."""
        if skips < self.cfg.skip_limit:
            return
        first = step - skips + 1
        raise UserError(
            f"the updates of steps {first} to {first + self.cfg.skip_limit - 1} were not finite "
            f"({self.cfg.skip_limit} in a row); the last checkpoint is from before them: lower the "
            "learning rate or set optim.clip_norm, then start a fresh workdir with init_from"
        )
