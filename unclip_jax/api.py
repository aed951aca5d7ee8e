"""The public Python calls: pure functions of a bundle, inputs and a key.

    import jax, unclip_jax
    model = unclip_jax.load("emoji")
    images = unclip_jax.sample(model, ["a red heart"], key=jax.random.key(0), num=4)

A stage is named as in the bundle; "prior" stands for the bundle's default prior. The names that
`unclip_jax` offers are listed in its `__init__`.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt8

from unclip_jax.checkpoint.bundle import Bundle, require_pca
from unclip_jax.checkpoint.bundle import load as load
from unclip_jax.checkpoint.bundle import save as save
from unclip_jax.core.errors import UserError
from unclip_jax.core.types import Cond as Cond
from unclip_jax.core.types import TextFeatures
from unclip_jax.core.vectors import unit
from unclip_jax.sampling import inpaint as inpainting
from unclip_jax.sampling import latents, manipulate, pipeline
from unclip_jax.sampling.encode import encode_images, encode_text, fit_text
from unclip_jax.sampling.latents import LatentSettings
from unclip_jax.sampling.monitor import Monitor, Progress
from unclip_jax.sampling.settings import SampleSettings, resolve, settings_of
from unclip_jax.sampling.single_stage import denoise_fn as denoise_fn
from unclip_jax.sampling.single_stage import predict as predict
from unclip_jax.sampling.single_stage import root_of, stage_name
from unclip_jax.sampling.single_stage import run_stage as run_stage
from unclip_jax.sampling.single_stage import x0_denoiser as x0_denoiser

Images = Sequence[np.ndarray] | np.ndarray | Array


def sample(
    model: Bundle,
    prompts: Sequence[str] | str,
    *,
    key: Key[Array, ""] | None = None,
    num: int = 1,
    progress: Progress | None = None,
    **settings: Any,
) -> UInt8[np.ndarray, "n h w 3"]:
    """Samples `num` images per prompt, prompt-major; more prompts or draws change no earlier image.

    Args:
        key: the root key; default: that of seed 0.
        progress: called as progress(stage, steps done, steps of the stage).
        settings: fields of SampleSettings: size, prior, guidance, prior_guidance, steps,
            prior_steps, prior_temperature, prior_top_p, sampler, negative, dtype; defaults are
            the bundle's.
    """
    root = root_of(key)
    plan = resolve(model, settings_of(SampleSettings, "sample", settings))
    prompts = [prompts] if isinstance(prompts, str) else list(prompts)
    requests = pipeline.requests_for(prompts, num)
    return np.concatenate(list(pipeline.generate(model, requests, root, plan, Monitor(progress))))


def vary(
    model: Bundle,
    images: Images,
    *,
    key: Key[Array, ""] | None = None,
    num: int = 1,
    eta: float = 1.0,
    progress: Progress | None = None,
    **settings: Any,
) -> UInt8[np.ndarray, "n s s 3"]:
    """Samples `num` variations of each image, image-major: inversion, then DDIM with eta.

    Args:
        images: of any shape, uint8 or floats in [-1, 1].
        key: the root key; default: that of seed 0.
        eta: 0 rebuilds the image, 1 varies it the most.
        progress: as of `sample`.
        settings: fields of LatentSettings: size, guidance, steps, invert_steps, dtype.
    """
    chosen = settings_of(LatentSettings, "vary", settings)
    plan = latents.resolve_latents(model, chosen, eta=eta)
    monitor = Monitor(progress)
    return manipulate.vary(model, images, root_of(key), plan, num=num, monitor=monitor)


def interpolate(
    model: Bundle,
    first: Images,
    second: Images,
    *,
    key: Key[Array, ""] | None = None,
    frames: int = 8,
    noise: str = "slerp",
    num: int = 1,
    progress: Progress | None = None,
    **settings: Any,
) -> UInt8[np.ndarray, "n s s 3"]:
    """Interpolates from each first image to its second one in `frames` images, pair-major.

    Args:
        noise: "slerp" interpolates the inverted latents too, so that the ends rebuild the images;
            "fixed" draws one x_T per path, from the key, for `num` paths per pair.
        progress: as of `sample`.
        settings: as of `vary`.
    """
    inverted = manipulate.check_noise(noise) == "slerp"
    chosen = settings_of(LatentSettings, "interpolate", settings)
    plan = latents.resolve_latents(model, chosen, inverted=inverted)
    pair, monitor = (first, second), Monitor(progress)
    return manipulate.interpolate(
        model, pair, root_of(key), plan, frames=frames, num=num, monitor=monitor
    )


def edit(
    model: Bundle,
    images: Images,
    to: Sequence[str] | str,
    *,
    source: Sequence[str] | str | None = None,
    key: Key[Array, ""] | None = None,
    frames: int = 6,
    max_theta: float = 0.5,
    progress: Progress | None = None,
    **settings: Any,
) -> UInt8[np.ndarray, "n s s 3"]:
    """Edits each image toward a text in `frames` images, image-major (text diffs).

    Args:
        to: the target text, one for all or one per image.
        source: the text to start from: the image's caption, a dummy, or None for none.
        max_theta: theta of the last image; 1 is the text's direction itself.
        progress: as of `sample`.
        settings: as of `vary`.
    """
    plan = latents.resolve_latents(model, settings_of(LatentSettings, "edit", settings))
    thetas = manipulate.edit_thetas(frames, max_theta)
    texts = [[t] * len(images) if isinstance(t, str) else t for t in (to, source)]
    root, monitor = root_of(key), Monitor(progress)
    return manipulate.edit(model, images, *texts, root, plan, thetas=thetas, monitor=monitor)


def reconstruct(
    model: Bundle,
    images: Images,
    *,
    key: Key[Array, ""] | None = None,
    dims: Sequence[int] = manipulate.PAPER_DIMS,
    pca: str | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> UInt8[np.ndarray, "n s s 3"]:
    """Decodes each image from the first principal components of its z_i, image-major.

    Args:
        dims: numbers of components, clipped to those that exist; duplicates are dropped.
        pca: file of a PCA; None = the bundle's own.
        progress: as of `sample`.
        settings: as of `vary`.
    """
    chosen = settings_of(LatentSettings, "reconstruct", settings)
    basis = require_pca(model, pca)
    plan = latents.resolve_latents(model, chosen, inverted=False)
    dims, monitor = manipulate.usable_dims(dims, basis), Monitor(progress)
    return manipulate.reconstruct(
        model, images, root_of(key), plan, pca=basis, dims=dims, monitor=monitor
    )


def inpaint(
    model: Bundle,
    images: Images,
    masks: Sequence[np.ndarray] | np.ndarray,
    prompts: Sequence[str] | str,
    *,
    key: Key[Array, ""] | None = None,
    num: int = 1,
    resamples: int = inpainting.RESAMPLES,
    progress: Progress | None = None,
    **settings: Any,
) -> UInt8[np.ndarray, "n s s 3"]:
    """Inpaints the masked part of each image `num` times; all other pixels stay exactly.

    Args:
        masks: bool, of the images' sizes; True is inpainted.
        prompts: captions of the whole image, one for all or one per image.
        resamples: RePaint's resampling steps; 1 is plain masked replacement.
        progress: as of `sample`.
        settings: as of `sample`; the decoder's sampler is always DDIM with eta 1.
    """
    plan = resolve(model, settings_of(SampleSettings, "inpaint", settings))
    prompts = [prompts] * len(images) if isinstance(prompts, str) else prompts
    canvas = inpainting.make_canvas(images, masks, plan.size, latents.image_fit(model))
    return inpainting.inpaint(
        model,
        canvas,
        prompts,
        root_of(key),
        plan,
        num=num,
        resamples=resamples,
        monitor=Monitor(progress),
    )


def embed_text(
    model: Bundle,
    prompts: Sequence[str] | str,
    *,
    stage: str | None = None,
    dtype: str = "float32",
) -> TextFeatures:
    """Encodes captions with the bundle's CLIP; embeddings are raw, as the tower gives them.

    `tokens` are for stages with a text transformer of their own and have the longest context among
    them; `predict`, `x0_denoiser` and `run_stage` cut them to that of their stage.

    Args:
        stage: cuts `tokens` to the context of this stage, which `denoise_fn` expects.
    """
    prompts = [prompts] if isinstance(prompts, str) else prompts
    text = encode_text(model, prompts, dtype=dtype)
    return text if stage is None else fit_text(model.stage(stage_name(model, stage)).spec, text)


def embed_image(model: Bundle, images: Images, *, dtype: str = "float32") -> Float[Any, "n d"]:
    """Encodes uint8 images, or floats in [-1, 1], with the bundle's CLIP; raw embeddings z_i.

    Images of any shape are fitted to CLIP's square as the bundle's `ClipConfig.resize` says; `vary`
    and the others take the same z_i.
    """
    return encode_images(model, images, dtype=dtype)


def classify(
    model: Bundle, images: Images, labels: Sequence[str] | str, *, dtype: str = "float32"
) -> Float[np.ndarray, "n labels"]:
    """Returns CLIP's zero-shot probabilities: softmax over labels of exp(s) cos(z_i, z_t)."""
    labels = [labels] if isinstance(labels, str) else labels
    if not labels:
        raise UserError("no label given")
    image_emb = unit(jnp.asarray(encode_images(model, images, dtype=dtype)))
    text_emb = unit(jnp.asarray(encode_text(model, labels, dtype=dtype).text_emb))
    scale = jnp.exp(jnp.asarray(model.clip.params["logit_scale"], jnp.float32))
    logits = scale * jnp.matmul(image_emb, text_emb.T, precision="highest")
    return np.asarray(jax.nn.softmax(logits, axis=-1))
