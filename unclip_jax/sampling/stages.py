"""One stage of sampling: a network, or two that share a schedule, run from noise to their result.

The steps of a network are one device program, which takes the range of steps to run. For a progress
bar it is called for one part of the run after the other, with the same numbers. Noise comes from a
key an example, or is injected.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from unclip_jax.core import prng
from unclip_jax.core.types import Cond, Params, Size, TextFeatures
from unclip_jax.data.images import to_float, to_uint8
from unclip_jax.diffusion.denoiser import (
    Denoiser,
    guided_network,
    limited,
    make_denoiser,
    split_variance,
)
from unclip_jax.diffusion.process import convert
from unclip_jax.diffusion.samplers import (
    NoiseFn,
    SamplerState,
    init_state,
    run_steps,
)
from unclip_jax.diffusion.schedules import make_schedule
from unclip_jax.models.embedding_norm import denormalize, stats_of
from unclip_jax.models.stages import StageSpec, make_module
from unclip_jax.sampling import codes, parallel
from unclip_jax.sampling.encode import PRECISION, batch_size, compute_dtype, placed_params
from unclip_jax.sampling.runs import INITIAL, Run, Static, sampling_plan

CHUNKS = 10  # reports a stage makes to its progress bar, about


def apply_network(
    spec: StageSpec, dtype: str
) -> Callable[[Params, Array, Array, Cond], Float[Array, " b *e"]]:
    """Returns the pure function (params, x_t, t, cond) of a stage's raw network.

    dtype "float32" multiplies matrices in full float32 on every platform; "bfloat16" is that of the
    layers' arithmetic, parameters staying as they are.
    """
    module = make_module(spec, dtype=compute_dtype(dtype))

    def apply(params: Params, x_t: Any, t: Any, cond: Cond) -> Array:
        x_t, t, cond = jax.tree.map(jnp.asarray, (x_t, t, cond))
        with jax.default_matmul_precision(PRECISION[dtype]):
            return module.apply({"params": params}, x_t, t, cond, train=False)

    return apply


def apply_as_noise(
    spec: StageSpec, dtype: str
) -> Callable[[Params, Array, Array, Cond], Float[Array, " b *e"]]:
    """Returns a stage's raw network with its prediction of an image rewritten as noise.

    Variance channels pass through; a prior stays what it is, a prediction of z_i or of codes.
    """
    apply = apply_network(spec, dtype)
    if spec.row.gives_embedding or spec.diffusion.prediction == "eps":
        return apply
    schedule = make_schedule(spec.diffusion.schedule, spec.diffusion.num_steps)

    def noise(params: Params, x_t: Array, t: Array, cond: Cond) -> Array:
        value, variance = split_variance(apply(params, x_t, t, cond), x_t.shape[-1])
        level = schedule.level(t, x_t.dtype)
        eps = convert(value, x_t, level, source=spec.diffusion.prediction, target="eps")
        return eps if variance is None else jnp.concatenate([eps, variance], axis=-1)

    return noise


def doubled(cond: Cond, empty: TextFeatures | None, n: Size) -> Cond:
    """Returns the conditions of [conditional; unconditional]: there no z_i, the empty caption."""
    keep = jnp.ones(n, bool) if cond.image_keep is None else cond.image_keep
    twice = functools.partial(jax.tree.map, lambda leaf: jnp.concatenate([leaf, leaf]))
    text = None
    if cond.text is not None:
        text = jax.tree.map(
            lambda leaf, null: jnp.concatenate([leaf, jnp.broadcast_to(null, leaf.shape)]),
            cond.text,
            empty,
        )
    has_emb = cond.image_emb is not None
    return Cond(
        image_emb=twice(cond.image_emb) if has_emb else None,
        image_keep=jnp.concatenate([keep, jnp.zeros(n, bool)]) if has_emb else None,
        text=text,
        low_res=twice(cond.low_res) if cond.low_res is not None else None,
    )


def bound_denoiser(
    static: Static, params: Params, cond: Cond, empty: TextFeatures | None, scale: Any
) -> Denoiser:
    """Returns the guided and clipped denoiser of a network with its condition bound."""
    apply = apply_network(static.spec, static.dtype)

    def network(x_t: Array, t: Array) -> Array:
        if not static.guided:
            return apply(params, x_t, t, cond)
        return apply(params, x_t, t, doubled(cond, empty, x_t.shape[0] // 2))

    if static.guided:
        network = guided_network(network, jnp.asarray(scale, jnp.float32))
    diffusion = static.spec.diffusion
    schedule = make_schedule(diffusion.schedule, diffusion.num_steps)
    return limited(make_denoiser(network, schedule, diffusion), static.sampling)


def stage_noise(static: Static, keys: Key[Array, " b"]) -> NoiseFn:
    """Returns noise(step, shape), a key a draw, an example's draws together; INITIAL gives x_T."""
    staged = jax.vmap(lambda key: prng.stage_key(key, static.spec.row.key_id))(keys)
    draws = jnp.arange(static.draws)
    keys = jax.vmap(lambda key: prng.example_keys(key, draws))(staged).reshape(-1)

    def noise(step: Any, shape: tuple[Size, ...]) -> Array:
        steps = jax.vmap(prng.step_key, in_axes=(0, None))(keys, step + 1)
        return jax.vmap(lambda key: jax.random.normal(key, shape[1:], jnp.float32))(steps)

    return noise


