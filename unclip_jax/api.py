"""The public Python calls: pure functions of a bundle, inputs and a key.

    import jax, unclip_jax
    model = unclip_jax.load("emoji")
    images = unclip_jax.sample(model, ["a red heart"], key=jax.random.key(0), num=4)

A stage is named as in the bundle; "prior" stands for the bundle's default prior.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Num, UInt8

from unclip_jax.checkpoint.bundle import Bundle, load, require_pca, save
from unclip_jax.core import prng
from unclip_jax.core.errors import UserError
from unclip_jax.core.types import Cond, Params, TextFeatures
from unclip_jax.diffusion.denoiser import Denoiser
from unclip_jax.diffusion.samplers import NoiseFn
from unclip_jax.models.clip import normalize
from unclip_jax.models.stages import Sampling, StageSpec
from unclip_jax.sampling import inpaint as filling
from unclip_jax.sampling import latents, manipulate, parallel, pipeline, runs, stages
from unclip_jax.sampling.encode import (
    batch_size,
    encode_images,
    encode_text,
    own_context,
    with_own_tokens,
)
from unclip_jax.sampling.latents import LatentSettings
from unclip_jax.sampling.runner import StageRunner
from unclip_jax.sampling.settings import SampleSettings, resolve

__all__ = [
    "Bundle",
    "Cond",
    "TextFeatures",
    "UserError",
    "classify",
    "denoise_fn",
    "edit",
    "embed_image",
    "embed_text",
    "inpaint",
    "interpolate",
    "load",
    "predict",
    "reconstruct",
    "run_stage",
    "sample",
    "save",
    "vary",
    "x0_denoiser",
]

Pictures = Sequence[np.ndarray] | np.ndarray | Array
Images = UInt8[np.ndarray | Array, "n h w 3"] | Float[np.ndarray | Array, "n h w 3"]


def sample(
    model: Bundle,
    prompts: Sequence[str] | str,
    *,
    key: Key[Array, ""] | None = None,
    num: int = 1,
    **settings: Any,
) -> UInt8[np.ndarray, "n h w 3"]:
    """Makes `num` images a prompt, prompt-major; one more prompt or draw changes no earlier image.

    Args:
        key: the root key; default: that of seed 0.
        settings: fields of SampleSettings: size, prior, guidance, prior_guidance, steps,
            prior_steps, prior_temperature, prior_top_p, sampler, negative, dtype. What is left out
            is the bundle's.
    """
    return pipeline.sample(
        model, prompts, key=_root(key), num=num, settings=SampleSettings(**settings)
    )


def vary(
    model: Bundle,
    images: Pictures,
    *,
    key: Key[Array, ""] | None = None,
    num: int = 1,
    eta: float = 1.0,
    **settings: Any,
) -> UInt8[np.ndarray, "n s s 3"]:
    """Makes `num` variations of each picture, picture-major: inversion, then DDIM with eta.

    Args:
        images: pictures of any shape, uint8 or floats in [-1, 1].
        key: the root key; default: that of seed 0.
        eta: 0 rebuilds the picture, 1 drifts the furthest from it.
        settings: fields of LatentSettings: size, guidance, steps, invert_steps, dtype.
    """
    plan = latents.resolve_latents(model, LatentSettings(**settings), eta=eta)
    runner = StageRunner()
    return manipulate.vary(model, images, _root(key), plan, num=num, runner=runner)


def interpolate(
    model: Bundle,
    first: Pictures,
    second: Pictures,
    *,
    key: Key[Array, ""] | None = None,
    frames: int = 8,
    noise: str = "slerp",
    num: int = 1,
    **settings: Any,
) -> UInt8[np.ndarray, "n s s 3"]:
    """Goes from each first picture to its second one in `frames` images, pair-major.

    Args:
        noise: "slerp" interpolates the inverted latents too, so that the ends rebuild the pictures;
            "fixed" draws one x_T a path, from the key, for `num` paths a pair.
        settings: as of `vary`.
    """
    inverted = manipulate.check_noise(noise) == "slerp"
    plan = latents.resolve_latents(model, LatentSettings(**settings), inverted=inverted)
    pair, runner = (first, second), StageRunner()
    return manipulate.interpolate(
        model, pair, _root(key), plan, frames=frames, num=num, runner=runner
    )


def edit(
    model: Bundle,
    images: Pictures,
    to: Sequence[str] | str,
    *,
    source: Sequence[str] | str | None = None,
    key: Key[Array, ""] | None = None,
    frames: int = 6,
    max_theta: float = 0.5,
    **settings: Any,
) -> UInt8[np.ndarray, "n s s 3"]:
    """Moves each picture toward a text in `frames` images, picture-major (text diffs).

    Args:
        to: the text to go to, one for all or one a picture.
        source: the text to go from: the picture's caption, a dummy, or None to leave it out.
        max_theta: how far the last image goes, of the way to the text's direction.
        settings: as of `vary`.
    """
    plan = latents.resolve_latents(model, LatentSettings(**settings))
    thetas = manipulate.edit_thetas(frames, max_theta)
    texts = [[t] * len(images) if isinstance(t, str) else t for t in (to, source)]
    runner = StageRunner()
    return manipulate.edit(model, images, *texts, _root(key), plan, thetas=thetas, runner=runner)


def reconstruct(
    model: Bundle,
    images: Pictures,
    *,
    key: Key[Array, ""] | None = None,
    dims: Sequence[int] = manipulate.PAPER_DIMS,
    pca: str | None = None,
    **settings: Any,
) -> UInt8[np.ndarray, "n s s 3"]:
    """Decodes each picture from its first principal components alone, picture-major.

    Args:
        dims: numbers of components; those beyond what there are are clipped, each once.
        pca: file of a PCA; None = the bundle's own.
        settings: as of `vary`.
    """
    basis = require_pca(model, pca)
    plan = latents.resolve_latents(model, LatentSettings(**settings), inverted=False)
    dims, runner = manipulate.usable_dims(dims, basis), StageRunner()
    return manipulate.reconstruct(
        model, images, _root(key), plan, pca=basis, dims=dims, runner=runner
    )


def inpaint(
    model: Bundle,
    images: Pictures,
    masks: Sequence[np.ndarray] | np.ndarray,
    prompts: Sequence[str] | str,
    *,
    key: Key[Array, ""] | None = None,
    num: int = 1,
    resamples: int = filling.RESAMPLES,
    **settings: Any,
) -> UInt8[np.ndarray, "n s s 3"]:
    """Fills the masked part of each picture `num` times; kept pixels are kept exactly.

    Args:
        masks: bool, of the pictures' sizes; True is filled.
        prompts: what the whole picture shall show, one for all or one a picture.
        resamples: times each stretch of levels is denoised; 1 is plain masked replacement.
        settings: as of `sample`; the decoder's sampler is always DDIM with eta 1.
    """
    plan = resolve(model, SampleSettings(**settings))
    prompts = [prompts] * len(images) if isinstance(prompts, str) else prompts
    canvas = filling.make_canvas(images, masks, plan.size)
    return filling.inpaint(
        model,
        canvas,
        prompts,
        _root(key),
        plan,
        num=num,
        resamples=resamples,
        runner=StageRunner(),
    )


def _root(key: Key[Array, ""] | None) -> Key[Array, ""]:
    if key is None:
        return prng.root_key(0)
    if not isinstance(key, jax.Array) or not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        raise UserError("key must be a typed JAX key: jax.random.key(0)")
    return key


def embed_text(
    model: Bundle, prompts: Sequence[str] | str, *, dtype: str = "float32"
) -> TextFeatures:
    """Encodes captions with the bundle's CLIP; embeddings are raw, as the tower gives them."""
    return encode_text(model, [prompts] if isinstance(prompts, str) else prompts, dtype=dtype)


