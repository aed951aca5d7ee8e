"""Which networks a stage of sampling runs, for how many steps, and what its program depends on."""

import dataclasses
import functools

import numpy as np

from unclip_jax.checkpoint.bundle import Bundle, CascadeStep, Stage
from unclip_jax.core.errors import UserError
from unclip_jax.diffusion.samplers import SamplingPlan, make_plan
from unclip_jax.diffusion.schedules import make_schedule
from unclip_jax.models.stages import Sampling, StageSpec
from unclip_jax.sampling.settings import stage_sampling

INITIAL = -1  # the step index whose noise is x_T, or the autoregressive prior's dot token


@dataclasses.dataclass(frozen=True)
class Static:
    """What a compiled program depends on beside array shapes; hashable.

    Attributes:
        sampling: with guidance set to 1: the scale is an argument, only `guided` is static.
        shape: of one example, without the batch.
        table: the analytic variance's float64 table as bytes.
    """

    spec: StageSpec
    sampling: Sampling
    guided: bool
    dtype: str
    shape: tuple[int, ...]
    table: bytes | None
    round_low_res: bool

    @property
    def draws(self) -> int:
        """Samples an example, of which the best is kept."""
        return self.sampling.num_candidates


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A stage ready to run: its networks in order, with the number of steps of each."""

    name: str
    nets: tuple[tuple[Stage, int], ...]
    sampling: Sampling
    static: Static

    def static_of(self, stage: Stage) -> Static:
        """Returns the statics with another network of the same schedule in place."""
        return dataclasses.replace(self.static, spec=stage.spec)

    @property
    def statics(self) -> tuple[tuple[Static, int], ...]:
        """What `reverse_process` needs beside arrays: each network's statics and steps."""
        return tuple((self.static_of(stage), count) for stage, count in self.nets)


def single_net(model: Bundle, stage: str, sampling: Sampling, dtype: str) -> Run:
    """Prepares a stage of one network."""
    held = model.stage(stage)
    static = _static(model, stage, sampling, dtype, held.spec.model.sample_shape)
    return Run(stage, ((held, _count(static)),), sampling, static)


def cascade_run(
    model: Bundle, step: CascadeStep, dtype: str, sampling: Sampling | None = None
) -> Run:
    """Prepares an upsampling step; its first network's settings hold for all of them."""
    first = step.nets[0].stage
    sampling = sampling or stage_sampling(model, first)
    shape = (step.output_size, step.output_size, 3)
    static = _static(model, first, sampling, dtype, shape)
    counts = zip(step.nets, step.shares(_count(static)), strict=True)
    nets = tuple((model.stage(net.stage), count) for net, count in counts if count)
    return Run(first, nets, sampling, static)


def run_for(model: Bundle, stage: str, sampling: Sampling | None, dtype: str) -> Run:
    """Prepares a stage by name; a network of the cascade brings its partners with it."""
    for step in model.cascade:
        if stage in [net.stage for net in step.nets]:
            return cascade_run(model, step, dtype, sampling)
    return single_net(model, stage, sampling or stage_sampling(model, stage), dtype)


def _static(
    model: Bundle, stage: str, sampling: Sampling, dtype: str, shape: tuple[int, ...]
) -> Static:
    table, spec = model.arrays.get(f"{stage}.variance_table"), model.stage(stage).spec
    diffusion = spec.diffusion
    is_analytic = diffusion is not None and diffusion.variance == "analytic"
    if table is None and is_analytic and sampling.sampler == "ddpm":
        raise UserError(
            f"bundle {model.name!r} lacks {stage}.variance_table, which its analytic variance "
            "needs; export the finished run again"
        )
    return Static(
        spec=spec,
        sampling=dataclasses.replace(sampling, guidance=1.0),
        guided=sampling.guidance != 1.0,
        dtype=dtype,
        shape=shape,
        table=None if table is None else np.asarray(table, np.float64).tobytes(),
        round_low_res=model.sampling.round_low_res,
    )


@functools.lru_cache(maxsize=64)
def sampling_plan(static: Static) -> SamplingPlan:
    """Returns the levels and step kind of a program."""
    diffusion = static.spec.diffusion
    schedule = make_schedule(diffusion.schedule, diffusion.num_steps)
    table = None if static.table is None else np.frombuffer(static.table, np.float64)
    return make_plan(schedule, static.sampling, diffusion, variance_table=table)


def _count(static: Static) -> int:
    if static.spec.diffusion is None:
        return static.spec.model.embedding_codec.components
    return sampling_plan(static).num_steps
