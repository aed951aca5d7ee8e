"""Calls of one stage of a bundle: its raw network, its denoiser, its whole reverse process.

A stage is named as in the bundle; "prior" stands for the bundle's default prior.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Num

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core import prng
from unclip_jax.core.errors import UserError
from unclip_jax.core.types import Cond, Params, TextFeatures
from unclip_jax.diffusion.denoiser import Denoiser
from unclip_jax.diffusion.samplers import NoiseFn
from unclip_jax.models.stages import PRIORS, Sampling, StageSpec
from unclip_jax.sampling import parallel, runs, stages
from unclip_jax.sampling.encode import batch_size, encode_text, with_own_tokens
from unclip_jax.text.context import fit_context


def root_of(key: Key[Array, "*n"] | None) -> Key[Array, "*n"]:
    """Returns the root key, or a key an example, as given: None is that of seed 0."""
    if key is None:
        return prng.root_key(0)
    if not isinstance(key, jax.Array) or not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        raise UserError("key must be a typed JAX key: jax.random.key(0)")
    return key


def denoise_fn(
    model: Bundle, stage: str, *, dtype: str = "float32"
) -> Callable[[Params, Array, Array, Cond], Float[Array, " n *d"]]:
    """Returns the pure function (params, x_t, t, cond) of a stage's raw network.

    No guidance, no clipping; for jit, grad and vmap. cond.text None is not filled in here: use
    `embed_text(model, [""])` for a dropped caption.
    """
    return stages.apply_network(model.stage(stage_name(model, stage)).spec, dtype)


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

    The diffusion prior gives z_i in the space it works in; the autoregressive one takes codes
    [n, k] and, as t, dot tokens, and gives the codes' logits [n, k, buckets]; the decoder noise
    and variance channels [n, h, w, 6]; an upsampler noise. A network of images that predicts x_0
    or v has its output rewritten as the noise that it implies; `denoise_fn` leaves it as it is.

    Args:
        image_emb: raw CLIP embeddings; None is the null embedding.
        text: encoded captions; None is the empty caption.
        low_res: images in [-1, 1] at their own size.
    """
    name = stage_name(model, stage)
    cond = Cond(image_emb=image_emb, text=text, low_res=low_res)
    cond = _filled(model, name, cond, len(x_t))
    apply = _predict_program(model.stage(name).spec)
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
    """Returns the denoiser (x_t, t) -> Denoised that sampling uses, guided and clipped.

    Args:
        sampling: guidance, clip and threshold are taken from it; None = the bundle's.
        negative: the caption that guidance contrasts with.
    """
    name = stage_name(model, stage)
    run = runs.run_for(model, name, sampling, dtype)
    held = model.stage(name)
    if held.spec.diffusion is None:
        raise UserError(f"{name} is no diffusion stage: it has no denoiser")
    n = batch_size(held.spec, cond)
    bound = jax.tree.map(jnp.asarray, _filled(model, name, cond, n))
    empty = jax.tree.map(jnp.asarray, _negative(model, name, negative))
    scale = np.float32(run.sampling.guidance)
    return stages.bound_denoiser(run.static_of(held), held.params, bound, empty, scale)


def run_stage(
    model: Bundle,
    stage: str,
    cond: Cond,
    *,
    noise: NoiseFn | None = None,
    key: Key[Array, ""] | Key[Array, " n"] | None = None,
    sampling: Sampling | None = None,
    dtype: str = "float32",
) -> Float[np.ndarray, " n *d"]:
    """Runs one stage: a raw z_i from a prior, images in [-1, 1] from the others.

    Example i draws its noise from fold_in(key, i), or from key[i] of a key an example. A network
    of a two-net upsampling step runs the whole step.

    Args:
        noise: injected instead: noise(step, shape) -> standard normal, where step counts network
            evaluations from 0 (traced) and -1 asks for x_T; then there is one draw an example.
        sampling: None = the bundle's.
    """
    name = stage_name(model, stage)
    run = runs.run_for(model, name, sampling, dtype)
    n = batch_size(run.static.spec, cond)
    cond, empty = _filled(model, name, cond, n), _negative(model, name, "")
    if noise is not None:
        return np.asarray(stages.run_injected(run, cond, empty, noise))
    keys = root_of(key)
    if keys.ndim == 0:
        keys = prng.example_keys(keys, np.arange(n))
    elif keys.shape != (n,):
        raise UserError(f"{keys.shape[0]} keys for {n} examples: give one key, or one an example")
    per_device = -(-n // parallel.device_count())
    cond, keys = parallel.split((cond, keys), per_device)
    return parallel.join(stages.run_over_devices(run, cond, empty, keys), n)


@functools.lru_cache(maxsize=32)
def _predict_program(spec: StageSpec) -> Callable[..., Array]:
    return jax.jit(stages.apply_as_noise(spec, "float32"))


def stage_name(model: Bundle, stage: str) -> str:
    """Returns a stage's name in the bundle; "prior" is the default one."""
    name = PRIORS.get(model.sampling.prior, "prior") if stage == "prior" else stage
    model.stage(name)
    return name


def _reads_text(model: Bundle, stage: str) -> bool:
    return model.stage(stage).spec.model.reads_text


def _negative(model: Bundle, stage: str, caption: str) -> TextFeatures | None:
    """Returns a caption as a stage reads it, for one example; None for a stage without text."""
    if not _reads_text(model, stage):
        return None
    return with_own_tokens(model, encode_text(model, [caption]), [caption], stage)


def _filled(model: Bundle, stage: str, cond: Cond, n: int) -> Cond:
    """Returns the condition with the empty caption where the stage reads text and has none."""
    if not _reads_text(model, stage):
        return cond.replace(text=None)
    if cond.text is not None:
        own = model.stage(stage).spec.model.own_context
        given = cond.text.tokens
        tokens = None if own is None or given is None else fit_context(given, own)
        return cond.replace(text=cond.text.replace(tokens=tokens))
    empty = _negative(model, stage, "")
    text = jax.tree.map(lambda leaf: np.repeat(leaf, n, axis=0), empty)
    return cond.replace(text=text)