def embed_image(model: Bundle, images: Images, *, dtype: str = "float32") -> Float[Any, "n d"]:
    """Encodes uint8 images, or floats in [-1, 1], with the bundle's CLIP; raw embeddings."""
    return encode_images(model, images, dtype=dtype)


def classify(
    model: Bundle, images: Images, labels: Sequence[str] | str, *, dtype: str = "float32"
) -> Float[np.ndarray, "n labels"]:
    """Returns CLIP's zero-shot probabilities: softmax over labels of exp(s) cos(z_i, z_t)."""
    labels = [labels] if isinstance(labels, str) else labels
    if not labels:
        raise UserError("no label given")
    image_emb = normalize(jnp.asarray(encode_images(model, images, dtype=dtype)))
    text_emb = normalize(jnp.asarray(encode_text(model, labels, dtype=dtype).text_emb))
    scale = jnp.exp(jnp.asarray(model.stage("clip").params["logit_scale"], jnp.float32))
    logits = scale * jnp.matmul(image_emb, text_emb.T, precision="highest")
    return np.asarray(jax.nn.softmax(logits, axis=-1))


def denoise_fn(
    model: Bundle, stage: str, *, dtype: str = "float32"
) -> Callable[[Params, Array, Array, Cond], Float[Array, " n *d"]]:
    """Returns the pure function (params, x_t, t, cond) of a stage's raw network.

    No guidance, no clipping; for jit, grad and vmap. cond.text None is not filled in here: use
    `embed_text(model, [""])` for a dropped caption.
    """
    return stages.apply_network(model.stage(_stage_name(model, stage)).spec, dtype)


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
    name = _stage_name(model, stage)
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
    name = _stage_name(model, stage)
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
    key: Key[Array, ""] | None = None,
    sampling: Sampling | None = None,
    dtype: str = "float32",
) -> Float[np.ndarray, " n *d"]:
    """Runs one stage: a raw z_i from a prior, images in [-1, 1] from the others.

    Example i draws its noise from fold_in(key, i). A network of a two-net upsampling step runs the
    whole step.

    Args:
        noise: injected instead: noise(step, shape) -> standard normal, where step counts network
            evaluations from 0 (traced) and -1 asks for x_T; then there is one draw an example.
        sampling: None = the bundle's.
    """
    name = _stage_name(model, stage)
    run = runs.run_for(model, name, sampling, dtype)
    n = batch_size(run.static.spec, cond)
    cond, empty = _filled(model, name, cond, n), _negative(model, name, "")
    if noise is not None:
        return np.asarray(stages.run_injected(run, cond, empty, noise))
    keys = prng.example_keys(_root(key), np.arange(n))
    per_device = -(-n // parallel.device_count())
    cond, keys = parallel.split((cond, keys), per_device)
    return parallel.join(stages.run_over_devices(run, cond, empty, keys), n)


@functools.lru_cache(maxsize=32)
def _predict_program(spec: StageSpec) -> Callable[..., Array]:
    return jax.jit(stages.apply_as_noise(spec, "float32"))


def _stage_name(model: Bundle, stage: str) -> str:
    name = f"prior_{model.sampling.prior}" if stage == "prior" else stage
    model.stage(name)
    return name


def _reads_text(model: Bundle, stage: str) -> bool:
    return getattr(model.stage(stage).spec.model, "text", "none") != "none"


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
        own = own_context(model.stage(stage).spec)
        return cond if own is not None else cond.replace(text=cond.text.replace(tokens=None))
    empty = _negative(model, stage, "")
    text = jax.tree.map(lambda leaf: np.repeat(leaf, n, axis=0), empty)
    return cond.replace(text=text)