def prepare(static: Static, cond: Cond) -> Cond:
    """Returns the condition of every draw, the low-res image rounded to 8 bits if so configured."""
    if cond.low_res is not None and static.round_low_res:
        cond = cond.replace(low_res=to_float(to_uint8(cond.low_res)))
    return jax.tree.map(lambda leaf: jnp.repeat(leaf, static.draws, axis=0), cond)


def _finish(static: Static, params: Params, cond: Cond, x: Array) -> Array:
    """Turns the clean sample into the stage's result: a raw z_i, the best draw's, or an image."""
    if not static.spec.row.gives_embedding:
        return jnp.clip(x, -1.0, 1.0)
    z = denormalize(x, static.spec.norm, stats_of(params))
    return best_draw(z.reshape(-1, static.draws, z.shape[-1]), cond.text.text_emb)


def best_draw(z: Float[Array, "b draws d"], text_emb: Float[Array, "b d"]) -> Float[Array, "b d"]:
    """Keeps each example's draw with the largest z_i . z_t; ties go to the first (paper §2.2)."""
    score = jnp.einsum("bkd,bd->bk", z, text_emb, precision="highest")
    best = jnp.argmax(score, axis=1)
    return jnp.take_along_axis(z, best[:, None, None], axis=1)[:, 0]


def initial(
    static: Static, noise: NoiseFn, shape: tuple[Size, ...], latent: Array | None
) -> Float[Array, " b *d"]:
    """Returns x_T: the latent if there is one, else noise, scaled as the settings say."""
    if latent is not None:
        return jnp.asarray(latent, jnp.float32)
    x = jnp.asarray(noise(INITIAL, shape), jnp.float32)
    scale = static.sampling.initial_noise_scale
    return x if scale is None else scale * x


def reverse_process(
    nets: tuple[tuple[Static, int], ...],
    params: tuple[Params, ...],
    empty: TextFeatures | None,
    scale: Any,
    cond: Cond,
    noise: NoiseFn,
    latent: Array | None = None,
) -> Float[Array, " b *d"]:
    """All steps of all networks and the result, as a pure function of arrays.

    Args:
        nets: `Run.statics`.
        params: of each network.
        noise: `stage_noise`, or injected.
        latent: x_T at the first step's level; None draws it from `noise`.
    """
    first, prepared = nets[0][0], prepare(nets[0][0], cond)
    rows = batch_size(first.spec, prepared)
    if first.spec.diffusion is None:
        both = doubled(prepared, empty, rows) if first.guided else prepared
        z = codes.sample_embeddings(first, params[0], both, scale, noise)
        return _finish(first, params[0], cond, z)
    state = init_state(initial(first, noise, (rows, *first.shape), latent))
    done = 0
    for (static, count), held in zip(nets, params, strict=True):
        denoise = bound_denoiser(static, held, prepared, empty, scale)
        state, _ = run_steps(denoise, state, sampling_plan(static), noise, start=done, count=count)
        done += count
    return _finish(first, params[0], cond, state.x)


@functools.lru_cache(maxsize=64)
def _codes_program(static: Static) -> Callable[..., Array]:
    def draw(params: Any, empty: Any, scale: Any, cond: Any, keys: Any) -> Array:
        noise = stage_noise(static, keys)
        return reverse_process(((static, 0),), (params,), empty, scale, cond, noise)

    return parallel.over_devices(draw, shared=(0, 1, 2))


