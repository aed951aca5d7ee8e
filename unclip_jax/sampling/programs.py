"""The device programs of a diffusion stage: what they depend on and what they compute.

A stage runs as four programs: the start draws x_T, the preparation reads the condition, the steps
run any part of a network's steps in one compilation, and the result leaves the space that is
diffused. Noise comes from a key an example, or is injected.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

from unclip_jax.core import prng
from unclip_jax.core.errors import UserError
from unclip_jax.core.types import Cond, Params, Size, TextFeatures
from unclip_jax.data.images import round_to_8_bits
from unclip_jax.diffusion.denoiser import Denoiser
from unclip_jax.diffusion.samplers import (
    NoiseFn,
    SamplerState,
    SamplingPlan,
    init_state,
    make_plan,
    run_steps,
)
from unclip_jax.diffusion.schedules import make_schedule
from unclip_jax.models import denoising
from unclip_jax.models.denoising import Network, NetworkFn, Prepared
from unclip_jax.models.embedding_norm import denormalize, stats_of
from unclip_jax.models.stages import Sampling, StageSpec, make_module
from unclip_jax.sampling import parallel
from unclip_jax.sampling.settings import check_dtype

INITIAL = -1  # the step index whose noise is x_T, or the autoregressive prior's dot token
CHUNKS = 10  # reports a stage makes to its progress bar, about
PRECISION = {"float32": "highest", "bfloat16": "default"}
"""Matrix multiplications of a dtype: full float32 on every platform, or the platform's fastest."""


@dataclasses.dataclass(frozen=True)
class ProgramKey:
    """All that a compiled program depends on, besides the shapes of its arguments; hashable.

    Attributes:
        sampling: with guidance set to 1 and no interval: the scale is an argument, and only
            `is_guided` is static.
        noise_id: key id of the stage whose keys draw the noise: of networks that share the steps of
            one upsampling step, the first's.
        shape: of one sample, without the batch.
        table: the analytic variance's float64 table as bytes.
    """

    spec: StageSpec
    sampling: Sampling
    is_guided: bool
    dtype: str
    noise_id: int
    shape: tuple[int, ...]
    table: bytes | None
    round_low_res: bool

    @classmethod
    def of(
        cls,
        spec: StageSpec,
        sampling: Sampling,
        dtype: str = "float32",
        *,
        shape: tuple[int, ...] | None = None,
        table: Float[np.ndarray, " t"] | None = None,
        round_low_res: bool = False,
    ) -> "ProgramKey":
        """Returns the key of a stage by itself; `shape` defaults to that of its network."""
        is_guided = sampling.guidance != 1.0
        if getattr(sampling, "guidance_interval", None) is not None:
            sampling = dataclasses.replace(sampling, guidance_interval=None)
        return cls(
            spec=spec,
            sampling=dataclasses.replace(sampling, guidance=1.0) if is_guided else sampling,
            is_guided=is_guided,
            dtype=dtype,
            noise_id=spec.row.key_id,
            shape=spec.model.sample_shape if shape is None else shape,
            table=None if table is None else np.asarray(table, np.float64).tobytes(),
            round_low_res=round_low_res,
        )

    @property
    def num_candidates(self) -> int:
        """Samples per example, of which the best is kept."""
        return self.sampling.num_candidates


@functools.lru_cache(maxsize=64)
def sampling_plan(program: ProgramKey) -> SamplingPlan:
    """Returns the levels and step kind of a program."""
    diffusion = program.spec.diffusion
    schedule = make_schedule(diffusion.schedule, diffusion.num_steps)
    table = None if program.table is None else np.frombuffer(program.table, np.float64)
    return make_plan(schedule, program.sampling, diffusion, variance_table=table)


def stage_network(spec: StageSpec, dtype: str) -> NetworkFn:
    """Returns the pure function (params, x_t, t, cond) of a stage's raw network.

    dtype "float32" multiplies matrices in full float32 on every platform; "bfloat16" is that of the
    layers' arithmetic, parameters staying as they are.
    """
    return _at_precision(denoising.network_fn(_module(spec, dtype)), dtype)


def stepped_network(spec: StageSpec, dtype: str) -> Network:
    """Returns a stage's network for many steps under one condition; see `stage_network`."""
    network = denoising.prepared_network(_module(spec, dtype))
    return Network(_at_precision(network.prepare, dtype), _at_precision(network.apply, dtype))


