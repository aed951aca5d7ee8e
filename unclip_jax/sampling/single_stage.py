"""Calls of one stage of a bundle: its raw network, its denoiser, its whole reverse process.

A stage is named as in the bundle; "prior" stands for the bundle's default prior.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Num

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core import prng
from unclip_jax.core.errors import UserError
from unclip_jax.core.trees import take
from unclip_jax.core.types import Cond, Params, TextFeatures
from unclip_jax.diffusion.denoiser import Denoiser, split_variance
from unclip_jax.diffusion.process import convert
from unclip_jax.diffusion.samplers import NoiseFn
from unclip_jax.diffusion.schedules import make_schedule
from unclip_jax.models.denoising import NetworkFn
from unclip_jax.models.stages import PRIORS, Sampling, StageSpec
from unclip_jax.sampling.encode import encode_text, fit_text
from unclip_jax.sampling.programs import num_examples, program_denoiser, stage_network
from unclip_jax.sampling.stage_sampler import StageSampler


def root_of(key: Key[Array, "*n"] | None) -> Key[Array, ""]:
    """Returns the one key from which all of a call's are derived: None is that of seed 0."""
    keys = root_or_keys(key)
    if keys.shape:
        raise UserError(f"key must be one key, not {len(keys)}: each image has one derived of it")
    return keys


def root_or_keys(key: Key[Array, "*n"] | None) -> Key[Array, "*n"]:
    """Returns the root key, or one key per example, as given: None is that of seed 0."""
    if key is None:
        return prng.root_key(0)
    if not isinstance(key, jax.Array) or not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        raise UserError("key must be a typed JAX key: jax.random.key(0)")
    return key


def denoise_fn(
    model: Bundle, stage: str, *, dtype: str = "float32"
) -> Callable[[Params, Array, Array, Cond], Float[Array, " n *d"]]:
    """Returns a stage's raw network as a pure function, for jit, grad and vmap.

    No guidance, no clipping. `cond.text` of None is not filled in: pass `embed_text(model, [""],
    stage=stage)` for a dropped caption. Source: unCLIP §2.1 (decoder, upsamplers), §2.2 (priors).

    Args:
        model: the bundle; its parameters are not bound, pass `model.stage(stage).params`.
        stage: name of the stage; "prior" is the bundle's default prior.
        dtype: of the network's arithmetic, "float32" or "bfloat16".

    Returns:
        The function (params, x_t, t, cond) of x_t [n, ...] and int t [n] in 0..T-1. Its output is
        what the network was trained to predict (noise, x_0 or v), with variance channels last.

    Raises:
        UserError: the bundle has no such stage.
    """
    return stage_network(model.stage(stage_name(model, stage)).spec, dtype)


def predict(
    model: Bundle,
    stage: str,
    x_t: Num[np.ndarray | Array, " n *d"],
    t: Int[np.ndarray | Array, " n"],
    *,
    image_emb: Float[np.ndarray | Array, "n d"] | None = None,
    text: TextFeatures | None = None,
    low_res: Float[np.ndarray | Array, "n h w 3"] | None = None,
) -> Float[Array, " n *e"]:
    """Evaluates a stage's raw network once, in float32: no guidance, no clipping.

    A network of images that predicts x_0 or v has its output rewritten as the noise that it
    implies; `denoise_fn` leaves it as it is. Source: unCLIP §2.1 (decoder, upsamplers), §2.2
    (priors).

    Args:
        model: a bundle with the stage.
        stage: name of the stage; "prior" is the bundle's default prior.
        x_t: noisy sample: [n, d] of the diffusion prior, [n, h, w, 3] of images; of the
            autoregressive prior its codes, int [n, k]; of DALL·E its image tokens, int [n, k].
        t: int [n], timestep in 0..T-1; of the autoregressive prior the dot tokens; read by neither
            DALL·E nor the discrete VAE.
        image_emb: [n, d], raw CLIP embeddings z_i; None is the null embedding.
        text: encoded captions of n examples; None is the empty caption.
        low_res: [n, h, w, 3] in [-1, 1], images at the size that an upsampler takes.

    Returns:
        float32 array. Diffusion prior [n, d], z_i in the space it works in; autoregressive prior
        [n, k, buckets], logits of the codes; DALL·E [n, k, codes], logits of the tokens; discrete
        VAE [n, h, w, 3], images made of their likeliest tokens; decoder [n, h, w, 6], noise and
        variance channels; upsampler [n, h, w, 3], noise.

    Raises:
        UserError: the bundle has no such stage, or the condition lacks what the stage needs.
    """
    name = stage_name(model, stage)
    spec = model.stage(name).spec
    cond = Cond(image_emb=image_emb, text=text, low_res=low_res)
    cond = _filled(spec, model, cond, len(x_t))
    apply = _predict_program(spec)
    return apply(model.stage(name).params, jnp.asarray(x_t), jnp.asarray(t), cond)


