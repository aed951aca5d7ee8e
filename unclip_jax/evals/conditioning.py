"""Do the stages use what they are given? And does the upsampler beat bicubic?

On held-out examples, each input of a stage is exchanged for that of an example of another concept,
at the same noise. The error of the prediction must rise; where an input is ignored it does not.
What z_i says of a picture the caption need not say again, so that the decoder's caption is
exchanged without z_i as well (`caption_alone`).
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from unclip_jax import api
from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.prng import example_keys, root_key, stage_key
from unclip_jax.core.types import Cond
from unclip_jax.data.images import to_float, to_square, to_uint8
from unclip_jax.diffusion.losses import training_loss
from unclip_jax.diffusion.process import q_sample
from unclip_jax.diffusion.schedules import make_schedule
from unclip_jax.evals import metrics
from unclip_jax.evals.examples import Examples, load_examples, main_captions, resized
from unclip_jax.evals.metrics import Figure
from unclip_jax.evals.retrieval import clip_size, embed_images
from unclip_jax.evals.settings import Settings
from unclip_jax.models.embedding_norm import normalize, stats_of
from unclip_jax.sampling.encode import with_own_tokens
from unclip_jax.sampling.runs import example_shape

TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Noise levels at which the error is taken, as fractions of the schedule."""
DEFAULT_LIMIT = 256


def image_size(model: Bundle, stage: str) -> int:
    """Returns the pixels of a stage's images."""
    return example_shape(model.stage(stage).spec)[0]


def rows_of(tree: Any, rows: np.ndarray) -> Any:
    """Takes rows of every array of a tree."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[rows], tree)


def denoising_errors(
    model: Bundle,
    stage: str,
    x0: Float[np.ndarray, " n *d"],
    conds: Mapping[str, Cond],
    settings: Settings,
) -> dict[str, Float[np.ndarray, " n"]]:
    """Returns the mean squared error of each example's prediction under several conditionings.

    All conditionings see the same noise. The mean is over TIMES.
    """
    spec, params = model.stage(stage).spec, model.stage(stage).params
    schedule = make_schedule(spec.diffusion.schedule, spec.diffusion.num_steps)
    network = api.denoise_fn(model, stage)
    key = stage_key(root_key(settings.seed), stage)

    @jax.jit
    def error(
        params: Any, x0: Array, cond: Cond, index: Int[Array, " b"], t: Int[Array, " b"]
    ) -> Array:
        keys = jax.vmap(jax.random.fold_in)(example_keys(key, index), t)
        noise = jax.vmap(lambda k: jax.random.normal(k, x0.shape[1:]))(keys)
        x_t = q_sample(x0, t, noise, schedule)
        output = network(params, x_t, t, cond)
        terms = training_loss(
            output, x0=x0, x_t=x_t, t=t, noise=noise, schedule=schedule, cfg=spec.diffusion
        )
        return terms.mse

    errors = {name: np.zeros(len(x0)) for name in conds}
    for start in settings.starts(len(x0), f"errors of {stage}"):
        index = np.minimum(np.arange(start, start + settings.batch), len(x0) - 1)
        kept = len(x0[start : start + settings.batch])
        for name, cond in conds.items():
            for fraction in TIMES:
                t = np.full(len(index), int(fraction * spec.diffusion.num_steps), np.int32)
                mse = error(params, x0[index], rows_of(cond, index), index, t)
                errors[name][start : start + kept] += np.asarray(mse)[:kept] / len(TIMES)
    return errors


def rise_figures(
    stage: str, errors: Mapping[str, Float[np.ndarray, " n"]], groups: np.ndarray
) -> dict[str, Figure]:
    """Returns the error, and its rise for each exchanged input (used where it is above 0).

    Args:
        errors: by condition; "NAME" is set against "true_NAME" where there is one, else "true".
    """
    figures = {f"{stage}/mse": metrics.mean_figure(errors["true"], groups=groups)}
    for name, values in errors.items():
        if name.startswith("true"):
            continue
        own = errors.get(f"true_{name}", errors["true"])
        figures[f"{stage}/mse_swapped_{name}"] = metrics.mean_figure(values, groups=groups)
        figures[f"{stage}/rise_{name}"] = metrics.mean_figure(
            values - own, groups=groups, floor=0.0
        )
    return figures


def prior_cases(
    model: Bundle, stage: str, image_emb: np.ndarray, text: Any, swap: np.ndarray
) -> tuple[np.ndarray, dict[str, Cond]]:
    """Returns a prior's clean data, normalized z_i, and its true and exchanged conditionings."""
    held = model.stage(stage)
    x0 = normalize(jnp.asarray(image_emb), held.spec.norm, stats_of(held.params))
    conds = {"true": Cond(text=text), "caption": Cond(text=rows_of(text, swap))}
    return np.asarray(x0), conds


