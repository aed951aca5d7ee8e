"""Do the stages use their conditioning? And does the upsampler beat bicubic?

On held-out examples, each input of a stage is swapped for that of an example of another concept, at
the same noise. The prediction error must rise; for an ignored input it does not. Since z_i already
carries most of what the caption says, the decoder's caption is also swapped without z_i
(`caption_alone`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8
from PIL import Image

from unclip_jax import api
from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.prng import example_keys, root_key, stage_key
from unclip_jax.core.rendering import Strip, labeled_strips
from unclip_jax.core.types import Cond
from unclip_jax.data.images import to_float, to_square, to_uint8
from unclip_jax.diffusion.losses import training_loss
from unclip_jax.diffusion.process import q_sample
from unclip_jax.diffusion.schedules import make_schedule
from unclip_jax.evals import metrics
from unclip_jax.evals.examples import Examples, load_examples, main_captions, resized
from unclip_jax.evals.metrics import Metric
from unclip_jax.evals.outputs import CONDITIONING_GRID
from unclip_jax.evals.settings import Settings
from unclip_jax.models.embedding_norm import normalize, stats_of
from unclip_jax.sampling.encode import fit_text

TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Noise levels at which the error is measured, as fractions of the schedule."""
DEFAULT_LIMIT = 256
SHOWN = 4  # images in the grid of the upsampler


def image_size(model: Bundle, stage: str) -> int:
    """Returns the height and width in pixels of a stage's images."""
    return model.stage(stage).spec.model.sample_shape[0]


def rows_of(tree: Any, rows: np.ndarray) -> Any:
    """Takes the given rows of every array of a tree."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[rows], tree)


def denoising_errors(
    model: Bundle,
    stage: str,
    x0: Float[np.ndarray, " n *d"],
    conds: Mapping[str, Cond],
    settings: Settings,
) -> dict[str, Float[np.ndarray, " n"]]:
    """Returns each example's mean squared prediction error under several conditionings.

    All conditionings see the same noise. The mean is also over TIMES.
    """
    spec, params = model.stage(stage).spec, model.stage(stage).params
    schedule = make_schedule(spec.diffusion.schedule, spec.diffusion.num_steps)
    network = api.denoise_fn(model, stage)
    key, times = stage_key(root_key(settings.seed), spec.row.key_id), settings.swept(TIMES)

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

    def errors(rows: Int[np.ndarray, " b"]) -> dict[str, Float[np.ndarray, " b"]]:
        found = {name: np.zeros(len(rows)) for name in conds}
        for name, cond in conds.items():
            for fraction in times:
                t = np.full(len(rows), int(fraction * spec.diffusion.num_steps), np.int32)
                mse = error(params, x0[rows], rows_of(cond, rows), rows, t)
                found[name] += np.asarray(mse) / len(times)
        return found

    return settings.map_batches(errors, len(x0), f"errors of {stage}")


def rise_metrics(
    stage: str, errors: Mapping[str, Float[np.ndarray, " n"]], groups: np.ndarray
) -> dict[str, Metric]:
    """Returns the error, and its rise for each swapped input (above 0 where the input is used).

    Args:
        errors: by conditioning; "NAME" is compared with "true_NAME" if that exists, else "true".
    """
    results = {f"{stage}/mse": metrics.mean_metric(errors["true"], groups=groups)}
    for name, values in errors.items():
        if name.startswith("true"):
            continue
        own = errors.get(f"true_{name}", errors["true"])
        results[f"{stage}/mse_swapped_{name}"] = metrics.mean_metric(values, groups=groups)
        results[f"{stage}/rise_{name}"] = metrics.mean_metric(
            values - own, groups=groups, baseline=0.0
        )
    return results


def prior_cases(
    model: Bundle, stage: str, image_emb: np.ndarray, text: Any, swap: np.ndarray
) -> tuple[np.ndarray, dict[str, Cond]]:
    """Returns a prior's clean data, normalized z_i, and its true and swapped conditionings."""
    prior = model.stage(stage)
    x0 = normalize(jnp.asarray(image_emb), prior.spec.norm, stats_of(prior.params))
    conds = {"true": Cond(text=text), "caption": Cond(text=rows_of(text, swap))}
    return np.asarray(x0), conds