def x0_denoiser(
    model: Bundle,
    stage: str,
    cond: Cond,
    *,
    sampling: Sampling | None = None,
    negative: str = "",
    dtype: str = "float32",
) -> Denoiser:
    """Returns the denoiser that sampling uses: the network's estimate of x_0, guided and bounded.

    Classifier-free guidance mixes outputs, u + s (c - u) of the conditional c and unconditional u
    (Ho & Salimans 2022; unCLIP §2.1, §2.2).

    Args:
        model: a bundle with the stage.
        stage: name of a diffusion stage; "prior" is the bundle's default prior.
        cond: condition of n examples.
        sampling: its `guidance` (at every noise level), `x0_bound` and `threshold` apply; None =
            the bundle's settings.
        negative: caption of guidance's unconditional half; default: the empty caption.
        dtype: of the network's arithmetic, "float32" or "bfloat16".

    Returns:
        The function (x_t [n, ...], t int [n]) -> Denoised, whose `x0` has the shape of x_t and
        whose `variance_frac` is None unless the network learns its variance.

    Raises:
        UserError: no such stage, one that is not a diffusion stage, or a condition that lacks what
            the stage needs.
    """
    name = stage_name(model, stage)
    own = model.stage(name)
    if own.spec.diffusion is None:
        raise UserError(f"{name} is not a diffusion stage: it has no denoiser")
    sampler = StageSampler(model, name, sampling, dtype)
    is_guided = sampler.sampling.guidance != 1.0  # at every level, whatever the interval
    program = dataclasses.replace(sampler.nets[0].program, spec=own.spec, is_guided=is_guided)
    bound = _filled(own.spec, model, cond, num_examples(own.spec, cond))
    uncond_text = _caption(own.spec, model, negative)
    bound, uncond_text = jax.tree.map(jnp.asarray, (bound, uncond_text))
    scale = np.float32(sampler.sampling.guidance)
    return program_denoiser(program, own.params, bound, uncond_text, scale)