def _module(spec: StageSpec, dtype: str) -> nn.Module:
    return make_module(spec, dtype=compute_dtype(dtype))


def _at_precision(function: Callable[..., Any], dtype: str) -> Callable[..., Any]:
    """Returns a function (params, *arrays) that multiplies matrices as PRECISION says."""

    def apply(params: Params, *arrays: Any) -> Any:
        with jax.default_matmul_precision(PRECISION[dtype]):
            return function(params, *jax.tree.map(jnp.asarray, arrays))

    return apply


def compute_dtype(name: str) -> DTypeLike:
    """Returns the dtype of a name in settings.DTYPES."""
    check_dtype(name)
    return jnp.dtype(name)


def num_examples(spec: StageSpec, cond: Cond) -> Size:
    """Returns the number of examples of a condition.

    Raises:
        UserError: the condition lacks what the stage needs.
    """
    fields = spec.model.required_cond
    given = jax.tree.leaves([getattr(cond, field) for field in fields])
    if not given:
        names = " or ".join(f"Cond.{field}" for field in fields)
        raise UserError(f"the condition of {spec.stage} is missing: give {names}")
    return given[0].shape[0]


def program_denoiser(
    program: ProgramKey, params: Params, cond: Cond, uncond_text: TextFeatures | None, scale: Any
) -> Denoiser:
    """Returns the guided denoiser of a program, x_0 limited as its settings say."""
    prepared = prepare(program, params, cond, uncond_text)
    return prepared_denoiser(program, params, prepared, scale)


def prepare(
    program: ProgramKey, params: Params, cond: Cond, uncond_text: TextFeatures | None
) -> Prepared:
    """Reads a condition once for all steps of a program, guidance's unconditional half included."""
    network = stepped_network(program.spec, program.dtype)
    guided = program.is_guided
    return denoising.prepare(network, params, cond, is_guided=guided, uncond_text=uncond_text)


def prepared_denoiser(
    program: ProgramKey, params: Params, prepared: Prepared, scale: Any
) -> Denoiser:
    """Returns `program_denoiser` of a condition that has been read."""
    return denoising.stage_denoiser(
        program.spec,
        stepped_network(program.spec, program.dtype),
        params,
        prepared,
        scale=scale if program.is_guided else None,
        limits=program.sampling,
    )


def example_noise(program: ProgramKey, keys: Key[Array, " b"]) -> NoiseFn:
    """Returns noise(step, shape) from a key per candidate, those of an example side by side."""
    staged = jax.vmap(lambda example: prng.stage_key(example, program.noise_id))(keys)
    numbers = jnp.arange(program.num_candidates)
    keys = jax.vmap(lambda example: prng.example_keys(example, numbers))(staged).reshape(-1)

    def noise(step: Any, shape: tuple[Size, ...]) -> Array:
        steps = jax.vmap(prng.step_key, in_axes=(0, None))(keys, step + 1)
        return jax.vmap(lambda key: jax.random.normal(key, shape[1:], jnp.float32))(steps)

    return noise


def candidate_cond(program: ProgramKey, cond: Cond) -> Cond:
    """Repeats the condition for every candidate, low-res images rounded to 8 bits if configured."""
    if cond.low_res is not None and program.round_low_res:
        cond = cond.replace(low_res=round_to_8_bits(cond.low_res))
    return jax.tree.map(lambda leaf: jnp.repeat(leaf, program.num_candidates, axis=0), cond)


def initial(
    program: ProgramKey, noise: NoiseFn, shape: tuple[Size, ...], latent: Array | None
) -> Float[Array, " b *d"]:
    """Returns x_T: the latent if there is one, else noise, scaled as the settings say."""
    if latent is not None:
        return jnp.asarray(latent, jnp.float32)
    x = jnp.asarray(noise(INITIAL, shape), jnp.float32)
    scale = program.sampling.initial_noise_scale
    return x if scale is None else scale * x


def stage_result(program: ProgramKey, params: Params, cond: Cond, x: Array) -> Array:
    """Turns the clean sample into the stage's result: the best candidate's raw z_i, or an image."""
    if not program.spec.row.gives_embedding:
        return jnp.clip(x, -1.0, 1.0)
    z = denormalize(x, program.spec.norm, stats_of(params))
    return best_candidate(z.reshape(-1, program.num_candidates, z.shape[-1]), cond.text.text_emb)


