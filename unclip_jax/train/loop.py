"""The one training loop: dispatch, record, evaluate, save, stop.

The order of a run, which resuming relies on:
  1. The state is restored (or born), the data iterator put where the restored step left it, and the
     record cut back to that step.
  2. Step n + 1 is dispatched before the metrics of step n are read.
  3. The record up to step n is on disk before the checkpoint of step n is begun.
What the loop does not know: models, tasks, files of pictures. It gets a step function, iterators,
writers and hooks.
"""

import dataclasses
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from unclip_jax.checkpoint.store import CheckpointStore
from unclip_jax.core.distributed import broadcast_from_zero
from unclip_jax.core.errors import UserError
from unclip_jax.train.config import TrainConfig
from unclip_jax.train.metrics import Writer
from unclip_jax.train.state import TrainState


@runtime_checkable
class Data(Protocol):
    """Batches of device arrays, and where the iterator stands after the last one."""

    def __next__(self) -> Any:
        """Returns the next batch on the devices."""

    def get_state(self) -> dict[str, Any]:
        """Returns what `set_state` needs, as JSON."""


@runtime_checkable
class Progress(Protocol):
    """Shows how far a run is; tqdm is one."""

    def update(self, n: int) -> Any:
        """Moves on by n steps."""

    def set_postfix_str(self, text: str, refresh: bool = True) -> Any:
        """Shows a few words beside the bar."""

    def close(self) -> Any:
        """Ends the bar."""


@dataclasses.dataclass(frozen=True)
class Hook:
    """Something that is done every so many steps, outside the record: sample grids, profiles."""

    every: int
    run: Callable[[int, TrainState], None]


@dataclasses.dataclass(frozen=True)
class LoopParts:
    """What a run is made of.

    Attributes:
        step: compiled (state, batch) -> (state, logged).
        evaluate: held-out metrics of the state, a function of (seed, step); None = never.
        metric_names: of the rows of the logged sums.
        peak_seconds: (state, batch) -> {name: seconds a step would take at the devices' peak};
            asked once, while the first step runs.
    """

    step: Callable[[TrainState, Any], tuple[TrainState, Any]]
    data: Data
    store: CheckpointStore
    writer: Writer
    metric_names: tuple[str, ...]
    evaluate: Callable[[TrainState], dict[str, float]] | None = None
    hooks: Sequence[Hook] = ()
    progress: Progress | None = None
    peak_seconds: Callable[[TrainState, Any], dict[str, float]] = lambda state, batch: {}


class Stop:
    """Set by SIGTERM or Ctrl-C while steps are taken: the run saves and ends in good order.

    Before the first step and after the last there is nothing to save, and a compilation may take
    minutes: there signals do at once what they did before the run.
    """

    def __init__(self) -> None:
        """Starts unset."""
        self.requested = False
        self._old: dict[int, Any] = {}

    def __enter__(self) -> "Stop":
        """Watches for Ctrl-C if the job has several processes.

        There SIGTERM is jax's from the start, which tells the others of it; Ctrl-C becomes one.
        """
        if jax.process_count() > 1:
            self._take({signal.SIGINT: self._pass_on})
        return self

    def __exit__(self, *exception: Any) -> None:
        """Gives the signals back."""
        self.end()

    def begin(self) -> None:
        """Takes the signals over: from here on there are steps to save. Only the main thread may.

        In a job of several processes all of them stop at a step, whenever the signal came.
        """
        if jax.process_count() == 1 and not self._old:
            self._take({signal.SIGTERM: self._note, signal.SIGINT: self._note})

    def end(self) -> None:
        """Gives the signals back: everything is saved."""
        for number, handler in self._old.items():
            signal.signal(number, handler)
        self._old = {}

    def _take(self, handlers: dict[int, Any]) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                self._old[number] = signal.signal(number, handler)

    def _note(self, number: int, frame: Any) -> None:
        if self.requested:  # the second time it is meant
            raise KeyboardInterrupt
        self.requested = True

    def _pass_on(self, number: int, frame: Any) -> None:
        self._note(number, frame)
        os.kill(os.getpid(), signal.SIGTERM)


