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
from unclip_jax.sampling.arguments import settings_of
from unclip_jax.sampling.encode import encode_images, encode_text, fit_text
from unclip_jax.sampling.latents import LatentSettings
from unclip_jax.sampling.mixtures import mix as mix
from unclip_jax.sampling.monitor import Monitor, Progress
from unclip_jax.sampling.settings import SampleSettings, resolve
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
    """Samples `num` images per prompt, from captions to z_i to pixels.

    The prior draws z_i, the decoder an image of it, and the upsamplers enlarge that:
    p(x | y) = p(x | z_i, y) p(z_i | y) for images x and captions y (unCLIP §2; upsamplers: §2.1).
    More prompts, or a larger `num`, change none of the earlier images.

    Args:
        model: a bundle with a CLIP, a decoder and the prior that is asked for.
        prompts: one caption or several, of at most 2,000 characters each.
        key: root key, a scalar `jax.random.key(seed)`; default: the key of seed 0.
        num: images per prompt, from 1; at most 1,000,000 images in all.
        progress: called as progress(stage, steps done, steps of the stage).
        settings: fields of `SampleSettings`.

    Returns:
        uint8 [len(prompts) * num, size, size, 3], grouped by prompt.

    Raises:
        UserError: no prompt or too long a one, an unknown setting, or a value that is out of range
            or that the bundle does not support.
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
    """Samples `num` variations of each image: DDIM inversion, then DDIM with noise (unCLIP §3.1).

    The image becomes (z_i, x_T): its CLIP embedding, and the latent that DDIM inversion of the
    decoder gives (unCLIP §3; Dhariwal & Nichol 2021, appendix F). Decoding adds noise of scale
    sigma_t = eta sqrt((1 - ab_s) / (1 - ab_t)) sqrt(1 - ab_t / ab_s) from level t to level s,
    where ab is the cumulative product of alphas.

    Args:
        model: a bundle with a CLIP and a decoder.
        images: RGB, [n, h, w, 3] or a sequence of [h, w, 3] of any sizes; uint8, or floats in
            [-1, 1].
        key: root key, a scalar `jax.random.key(seed)`; default: the key of seed 0.
        num: variations per image, from 1.
        eta: 0 (rebuilds the image) to 1 (varies it the most).
        progress: called as progress(stage, steps done, steps of the stage).
        settings: fields of `LatentSettings`.

    Returns:
        uint8 [n * num, size, size, 3], grouped by image.

    Raises:
        UserError: no image, one of another shape or dtype, or a setting that is unknown or out of
            range.
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
    """Interpolates between the images of each pair (unCLIP §3.2).

    z_i moves along slerp(z_1, z_2, theta), with theta from 0 to 1 in equal steps.

    Args:
        model: a bundle with a CLIP and a decoder.
        first: n RGB images, [n, h, w, 3] or a sequence of [h, w, 3]; uint8, or floats in [-1, 1].
        second: as many images, the other ends.
        key: root key, a scalar `jax.random.key(seed)`; default: the key of seed 0.
        frames: images per path with both ends, 1 to 1,000.
        noise: "slerp" interpolates the inverted latents x_T too, so that the ends rebuild the
            images; "fixed" draws one x_T per path from the key.
        num: paths per pair; must be 1 for "slerp".
        progress: called as progress(stage, steps done, steps of the stage).
        settings: fields of `LatentSettings`.

    Returns:
        uint8 [n * num * frames, size, size, 3], grouped by pair, then by path.

    Raises:
        UserError: numbers of images that differ, images of another shape or dtype, or an argument
            or setting that is unknown or out of range.
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
    """Edits each image toward a text (text diffs, unCLIP §3.3).

    z_i moves along slerp(z_i, |z_i| z_d, theta) toward z_d = (z_t - z_t0) / |z_t - z_t0|, the
    direction from `source` to `to`; x_T is the inverted latent throughout.

    Args:
        model: a bundle with a CLIP and a decoder.
        images: RGB, [n, h, w, 3] or a sequence of [h, w, 3] of any sizes; uint8, or floats in
            [-1, 1].
        to: the target caption, one for all images or one per image.
        source: the caption to start from, likewise: the image's own or a dummy such as "a photo";
            None leaves z_t0 out.
        key: root key, a scalar `jax.random.key(seed)`; default: the key of seed 0.
        frames: images per input, 1 to 1,000, with theta from 0 to `max_theta` in equal steps; one
            frame has `max_theta`.
        max_theta: 0 to 1, where 1 is z_d itself; the paper uses 0.25 to 0.5.
        progress: called as progress(stage, steps done, steps of the stage).
        settings: fields of `LatentSettings`.

    Returns:
        uint8 [n * frames, size, size, 3], grouped by image, theta rising.

    Raises:
        UserError: images of another shape or dtype, numbers of texts and images that differ, both
            texts with the same embedding, or a setting that is unknown or out of range.
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
    """Decodes each image from the first principal components of its z_i (unCLIP §4, figure 7).

    All images decoded from one input start from the same noise.

    Args:
        model: a bundle with a CLIP and a decoder.
        images: RGB, [n, h, w, 3] or a sequence of [h, w, 3] of any sizes; uint8, or floats in
            [-1, 1].
        key: root key, a scalar `jax.random.key(seed)`; default: the key of seed 0.
        dims: numbers of components, from 0; default (20, 30, 40, 80, 120, 160, 200, 320), the
            paper's. Clipped to those that exist; duplicates are dropped.
        pca: file that `unclip embed --fit-pca` wrote; None = the bundle's own PCA.
        progress: called as progress(stage, steps done, steps of the stage).
        settings: fields of `LatentSettings`.

    Returns:
        uint8 [n * len(dims), size, size, 3], grouped by image, in the order of `dims`.

    Raises:
        UserError: no PCA or that of another CLIP, images of another shape or dtype, or a setting
            that is unknown or out of range.
    """
    chosen = settings_of(LatentSettings, "reconstruct", settings)
    plan = latents.resolve_latents(model, chosen, inverted=False)
    basis = require_pca(model, pca)
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
    """Inpaints the masked part of each image `num` times; all other pixels are unchanged.

    z_i comes from the prior, and the decoder runs RePaint (Lugmayr et al. 2022, algorithm 1); the
    paper does not say how it inpaints.

    Args:
        model: a bundle with a CLIP, a decoder and the prior that is asked for.
        images: RGB, [n, h, w, 3] or a sequence of [h, w, 3] of any sizes; uint8, or floats in
            [-1, 1].
        masks: bool [h, w] for each image, of its size; True is inpainted.
        prompts: captions of the whole image, one for all images or one per image.
        key: root key, a scalar `jax.random.key(seed)`; default: the key of seed 0.
        num: results per image, from 1.
        resamples: times each stretch of 10 levels is denoised, from 1 (plain masked replacement);
            default 5.
        progress: called as progress(stage, steps done, steps of the stage).
        settings: fields of `SampleSettings`; the decoder always takes DDIM steps with eta 1,
            40 unless `steps` says otherwise where the bundle has fewer for DPM-Solver++.

    Returns:
        uint8 [n * num, size, size, 3], grouped by image.

    Raises:
        UserError: a mask of another size or without a True, numbers of prompts and images that
            differ, or a setting that is unknown or out of range.
    """
    chosen = settings_of(SampleSettings, "inpaint", settings)
    plan = inpainting.resolve_filling(model, chosen)
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
    """Encodes captions with the bundle's CLIP; z_t is as the text tower gives it, not normalized.

    Source: Radford et al. 2021, §2; z_t conditions the prior (unCLIP §2.2).

    Args:
        model: a bundle with a CLIP and a tokenizer.
        prompts: one caption or several, n in all, of at most 2,000 characters each.
        stage: cuts `tokens` to the context of this stage, which `denoise_fn` expects; None leaves
            the longest context of the bundle's stages. `predict`, `x0_denoiser` and `run_stage`
            cut them themselves.
        dtype: of the arithmetic, "float32" or "bfloat16".

    Returns:
        TextFeatures of n captions, NumPy arrays. `tokens` is None if no stage has a text
        transformer of its own.

    Raises:
        UserError: no prompt or too long a one, no tokenizer, or an unknown stage.
    """
    prompts = [prompts] if isinstance(prompts, str) else prompts
    text = encode_text(model, prompts, dtype=dtype)
    return text if stage is None else fit_text(model.stage(stage_name(model, stage)).spec, text)