@functools.lru_cache(maxsize=64)
def _begin_program(static: Static) -> Callable[..., SamplerState]:
    def begin(keys: Any, latent: Any) -> SamplerState:
        shape = (keys.shape[0] * static.draws, *static.shape)
        return init_state(initial(static, stage_noise(static, keys), shape, latent))

    return parallel.over_devices(begin, shared=())


@functools.lru_cache(maxsize=64)
def steps_program(static: Static, noise_stage: str) -> Callable[..., SamplerState]:
    """Any `count` steps from step `start` on: both are arguments, so that one program serves all.

    Args:
        noise_stage: the stage whose keys draw the noise, the first of a run of several networks.
    """
    noisy = dataclasses.replace(static, spec=dataclasses.replace(static.spec, stage=noise_stage))

    def steps(
        params: Any, empty: Any, scale: Any, span: Any, cond: Any, keys: Any, state: Any
    ) -> SamplerState:
        noise = stage_noise(noisy, keys)
        denoise = bound_denoiser(static, params, prepare(static, cond), empty, scale)
        start, count = span
        plan = sampling_plan(static)
        return run_steps(denoise, state, plan, noise, start=start, count=count)[0]

    return parallel.over_devices(steps, shared=(0, 1, 2, 3))


@functools.lru_cache(maxsize=64)
def _finish_program(static: Static) -> Callable[..., Array]:
    def finish(params: Any, cond: Any, x: Any) -> Array:
        return _finish(static, params, cond, x)

    return parallel.over_devices(finish, shared=(0,))


def chunk_ends(first: int, count: int, chunks: int) -> list[tuple[int, int]]:
    """Returns (start, count) of near-equal parts of `count` steps from `first` on, in order."""
    chunks = max(1, min(chunks, count))
    ends = [first + i * count // chunks for i in range(chunks + 1)]
    return [(a, b - a) for a, b in itertools.pairwise(ends)]


def run_over_devices(
    run: Run,
    cond: Cond,
    empty: TextFeatures | None,
    keys: Key[Array, "device b"],
    report: Callable[[int, int], None] | None = None,
    latent: Float[Array, "device b *d"] | Float[np.ndarray, "device b *d"] | None = None,
) -> Float[Array, "device b *d"]:
    """Runs a stage over the local devices.

    The programs are the same whether somebody watches or not: one that is watched is called for
    about CHUNKS parts of the run, else once for all of a network's steps.

    Args:
        cond: with a leading device axis; `empty` is the one caption that guidance contrasts.
        keys: with a leading device axis.
        report: called with (steps done, steps); once for codes, which are drawn in one program.
        latent: x_T at the first step's level, instead of one drawn from the keys.
    """
    scale = np.float32(run.sampling.guidance)
    params = tuple(placed_params(stage) for stage, _ in run.nets)
    done, total = 0, sum(count for _, count in run.nets)
    if run.static.spec.diffusion is None:
        result = _codes_program(run.static)(params[0], empty, scale, cond, keys)
        if report is not None:
            jax.block_until_ready(result)
            report(total, total)
        return result
    state = _begin_program(run.static)(keys, latent)
    for (static, count), held in zip(run.statics, params, strict=True):
        program = steps_program(static, run.name)
        for start, steps in chunk_ends(done, count, 1 if report is None else CHUNKS):
            span = np.int32(start), np.int32(steps)
            state = program(held, empty, scale, span, cond, keys, state)
            if report is not None:
                jax.block_until_ready(state)
                report(start + steps, total)
        done += count
    return _finish_program(run.static)(params[0], cond, state.x)


def run_injected(run: Run, cond: Cond, empty: TextFeatures | None, noise: NoiseFn) -> Array:
    """Runs a stage on the default device with the given noise, for parity; one draw an example.

    Args:
        noise: noise(step index, shape) -> array; the index is traced, INITIAL (-1) asks for x_T.
    """
    batch_size(run.static.spec, cond)  # fails in one line here, under jit in many
    scale = np.float32(run.sampling.guidance)
    sampling = dataclasses.replace(run.static.sampling, num_candidates=1)
    nets = tuple((dataclasses.replace(s, sampling=sampling), count) for s, count in run.statics)
    params = tuple(stage.params for stage, _ in run.nets)
    steps = jax.jit(lambda params, cond: reverse_process(nets, params, empty, scale, cond, noise))
    return steps(params, jax.tree.map(jnp.asarray, cond))
