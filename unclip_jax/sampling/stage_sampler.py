"""One stage of a bundle, ready to sample: z_i from a prior, images from a decoder or upsampler.

A StageSampler says which fields of Cond it takes and which field its result is for the stages after
it, so that a pipeline is a list of them (pipeline.py). It runs over the local devices;
`PureSampler` is the same as a pure function of arrays.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Key, Num

from unclip_jax.checkpoint.bundle import Bundle, CascadeStep, Stage
from unclip_jax.core.errors import UserError
from unclip_jax.core.types import Cond, Params, Size, TextFeatures
from unclip_jax.data.images import to_uint8
from unclip_jax.diffusion.samplers import SAMPLERS, NoiseFn, SamplerState
from unclip_jax.models.stages import Sampling, StageSpec
from unclip_jax.sampling import parallel, programs, whole
from unclip_jax.sampling.encode import fit_text
from unclip_jax.sampling.monitor import Monitor
from unclip_jax.sampling.programs import ProgramKey
from unclip_jax.sampling.settings import stage_sampling


@dataclasses.dataclass(frozen=True, eq=False)
class Net:
    """One network of a sampler, its program, and how many of the steps it runs in a row."""

    stage: Stage
    program: ProgramKey
    num_steps: int


class Sampler:
    """An element of a pipeline.

    Attributes:
        gives: the field of Cond that its result is for the samplers after it.
        uncond_caption: the caption of guidance's unconditional half.
    """

    gives: str
    uncond_caption: str = ""

    def __call__(
        self,
        cond: Cond,
        keys: Key[Array, " n"],
        latent: Array | np.ndarray | None = None,
        *,
        uncond_text: TextFeatures | None = None,
    ) -> Num[Array | np.ndarray, " n *d"]:
        """Samples n examples.

        Args:
            cond: of the n examples; fields that the sampler does not take are ignored.
            keys: a key per example.
            latent: x_T at the first step's level; None draws it from the keys.
            uncond_text: the encoded `uncond_caption`, for one example.
        """
        raise NotImplementedError


class StageSampler(Sampler):
    """A stage with the settings that it is sampled with.

    Attributes:
        name: of the stage; the first one's where several networks share an upsampling step.
        nets: the networks in order, from noise to the result; one that is guided in an interval of
            noise levels stands there once for each stretch with guidance or without.
        sampling: the settings, of all networks.
        uncond_caption: the caption of guidance's unconditional half.
    """

    def __init__(
        self,
        model: Bundle,
        stage: str,
        sampling: Sampling | None = None,
        dtype: str = "float32",
        *,
        uncond_caption: str = "",
        monitor: Monitor | None = None,
    ):
        """Looks up networks and settings; nothing is compiled or moved to a device yet.

        Args:
            stage: name in the bundle; a network of an upsampling step stands for the whole step.
            sampling: None = the bundle's.
            dtype: of the networks' arithmetic.
        """
        step = next((s for s in model.cascade if stage in [net.stage for net in s.nets]), None)
        self.name = stage if step is None else step.nets[0].stage
        self.sampling = sampling or stage_sampling(model, self.name)
        self.nets = by_interval(_nets(model, self.name, step, self.sampling, dtype), self.sampling)
        self.gives = self.nets[0].stage.spec.row.gives
        self.uncond_caption = uncond_caption
        self._monitor = monitor or Monitor()

    @property
    def kind(self) -> str:
        """Kind of the stage, such as prior, decoder or upsampler."""
        return self.nets[0].stage.spec.row.kind

    @property
    def num_steps(self) -> int:
        """Evaluations of the networks, for an autoregressive prior codes."""
        return sum(net.num_steps for net in self.nets)

    @property
    def takes(self) -> tuple[str, ...]:
        """The fields of Cond that the stage reads."""
        return self.nets[0].stage.spec.model.required_cond

    def read(self, cond: Cond) -> Cond:
        """Returns the part of a condition that the stage takes, its captions as it reads them."""
        taken = Cond(**{field: getattr(cond, field) for field in self.takes})
        taken = taken.replace(text=self.read_text(taken.text))
        if taken.image_emb is None:
            return taken
        return taken.replace(image_keep=cond.image_keep, negative_emb=cond.negative_emb)

    def read_text(self, text: TextFeatures | None) -> TextFeatures | None:
        """Returns captions with their tokens at the context that the stage reads."""
        if text is None or "text" not in self.takes:
            return None
        return fit_text(self.nets[0].stage.spec, text)

    def __call__(
        self,
        cond: Cond,
        keys: Key[Array, " n"],
        latent: Float[np.ndarray, " n *d"] | None = None,
        *,
        uncond_text: TextFeatures | None = None,
    ) -> Num[np.ndarray, " n *d"]:
        """Samples over the local devices: raw z_i from a prior, else images in [-1, 1].

        Raises:
            UserError: the condition lacks what the stage needs, or the result is not finite.
        """
        cond = self.read(cond)
        n = programs.num_examples(self.nets[0].stage.spec, cond)
        split = parallel.split((cond, keys, latent))
        work = functools.partial(self._run, *split, self.read_text(uncond_text), n)
        result = self._monitor.timed(self.name, work)
        return require_finite(parallel.join(result, n), self.name)

    def _run(
        self, cond: Cond, keys: Any, latent: Any, uncond_text: TextFeatures | None, n: Size
    ) -> Num[Array, "device b *d"]:
        """Runs the programs on arguments with a leading device axis, of n examples in all."""
        report = self._monitor.report(self.name, self.num_steps)
        params = [parallel.placed_params(net.stage) for net in self.nets]
        first, scale = self.nets[0].program, np.float32(self.sampling.guidance)
        if first.spec.diffusion is None:
            result = whole.whole_program(first)(params[0], uncond_text, scale, cond, keys)
            if report is not None:
                jax.block_until_ready(result)
                report(self.num_steps)
            return result
        state, done = programs.start_program(first)(keys, latent), 0
        for net, own in zip(self.nets, params, strict=True):
            prepared = programs.prepare_program(net.program)(own, uncond_text, cond)
            program = programs.steps_program(net.program)
            steps = functools.partial(program, own, scale, prepared, keys)
            count, show = net.num_steps, self._show(n)
            state = programs.run_in_parts(steps, state, count, report, first=done, show=show)
            done += net.num_steps
        return programs.result_program(first)(params[0], cond, state.x)

    def _show(self, n: Size) -> Callable[[SamplerState], None] | None:
        """Returns what shows the estimates of x_0 to whoever waits, if these are images."""
        preview = self._monitor.preview
        if preview is None or self.gives != "low_res":
            return None
        return lambda state: preview(self.name, to_uint8(parallel.join(state.x0, n)))

    def reverse_process(
        self,
        params: Mapping[str, Params],
        cond: Cond,
        noise: NoiseFn,
        latent: Float[Array, " n *d"] | None = None,
        *,
        uncond_text: TextFeatures | None = None,
    ) -> Num[Array, " n *d"]:
        """Samples as a pure function of arrays.

        Args:
            params: of each network by the name of its stage.
            noise: noise(step, shape) -> standard normal: `programs.example_noise`, or injected.
        """
        cond, uncond_text = self.read(cond), self.read_text(uncond_text)
        first, scale = self.nets[0].program, np.float32(self.sampling.guidance)
        own = tuple(params[net.stage.spec.stage] for net in self.nets)
        if first.spec.diffusion is None:
            return whole.draw(first, own[0], uncond_text, scale, cond, noise)
        nets = tuple((net.program, net.num_steps) for net in self.nets)
        return programs.reverse_process(nets, own, uncond_text, scale, cond, noise, latent)


class PureSampler(Sampler):
    """A StageSampler as a pure function of arrays, for use under `jax.jit`."""

    def __init__(self, sampler: StageSampler, params: Mapping[str, Params]):
        """Binds parameters, those of each network by the name of its stage."""
        self.gives, self.uncond_caption = sampler.gives, sampler.uncond_caption
        self._sampler, self._params = sampler, params

    def __call__(
        self,
        cond: Cond,
        keys: Key[Array, " n"],
        latent: Float[Array, " n *d"] | None = None,
        *,
        uncond_text: TextFeatures | None = None,
    ) -> Num[Array, " n *d"]:
        """Samples as `StageSampler.__call__` does, on one device."""
        sampler, params = self._sampler, self._params
        noise = programs.example_noise(sampler.nets[0].program, keys)
        return sampler.reverse_process(params, cond, noise, latent, uncond_text=uncond_text)


def by_interval(nets: tuple[Net, ...], sampling: Sampling) -> tuple[Net, ...]:
    """Splits networks where the interval of guidance begins and ends.

    Without guidance a network runs for the conditional half alone: half of the work.
    """
    interval = getattr(sampling, "guidance_interval", None)
    if interval is None or not nets[0].program.is_guided:
        return nets
    plan = programs.sampling_plan(nets[0].program)
    levels = (plan.schedule.sigma / plan.schedule.alpha)[plan.steps]
    is_guided = iter(((levels > interval[0]) & (levels <= interval[1])).tolist())
    found = []
    for net in nets:
        for inside, steps in itertools.groupby(itertools.islice(is_guided, net.num_steps)):
            program = dataclasses.replace(net.program, is_guided=inside)
            found.append(Net(net.stage, program, len(list(steps))))
    return tuple(found)


def require_finite(values: np.ndarray, name: str) -> np.ndarray:
    """Returns the values; values that are not finite are an error that names a remedy."""
    if not np.isfinite(values).all():
        raise UserError(
            f"{name} produced values that are not finite; lower the guidance, or use float32"
        )
    return values


def _nets(
    model: Bundle, name: str, step: CascadeStep | None, sampling: Sampling, dtype: str
) -> tuple[Net, ...]:
    """Returns the networks of a stage, those of one upsampling step with their shares of it."""
    first = model.stage(name).spec
    if step is None:
        program = _program(model, first, sampling, dtype)
        return (Net(model.stage(name), program, _num_steps(program)),)
    program = _program(model, first, sampling, dtype, (step.output_size, step.output_size, 3))
    stages = [model.stage(net.stage) for net in step.nets]
    return tuple(
        Net(stage, dataclasses.replace(program, spec=stage.spec), count)
        for stage, count in zip(stages, step.shares(_num_steps(program)), strict=True)
        if count
    )


def _num_steps(program: ProgramKey) -> int:
    if program.spec.diffusion is None:
        return program.spec.model.num_codes
    return programs.sampling_plan(program).num_steps


def _program(
    model: Bundle,
    spec: StageSpec,
    sampling: Sampling,
    dtype: str,
    shape: tuple[int, ...] | None = None,
) -> ProgramKey:
    table, diffusion = model.arrays.get(f"{spec.stage}.variance_table"), spec.diffusion
    is_analytic = diffusion is not None and diffusion.variance == "analytic"
    if table is None and is_analytic and SAMPLERS[sampling.sampler].uses_variance:
        raise UserError(
            f"bundle {model.name!r} lacks {spec.stage}.variance_table, which its analytic variance "
            "needs; export the finished run again"
        )
    rounds = model.sampling.round_low_res
    return ProgramKey.of(spec, sampling, dtype, shape=shape, table=table, round_low_res=rounds)