def best_candidate(
    z: Float[Array, "b candidates d"], text_emb: Float[Array, "b d"]
) -> Float[Array, "b d"]:
    """Keeps each example's z_i with the largest z_i . z_t; ties go to the first (paper §2.2)."""
    score = jnp.einsum("bkd,bd->bk", z, text_emb, precision="highest")
    best = jnp.argmax(score, axis=1)
    return jnp.take_along_axis(z, best[:, None, None], axis=1)[:, 0]


def reverse_process(
    nets: tuple[tuple[ProgramKey, int], ...],
    params: tuple[Params, ...],
    uncond_text: TextFeatures | None,
    scale: Any,
    cond: Cond,
    noise: NoiseFn,
    latent: Array | None = None,
) -> Float[Array, " b *d"]:
    """All steps of all networks and the result, as a pure function of arrays.

    Args:
        nets: each network's program key and number of steps.
        params: of each network.
        noise: `example_noise`, or injected.
        latent: x_T at the first step's level; None draws it from `noise`.
    """
    first, prepared = nets[0][0], candidate_cond(nets[0][0], cond)
    rows = num_examples(first.spec, prepared)
    state = init_state(initial(first, noise, (rows, *first.shape), latent))
    done = 0
    for (program, count), own in zip(nets, params, strict=True):
        denoise = program_denoiser(program, own, prepared, uncond_text, scale)
        state, _ = run_steps(denoise, state, sampling_plan(program), noise, start=done, count=count)
        done += count
    return stage_result(first, params[0], cond, state.x)


@functools.lru_cache(maxsize=64)
def start_program(program: ProgramKey) -> Callable[..., SamplerState]:
    """Compiles (keys, latent) -> the state before the first step; a latent of None is drawn."""

    def start(keys: Any, latent: Any) -> SamplerState:
        shape = (keys.shape[0] * program.num_candidates, *program.shape)
        return init_state(initial(program, example_noise(program, keys), shape, latent))

    return parallel.over_devices(start, shared=(), key=("start", program))


@functools.lru_cache(maxsize=64)
def prepare_program(program: ProgramKey) -> Callable[..., Prepared]:
    """Compiles (params, uncond_text, cond) -> the condition of every candidate, read."""

    def read(params: Any, uncond_text: Any, cond: Any) -> Prepared:
        return prepare(program, params, candidate_cond(program, cond), uncond_text)

    return parallel.over_devices(read, shared=(0, 1), key=("prepare", program))


@functools.lru_cache(maxsize=64)
def steps_program(program: ProgramKey) -> Callable[..., SamplerState]:
    """Compiles (params, scale, prepared condition, keys, (start, count), state) -> state.

    Runs `count` steps from step `start` on. Both are arguments, so that one program serves a whole
    run and every part of one.
    """

    def steps(
        params: Any, scale: Any, prepared: Prepared, keys: Any, span: Any, state: Any
    ) -> SamplerState:
        noise, plan = example_noise(program, keys), sampling_plan(program)
        denoise = prepared_denoiser(program, params, prepared, scale)
        start, count = span
        return run_steps(denoise, state, plan, noise, start=start, count=count)[0]

    return parallel.over_devices(steps, shared=(0, 1, 4), key=("steps", program))


@functools.lru_cache(maxsize=64)
def result_program(program: ProgramKey) -> Callable[..., Array]:
    """Compiles (params, cond, clean sample) -> `stage_result`."""

    def result(params: Any, cond: Any, x: Any) -> Array:
        return stage_result(program, params, cond, x)

    return parallel.over_devices(result, shared=(0,), key=("result", program))


def run_in_parts(
    steps: Callable[[tuple[np.int32, np.int32], Any], Any],
    state: Any,
    count: int,
    report: Callable[[int], None] | None,
    *,
    first: int = 0,
    show: Callable[[Any], None] | None = None,
) -> Any:
    """Runs state = steps((start, count), state) over `count` steps from `first` on.

    Args:
        report: called with the steps done after each of about CHUNKS parts; None makes one part.
        show: called with the state after each part that is reported.
    """
    parts = 1 if report is None else max(1, min(CHUNKS, count))
    ends = [first + i * count // parts for i in range(parts + 1)]
    for start, stop in itertools.pairwise(ends):
        state = steps((np.int32(start), np.int32(stop - start)), state)
        if report is not None:
            jax.block_until_ready(state)
            report(stop)
            if show is not None:
                show(state)
    return state
