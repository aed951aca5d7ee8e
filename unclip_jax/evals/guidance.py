"""Fidelity, diversity and caption match against the guidance scale (unCLIP §5.2, §5.3).

The same captions with the same noise are sampled at each scale, several images a caption, in the
forms of the paper's figures 9 (images), 10 and 11 (curves). A baseline that reads captions only,
the paper's GLIDE, is swept beside the model.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Shaped
from PIL import Image

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core import distributed
from unclip_jax.core.rendering import Strip, labeled_strips
from unclip_jax.data import sources
from unclip_jax.evals import distributions, metrics
from unclip_jax.evals.chunks import Chunks
from unclip_jax.evals.comparison import Comparison, compare, halves
from unclip_jax.evals.features import load_features
from unclip_jax.evals.fidelity import choose_captions, clip_score, concept_groups, run_settings
from unclip_jax.evals.image_sets import (
    Extractor,
    Gathered,
    RealImages,
    fill,
    gather,
    real_images,
    sampled_images,
    say_compared,
)
from unclip_jax.evals.metrics import Metric
from unclip_jax.evals.outputs import GUIDANCE_GRID
from unclip_jax.evals.settings import Settings
from unclip_jax.sampling.pipeline import Request, requests_for
from unclip_jax.sampling.settings import Plan, SampleSettings, resolve

DRAWS = 4  # images a caption
SHOWN = 4  # captions of the grid
KEPT = ("frechet", "fid", "precision", "recall")
"""Beginnings of the statistics that are reported at each scale."""


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What is the same at all scales.

    Attributes:
        rows: for each prompt the real image of its caption.
        real, other, against, label: real images, see `Comparison`.
    """

    prompts: list[str]
    rows: list[int]
    info: RealImages
    real: Gathered
    other: Gathered
    against: Gathered
    label: str


def guidance(model: Bundle, settings: Settings) -> dict[str, Metric]:
    """Samples captions of the held-out splits at each scale, by the model and by the baseline.

    In a job of several processes each makes its share; all but process 0 return no metrics.
    """
    judge = settings.eval_clip or model
    features = load_features(settings.features, judge, settings.report)
    extract = Extractor(features, settings.clip(judge))
    bundles = {"unclip": (model, settings.prior)}
    if settings.baseline is not None:
        bundles["baseline"] = (settings.baseline, "none")
    plans = {
        (name, scale): resolve(
            bundle, SampleSettings(size=settings.sample_size, guidance=scale, prior=prior)
        )
        for name, (bundle, prior) in bundles.items()
        for scale in settings.swept(settings.scales)
    }
    size = next(iter(plans.values())).size
    info = real_images(settings, settings.splits, model, size, "real")
    rows, prompts = choose_captions(info, settings.prompts, settings.seed)
    settings.say_fewer(len(prompts), info.label)
    requests = draws_first(prompts)
    found = {}
    for (name, scale), plan in plans.items():
        bundle = bundles[name][0]
        chunks = Chunks(settings.cache, run_settings(bundle, judge, settings, plan, prompts, DRAWS))
        images = sampled_images(bundle, requests, plan, settings, f"{name}-{scale:g}")
        fill(chunks, images, extract, settings)
        found[name, scale] = chunks, images
    sweep = real_sets(model, settings, plans, extract, (info, rows, prompts))
    if sweep is None:
        return {}
    say_compared(settings)
    groups = metrics.jackknife_groups(of_draws(concept_groups(info, rows)))
    sampled = {key: gather(*pair, groups) for key, pair in found.items()}
    if settings.image_folder is not None:
        draw_grid(prompts, sampled).save(settings.image_folder / GUIDANCE_GRID)
    return sweep_metrics(sweep, sampled, extract, size)


def draws_first(prompts: Sequence[str]) -> list[Request]:
    """Lists the first image of every prompt, then the second, and so on."""
    return sorted(requests_for(prompts, DRAWS), key=lambda r: (r.draw, r.prompt_index))


def of_draws(labels: Shaped[np.ndarray, " n"]) -> Shaped[np.ndarray, " m"]:
    """Returns the label of every image of `draws_first`, from those of the prompts."""
    return np.tile(labels, DRAWS)