def decoder_cases(
    model: Bundle, images: np.ndarray, image_emb: np.ndarray, text: Any, swap: np.ndarray
) -> tuple[np.ndarray, dict[str, Cond]]:
    """Returns the decoder's clean images and its true and exchanged conditionings."""
    small = resized(images, image_size(model, "decoder"))
    conds = {
        "true": Cond(image_emb=image_emb, text=text),
        "image_emb": Cond(image_emb=image_emb[swap], text=text),
        "caption": Cond(image_emb=image_emb, text=rows_of(text, swap)),
        "true_caption_alone": Cond(text=text),
        "caption_alone": Cond(text=rows_of(text, swap)),
    }
    return to_float(small), conds


def upsampler_psnr(
    model: Bundle,
    stage: str,
    images: UInt8[np.ndarray, "n h w 3"],
    low_res: UInt8[np.ndarray, "n s s 3"],
    settings: Settings,
) -> dict[str, Figure]:
    """Compares the upsampler's images from true small ones with bicubic enlargement."""
    size = images.shape[1]
    made = np.empty_like(images)
    for start in settings.starts(len(images), f"images of {stage}"):
        rows = np.minimum(np.arange(start, start + settings.batch), len(images) - 1)
        kept = len(images[start : start + settings.batch])
        cond = Cond(low_res=to_float(low_res[rows]))
        keys = example_keys(root_key(settings.seed), rows)
        drawn = api.run_stage(model, stage, cond, key=keys)
        made[start : start + kept] = to_uint8(drawn)[:kept]
    cubic = np.stack([to_square(image, size, resize="bicubic") for image in low_res])
    own, base = metrics.psnr(made, images), metrics.psnr(cubic, images)
    return {
        f"{stage}/psnr": metrics.mean_figure(own, floor=float(base.mean())),
        f"{stage}/psnr_bicubic": metrics.mean_figure(base),
        f"{stage}/psnr_over_bicubic": metrics.mean_figure(own - base, floor=0.0),
    }


def conditioning(model: Bundle, settings: Settings) -> dict[str, Figure]:
    """Measures every conditioned stage that the bundle has."""
    limit = settings.limit or DEFAULT_LIMIT
    sizes = [clip_size(model)]
    upsampler = model.stages.get("upsampler_256")
    if upsampler is not None:
        sizes.append(image_size(model, "upsampler_256"))
    examples = load_examples(
        settings, settings.splits[-1], model=model, size=max(sizes), limit=limit
    )
    groups = np.asarray(examples.concepts)
    swap = metrics.derangement(examples.concepts, seed=settings.seed)
    captions = main_captions(examples)
    text = api.embed_text(model, captions)
    image_emb = embed_images(model, examples.images, settings.report)
    cases = {}
    if "prior_diffusion" in model.stages:
        own = with_own_tokens(model, text, captions, "prior_diffusion")
        cases["prior_diffusion"] = prior_cases(model, "prior_diffusion", image_emb, own, swap)
    if "decoder" in model.stages:
        own = with_own_tokens(model, text, captions, "decoder")
        cases["decoder"] = decoder_cases(model, examples.images, image_emb, own, swap)
    figures = {}
    for stage, (x0, conds) in cases.items():
        errors = denoising_errors(model, stage, x0, conds, settings)
        figures |= rise_figures(stage, errors, groups)
    if upsampler is not None:
        figures |= upsampler_figures(model, examples, swap, settings)
    return figures


def upsampler_figures(
    model: Bundle, examples: Examples, swap: np.ndarray, settings: Settings
) -> dict[str, Figure]:
    """Measures `upsampler_256`: its use of the small image, and its PSNR."""
    stage = "upsampler_256"
    images = resized(examples.images, image_size(model, stage))
    low_res = resized(images, model.stage(stage).spec.model.low_res_size)
    small = to_float(low_res)
    conds = {"true": Cond(low_res=small), "low_res": Cond(low_res=small[swap])}
    errors = denoising_errors(model, stage, to_float(images), conds, settings)
    figures = rise_figures(stage, errors, np.asarray(examples.concepts))
    return figures | upsampler_psnr(model, stage, images, low_res, settings)