def named_metrics(sums: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Returns the means of those metrics that have any weight."""
    return {
        name: float(total / weight)
        for name, (total, weight) in zip(names, sums.astype(np.float64), strict=True)
        if weight > 0
    }


class Loop:
    """One run from the state it is given to `cfg.steps`, or to a stop."""

    def __init__(self, cfg: TrainConfig, every_eval: int, parts: LoopParts):
        """Prepares a run; nothing happens before `run`."""
        self.cfg, self.every_eval, self.parts = cfg, every_eval, parts
        self._pending: tuple[int, Any] | None = None
        self._clock = (0, time.monotonic())
        self._peak: dict[str, float] = {}
        self._last_save, self._saved_step = time.monotonic(), -1

    def run(self, state: TrainState, stop: Stop) -> tuple[TrainState, bool]:
        """Trains to the end or to `stop`; returns the state and whether the end was reached."""
        step = first = int(state.step)
        self._clock = (step, time.monotonic())
        ahead: list[Any] = []
        while step < self.cfg.steps and not self._should_stop(step, stop):
            batch = next(self.parts.data)
            state, logged = self.parts.step(state, batch)
            step += 1
            self._flush()  # what step - 1 left to read, now that this step is under way
            if step % self.cfg.log_every == 0 or step == self.cfg.steps:
                self._pending = (step, logged)
            ahead.append(logged)
            if len(ahead) > 2:  # at most two steps in flight: bounded memory, prompt signals
                jax.block_until_ready(ahead.pop(0))
            if step == first + 1:  # the compilation is no part of the rate
                self._peak = self.parts.peak_seconds(state, batch)
                jax.block_until_ready(logged)
                self._clock = (step, time.monotonic())
                stop.begin()
            self._after_step(step, state)
        done = step >= self.cfg.steps
        if step not in (first, self._saved_step):
            self._save(step, state, None)
        self._flush()
        self.parts.store.wait()
        stop.end()
        if self.parts.progress is not None:
            self.parts.progress.close()
        return state, done

    def _should_stop(self, step: int, stop: Stop) -> bool:
        """Whether any process was told to stop; all processes agree on the step."""
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            return multihost_utils.reached_preemption_sync_point(step)
        return stop.requested

    def _saves_at(self, step: int) -> bool:
        due = step % self.cfg.save_every == 0 or step == self.cfg.steps
        if due or self.cfg.save_seconds is None:
            return due
        if jax.process_count() > 1 and step % self.cfg.log_every:
            return False  # to agree is to wait for each other, so they do where they wait anyway
        return broadcast_from_zero(time.monotonic() - self._last_save > self.cfg.save_seconds)

    def _after_step(self, step: int, state: TrainState) -> None:
        """Evaluates, saves and runs hooks where it is their turn."""
        parts, last = self.parts, step == self.cfg.steps
        held_out = None
        if parts.evaluate is not None and (step % self.every_eval == 0 or last):
            self._flush()
            values = parts.evaluate(state)
            held_out = values["held_out/loss"]
            parts.writer.metrics(step, values)
            self._restart_clock(step)
        if self._saves_at(step):
            self._save(step, state, held_out)
        for hook in parts.hooks:
            if hook.every and (step % hook.every == 0 or last):
                self._flush()
                hook.run(step, state)
                self._restart_clock(step)
        if parts.progress is not None:
            parts.progress.update(1)

    def _restart_clock(self, step: int) -> None:
        self._clock = (step, time.monotonic())

    def _save(self, step: int, state: TrainState, held_out: float | None) -> None:
        self._flush()
        self._check(step, int(state.consecutive_skips))
        self.parts.store.save(step, state, self.parts.data.get_state(), held_out)
        self._last_save, self._saved_step = time.monotonic(), step

    def _flush(self) -> None:
        """Reads and writes the metrics of the last logged step, if they wait."""
        if self._pending is None:
            return
        (step, logged), self._pending = self._pending, None
        logged = jax.device_get(logged)
        self._check(step, int(logged["row"]))
        values = named_metrics(logged["sums"], self.parts.metric_names)
        values["learning_rate"] = float(logged["rate"])
        values["skipped"] = int(logged["skipped"])
        self.parts.writer.metrics(step, values)
        self._time(step, values)

    def _time(self, step: int, values: dict[str, float]) -> None:
        before, start = self._clock
        now = time.monotonic()
        loss = f"{values['loss']:.4f}" if "loss" in values else "-"
        text = f"step {step}/{self.cfg.steps} loss {loss}"
        if step > before:
            rate = (step - before) / (now - start)
            images = rate * self.cfg.batch_size
            left = (self.cfg.steps - step) / rate
            timings = {"images_per_second": images, "seconds_left": left, "time": time.time()}
            timings |= {name: seconds * rate for name, seconds in self._peak.items()}
            self.parts.writer.timings(step, timings)
            text += f" {images:.1f} images/s"
        self._clock = (step, now)
        if self.parts.progress is not None:
            self.parts.progress.set_postfix_str(text)

    def _check(self, step: int, row: int) -> None:
        """Stops a run whose updates have not been finite for too long."""
        if row < self.cfg.skip_limit:
            return
        first = step - row + 1
        raise UserError(
            f"the updates of steps {first} to {first + self.cfg.skip_limit - 1} were not finite "
            f"({self.cfg.skip_limit} in a row); the last checkpoint is from before them: lower the "
            "learning rate or set optim.clip_norm, then start a fresh workdir with init_from"
        )