def embed_image(model: Bundle, images: Images, *, dtype: str = "float32") -> Float[Any, "n d"]:
    """Encodes images with the bundle's CLIP: z_i, as the image tower gives it, not normalized.

    Images are fitted to the tower's square as the bundle's `ClipConfig.resize` says, for `vary` and
    the others too. Source: Radford et al. 2021, §2; z_i conditions the decoder (unCLIP §2.1).

    Args:
        model: a bundle with a CLIP.
        images: RGB, [n, h, w, 3] or a sequence of [h, w, 3] of any sizes; uint8, or floats in
            [-1, 1].
        dtype: of the arithmetic, "float32" or "bfloat16".

    Returns:
        float32 [n, d], a NumPy array.

    Raises:
        UserError: no image, or one of another shape, dtype or range.
    """
    return encode_images(model, images, dtype=dtype)


def classify(
    model: Bundle, images: Images, labels: Sequence[str] | str, *, dtype: str = "float32"
) -> Float[np.ndarray, "n labels"]:
    """Classifies images with CLIP, zero-shot: softmax over labels of exp(s) cos(z_i, z_t).

    s is CLIP's learned log of the inverse temperature (Radford et al. 2021, §2.3).

    Args:
        model: a bundle with a CLIP and a tokenizer.
        images: RGB, [n, h, w, 3] or a sequence of [h, w, 3] of any sizes; uint8, or floats in
            [-1, 1].
        labels: captions, at least one; classes are compared as written, without a template.
        dtype: of the arithmetic, "float32" or "bfloat16".

    Returns:
        float32 [n, len(labels)], probabilities; rows sum to 1.

    Raises:
        UserError: no label, no image, or an image of another shape, dtype or range.
    """
    labels = [labels] if isinstance(labels, str) else labels
    if not labels:
        raise UserError("no label given")
    image_emb = unit(jnp.asarray(encode_images(model, images, dtype=dtype)))
    text_emb = unit(jnp.asarray(encode_text(model, labels, dtype=dtype).text_emb))
    scale = jnp.exp(jnp.asarray(model.clip.params["logit_scale"], jnp.float32))
    logits = scale * jnp.matmul(image_emb, text_emb.T, precision="highest")
    return np.asarray(jax.nn.softmax(logits, axis=-1))