def decoder_cases(
    model: Bundle,
    stage: str,
    images: np.ndarray,
    image_emb: np.ndarray,
    text: Any,
    swap: np.ndarray,
) -> tuple[np.ndarray, dict[str, Cond]]:
    """Returns a decoder's clean images and its true and swapped conditionings."""
    small = resized(images, image_size(model, stage))
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
    captions: Sequence[str] = (),
) -> dict[str, Metric]:
    """Compares upsampling of the true low-res images with bicubic interpolation.

    Args:
        captions: of the images, for the grid that is written if a folder is given.
    """

    def upsample(rows: Int[np.ndarray, " b"]) -> UInt8[np.ndarray, "b h w 3"]:
        cond = Cond(low_res=to_float(low_res[rows]))
        keys = example_keys(root_key(settings.seed), rows)
        return to_uint8(api.run_stage(model, stage, cond, key=keys))

    upsampled = settings.map_batches(upsample, len(images), f"images of {stage}")
    cubic = np.stack([to_square(i, images.shape[1], resize="bicubic") for i in low_res])
    own, base = metrics.psnr(upsampled, images), metrics.psnr(cubic, images)
    if settings.image_folder is not None:
        size, nearest = images.shape[1:3], Image.Resampling.NEAREST
        near = np.stack([Image.fromarray(i).resize(size, nearest) for i in low_res])
        columns = {"input": (near, None), "bicubic": (cubic, base), "upsampled": (upsampled, own)}
        grid = upsampling_grid(columns | {"held-out image": (images, None)}, captions)
        grid.save(settings.image_folder / CONDITIONING_GRID)
    return {
        f"{stage}/psnr": metrics.mean_metric(own, baseline=float(base.mean())),
        f"{stage}/psnr_bicubic": metrics.mean_metric(base),
        f"{stage}/psnr_over_bicubic": metrics.mean_metric(own - base, baseline=0.0),
    }


def upsampling_grid(
    columns: Mapping[str, tuple[np.ndarray, np.ndarray | None]], captions: Sequence[str]
) -> Image.Image:
    """Returns a strip for each of the first few images.

    Args:
        columns: images and, where there is one, their PSNR, by label.
    """
    strips = []
    for row, caption in enumerate(captions[:SHOWN]):
        labels = [
            label if psnr is None else f"{label}, {psnr[row]:.1f} dB"
            for label, (_, psnr) in columns.items()
        ]
        strips.append(Strip(caption, [images[row] for images, _ in columns.values()], labels))
    return labeled_strips(strips)


def conditioning(model: Bundle, settings: Settings) -> dict[str, Metric]:
    """Measures every conditioned stage of the bundle."""
    clip = settings.clip(model)
    limit = settings.limit or DEFAULT_LIMIT
    upsamplers = model.of_kind("upsampler")[:1]
    sizes = [clip.image_size, *(image_size(model, name) for name in upsamplers)]
    examples = load_examples(
        settings, settings.splits[-1], model=model, size=max(sizes), limit=limit
    )
    groups = np.asarray(examples.concepts)
    swap = metrics.derangement(examples.concepts, seed=settings.seed)
    captions = main_captions(examples)
    text = api.embed_text(model, captions)
    image_emb = clip.images(examples.images)
    cases = {}
    for name in model.of_kind("prior"):
        if model.stage(name).spec.row.is_diffused:
            own = fit_text(model.stage(name).spec, text)
            cases[name] = prior_cases(model, name, image_emb, own, swap)
    for name in model.of_kind("decoder"):
        own = fit_text(model.stage(name).spec, text)
        cases[name] = decoder_cases(model, name, examples.images, image_emb, own, swap)
    results = {}
    for stage, (x0, conds) in cases.items():
        errors = denoising_errors(model, stage, x0, conds, settings)
        results |= rise_metrics(stage, errors, groups)
    for name in upsamplers:
        results |= upsampler_metrics(model, name, examples, swap, settings)
    return results


def upsampler_metrics(
    model: Bundle, stage: str, examples: Examples, swap: np.ndarray, settings: Settings
) -> dict[str, Metric]:
    """Measures an upsampler: its use of the low-res image, and its PSNR."""
    images = resized(examples.images, image_size(model, stage))
    low_res = resized(images, model.stage(stage).spec.model.low_res_size)
    small = to_float(low_res)
    conds = {"true": Cond(low_res=small), "low_res": Cond(low_res=small[swap])}
    errors = denoising_errors(model, stage, to_float(images), conds, settings)
    results = rise_metrics(stage, errors, np.asarray(examples.concepts))
    return results | upsampler_psnr(
        model, stage, images, low_res, settings, main_captions(examples)
    )