def run_stage(
    model: Bundle,
    stage: str,
    cond: Cond,
    *,
    noise: NoiseFn | None = None,
    key: Key[Array, ""] | Key[Array, " n"] | None = None,
    sampling: Sampling | None = None,
    dtype: str = "float32",
) -> Num[np.ndarray, " n *d"]:
    """Runs the whole reverse process of one stage.

    Example i draws its noise from fold_in(key, i), or from `key[i]` if `key` has one key per
    example. A network of a two-net upsampling step runs the whole step. Source: unCLIP §2.1
    (decoder, upsamplers), §2.2 (priors); numbers of steps: table 3.

    Args:
        model: a bundle with the stage.
        stage: name of the stage; "prior" is the bundle's default prior.
        cond: condition of n examples.
        noise: replaces the key: noise(step, shape) -> standard normal, where step (traced) counts
            network evaluations from 0 and -1 asks for x_T; then there is one draw per example.
        key: typed key, a scalar or [n]; default: the key of seed 0.
        sampling: sampling settings of the stage; None = the bundle's.
        dtype: of the networks' arithmetic, "float32" or "bfloat16".

    Returns:
        float32 [n, d], raw z_i, from a prior; int32 [n, k] tokens from DALL·E, [n, candidates, k]
        if it draws several; [n, h, w, 3] in [-1, 1] from the other stages.

    Raises:
        UserError: no such stage, a condition that lacks what the stage needs, another number of
            keys, or a result that is not finite.
    """
    name = stage_name(model, stage)
    sampler = StageSampler(model, name, sampling, dtype)
    spec = sampler.nets[0].stage.spec
    n = num_examples(spec, cond)
    cond, uncond_text = _filled(spec, model, cond, n), _caption(spec, model, "")
    if noise is not None:
        single = dataclasses.replace(sampler.sampling, num_candidates=1)
        return _run_injected(StageSampler(model, name, single, dtype), cond, uncond_text, noise)
    keys = root_or_keys(key)
    if keys.ndim == 0:
        keys = prng.example_keys(keys, np.arange(n))
    elif keys.shape != (n,):
        raise UserError(f"{keys.shape[0]} keys for {n} examples: give one key, or one per example")
    return sampler(cond, keys, uncond_text=uncond_text)


def _run_injected(
    sampler: StageSampler, cond: Cond, uncond_text: TextFeatures | None, noise: NoiseFn
) -> Num[np.ndarray, " n *d"]:
    """Runs a stage on the default device with the given noise, for parity."""

    @jax.jit
    def run(params: dict[str, Params], cond: Cond) -> Array:
        return sampler.reverse_process(params, cond, noise, uncond_text=uncond_text)

    params = {net.stage.spec.stage: net.stage.params for net in sampler.nets}
    return np.asarray(run(params, jax.tree.map(jnp.asarray, cond)))


@functools.lru_cache(maxsize=32)
def _predict_program(spec: StageSpec) -> Callable[..., Array]:
    return jax.jit(network_as_noise(spec, "float32"))


def network_as_noise(spec: StageSpec, dtype: str) -> NetworkFn:
    """Returns a stage's raw network with its prediction of an image rewritten as noise.

    Variance channels pass through; a prior stays what it is, a prediction of z_i or of codes.
    """
    apply = stage_network(spec, dtype)
    if spec.row.gives_embedding or spec.diffusion is None or spec.diffusion.prediction == "eps":
        return apply
    schedule = make_schedule(spec.diffusion.schedule, spec.diffusion.num_steps)

    def noise(params: Params, x_t: Array, t: Array, cond: Cond) -> Array:
        value, variance = split_variance(apply(params, x_t, t, cond), x_t.shape[-1])
        level = schedule.level(t, x_t.dtype)
        eps = convert(value, x_t, level, source=spec.diffusion.prediction, target="eps")
        return eps if variance is None else jnp.concatenate([eps, variance], axis=-1)

    return noise


def stage_name(model: Bundle, stage: str) -> str:
    """Returns a stage's name in the bundle; "prior" is the default one."""
    name = PRIORS.get(model.sampling.prior, "prior") if stage == "prior" else stage
    model.stage(name)
    return name


def _caption(spec: StageSpec, model: Bundle, caption: str) -> TextFeatures | None:
    """Returns a caption as a stage reads it, for one example; None for a stage without text."""
    if not spec.model.reads_text:
        return None
    return fit_text(spec, encode_text(model, [caption]))


def _filled(spec: StageSpec, model: Bundle, cond: Cond, n: int) -> Cond:
    """Returns the condition with the empty caption where the stage reads text and has none."""
    if not spec.model.reads_text:
        return cond.replace(text=None)
    if cond.text is not None:
        return cond.replace(text=fit_text(spec, cond.text))
    return cond.replace(text=take(_caption(spec, model, ""), np.zeros(n, int)))