def real_sets(
    model: Bundle,
    settings: Settings,
    plans: dict[tuple[str, float], Plan],
    extract: Extractor,
    chosen: tuple[RealImages, list[int], list[str]],
) -> Sweep | None:
    """Makes this process's share of the real images, and gathers them; None but in process 0."""
    info, rows, prompts = chosen
    plan, judge = next(iter(plans.values())), extract.clip.bundle
    chunks = Chunks(settings.cache, run_settings(model, judge, settings, plan, prompts, DRAWS))
    fill(chunks, info.images, extract, settings)
    other = None
    if "train" in sources.split_sizes(settings.data) and "train" not in settings.splits:
        training = real_images(settings, ("train",), model, plan.size, "train")
        order = np.random.default_rng(settings.seed).permutation(training.images.count)
        other = training.subset(np.sort(order[: len(prompts) * DRAWS]), "other")
        fill(chunks, other, extract, settings)
    if not distributed.is_process_zero():
        return None
    real = gather(chunks, info.images)
    if other is None:
        one, two, label = halves(real)
        return Sweep(prompts, rows, info, real, one, two, f"{info.label}; baseline: {label}")
    label = f"{info.label}; baseline: {other.count:,} images of train"
    return Sweep(prompts, rows, info, real, gather(chunks, other), real, label)


def sweep_metrics(
    sweep: Sweep,
    sampled: dict[tuple[str, float], Gathered],
    extract: Extractor,
    size: int,
) -> dict[str, Metric]:
    """Returns NAME/STATISTIC_SCALE of all statistics, names and scales."""
    text_emb = extract.clip.captions(sweep.prompts)
    groups = concept_groups(sweep.info, sweep.rows)
    real = clip_score(sweep.real.rows["clip"][np.asarray(sweep.rows)], text_emb).mean()
    name_of_clip = extract.clip.bundle.name
    results: dict[str, dict[str, Metric]] = {}
    for (name, scale), images in sampled.items():
        recipe = f"{extract.features.recipe}, images of {size} pixels, {DRAWS} a caption"
        sets = (images, sweep.real, sweep.other, sweep.against)
        found = compare(Comparison(*sets, recipe, sweep.label), extract.features.name)
        found = {key: metric for key, metric in found.items() if key.startswith(KEPT)}
        found["diversity"] = diversity_metric(images.rows["pool"], groups, recipe)
        scores = clip_score(images.rows["clip"], np.concatenate([text_emb] * DRAWS))
        found["clip_score"] = dataclasses.replace(
            metrics.mean_metric(scores, groups=of_draws(groups), baseline=float(real)),
            recipe=f"100 max(cosine, 0) of image and caption, CLIP of {name_of_clip}",
            reference="baseline: the captions' real images",
        )
        for key, metric in found.items():
            results.setdefault(key, {})[f"{name}/{key}_{scale:g}"] = metric
    return {name: metric for group in results.values() for name, metric in group.items()}


def diversity_metric(
    rows: Float[np.ndarray, "m d"], groups: Shaped[np.ndarray, " n"], recipe: str
) -> Metric:
    """Returns the mean cosine distance between images of one caption."""
    draws = rows.reshape(DRAWS, -1, rows.shape[-1])
    metric = metrics.mean_metric(distributions.diversity(draws), groups=groups)
    return dataclasses.replace(metric, recipe=f"1 - cosine of two images of a caption; {recipe}")


def draw_grid(prompts: Sequence[str], sampled: dict[tuple[str, float], Gathered]) -> Image.Image:
    """Draws the first captions: a strip a bundle and caption, an image a scale."""
    names = list(dict.fromkeys(name for name, _ in sampled))
    strips = []
    for i, prompt in enumerate(prompts[:SHOWN]):
        for name in names:
            mine = {scale: images for (whose, scale), images in sampled.items() if whose == name}
            title = prompt if len(names) == 1 else f"{prompt} ({name})"
            shown = [images.rows["shown"][i] for images in mine.values()]
            strips.append(Strip(title, shown, [f"guidance {scale:g}" for scale in mine]))
    return labeled_strips(strips)
