"""Measures of speed: the share of the devices' peak (MFU, HFU), and a trace of a few steps."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import jax
from jaxtyping import PyTree

from unclip_jax.core.chips import chip_of
from unclip_jax.core.flops import work_of
from unclip_jax.models.stages import StageSpec
from unclip_jax.train.step import Step

WARM_UP = 2  # steps before a trace: the first one compiles

Config = TypeVar("Config")


def with_remat(spec: Config, remat: str) -> Config:
    """Returns a stage's spec, or any config in it, with every field `remat` replaced."""
    if not dataclasses.is_dataclass(spec):
        return spec
    values = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}
    changed = {
        name: remat if name == "remat" else with_remat(value, remat)
        for name, value in values.items()
    }
    return dataclasses.replace(spec, **changed)


def peak_seconds(
    make_step: Callable[[StageSpec], Step],
    spec: StageSpec,
    arguments: tuple[PyTree, PyTree, PyTree],
    devices: Sequence[jax.Device],
) -> dict[str, float]:
    """Returns the seconds of a step at the devices' peak; times steps per second it is the share.

    "mfu" counts what the model needs, "hfu" also what rematerialization computes again. Counted in
    the traced step, so that nothing runs. Empty on devices whose peak is unknown.

    Args:
        make_step: the training step of a spec.
        arguments: (state, constants, batch), of which only the shapes are used.
    """
    chip = chip_of(devices[0].device_kind)
    if chip is None:
        return {}
    hardware = work_of(make_step(spec), *arguments).flops
    plain = with_remat(spec, "none")
    model = hardware if plain == spec else work_of(make_step(plain), *arguments).flops
    rate = chip.flops * len(devices)
    return {"mfu": model / rate, "hfu": hardware / rate}


class TracedSteps:
    """A step that writes a profiler's trace of some of its calls, after WARM_UP of them."""

    def __init__(
        self,
        step: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]],
        folder: Path,
        count: int,
    ):
        """Wraps (state, batch) -> (state, logged)."""
        self._step, self._folder, self._count = step, folder, count
        self._calls, self._tracing = 0, False

    def __call__(self, state: PyTree, batch: PyTree) -> tuple[PyTree, PyTree]:
        """Takes a step."""
        if self._calls == WARM_UP:
            jax.block_until_ready(state)
            jax.profiler.start_trace(self._folder)
            self._tracing = True
        with jax.profiler.StepTraceAnnotation("train", step_num=self._calls):
            result = self._step(state, batch)
        self._calls += 1
        if self._calls == WARM_UP + self._count:
            jax.block_until_ready(result)
            self.close()
        return result

    def close(self) -> None:
        """Writes the trace, if one is being taken."""
        if self._tracing:
            self._tracing = False
            jax.profiler.stop_trace()
