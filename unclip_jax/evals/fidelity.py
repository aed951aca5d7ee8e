"""How close are the samples to real images? Distances of distributions in a network's features.

The paper's protocol for COCO (unCLIP §5.4) with any data set: captions of the held-out splits are
sampled, one image each, and compared with all real images of these splits. Next to every distance
is that of as many real training images.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped, UInt8

from unclip_jax.checkpoint.bundle import Bundle, clip_digests
from unclip_jax.core import distributed
from unclip_jax.core.rendering import labeled_grid
from unclip_jax.data import sources
from unclip_jax.evals import metrics
from unclip_jax.evals.chunks import Chunks
from unclip_jax.evals.clip_encoder import ClipEncoder
from unclip_jax.evals.comparison import Comparison, compare, halves
from unclip_jax.evals.examples import names_style
from unclip_jax.evals.features import load_features
from unclip_jax.evals.image_sets import (
    Extractor,
    Gathered,
    RealImages,
    fill,
    gather,
    real_images,
    sampled_images,
    say_compared,
    thumbnails,
)
from unclip_jax.evals.metrics import Metric
from unclip_jax.evals.outputs import FIDELITY_GRID
from unclip_jax.evals.samples import pixel_distance
from unclip_jax.evals.settings import Settings
from unclip_jax.sampling.pipeline import requests_for
from unclip_jax.sampling.settings import Plan, SampleSettings, resolve

BLOCK = 512  # images of a block of distances in pixels
GRID = 32  # samples


@dataclasses.dataclass(frozen=True)
class Sets:
    """The sets of a run as numbers, in process 0.

    Attributes:
        rows: for each sample the real image of its caption.
        other: real training images, and the thumbnails of all of them; None without a split of
            them.
    """

    sampled: Gathered
    prompts: list[str]
    rows: list[int]
    real: Gathered
    info: RealImages
    other: tuple[Gathered, Gathered] | None


def fidelity(model: Bundle, settings: Settings) -> dict[str, Metric]:
    """Samples captions of the held-out splits and compares with the real images of these splits.

    In a job of several processes each makes its share; all but process 0 return no metrics.
    """
    asked = SampleSettings(settings.sample_size, settings.prior, settings.guidance)
    plan = resolve(model, asked)
    judge = settings.eval_clip or model
    features = load_features(settings.features, judge, settings.report)
    extract = Extractor(features, settings.clip(judge))
    sets = make_sets(model, settings, plan, extract)
    if sets is None:
        return {}
    say_compared(settings)
    if settings.image_folder is not None:
        shown = sets.sampled.rows["shown"][:GRID]
        grid = labeled_grid([[image] for image in shown], sets.prompts[: len(shown)])
        grid.save(settings.image_folder / FIDELITY_GRID)
    guidance = plan.decoder_sampling.guidance
    made = f"images of {plan.size} pixels, prior {plan.prior}, guidance {guidance:g}"
    results = compare(comparison(sets, extract, made), features.name)
    groups = concept_groups(sets.info, sets.rows)
    results |= clip_scores(sets, extract.clip, groups)
    if sets.other is not None:
        results["nearest_training_rms"] = training_distance(sets, settings.data, groups)
    return results


def make_sets(model: Bundle, settings: Settings, plan: Plan, extract: Extractor) -> Sets | None:
    """Makes this process's share of all sets, and gathers them; None but in process 0."""
    real = real_images(settings, settings.splits, model, plan.size, "real")
    rows, prompts = choose_captions(real, settings.prompts, settings.seed)
    settings.say_fewer(len(prompts), real.label)
    sampled = sampled_images(model, requests_for(prompts, 1), plan, settings, "sampled")
    judge = extract.clip.bundle
    chunks = Chunks(settings.cache, run_settings(model, judge, settings, plan, prompts))
    fill(chunks, sampled, extract, settings)
    fill(chunks, real.images, extract, settings)
    train = other = None
    if "train" in sources.split_sizes(settings.data) and "train" not in settings.splits:
        training = real_images(settings, ("train",), model, plan.size, "train")
        train = training.images
        drawn = np.random.default_rng(settings.seed).permutation(train.count)[: len(prompts)]
        other = training.subset(np.sort(drawn), "other")
        fill(chunks, other, extract, settings)
        fill(chunks, train, lambda pixels: {"small": thumbnails(pixels)}, settings)
    if not distributed.is_process_zero():
        return None
    more = None if train is None else (gather(chunks, other), gather(chunks, train))
    groups = metrics.jackknife_groups(concept_groups(real, rows))
    known = gather(chunks, sampled, groups), prompts, rows
    return Sets(*known, gather(chunks, real.images), real, more)


def choose_captions(real: RealImages, count: int, seed: int) -> tuple[list[int], list[str]]:
    """Draws captions: one of each image in random order, then a second of each, and so on.

    An image's first caption is one that names its style, where there is one.

    Returns:
        At most `count` rows of images, and their captions.
    """
    order = np.random.default_rng(seed).permutation(len(real.captions))
    ranked = [
        sorted(captions, key=lambda caption: not names_style(caption, style))
        for captions, style in zip(real.captions, real.styles, strict=True)
    ]
    most = max(map(len, ranked))
    pairs = [(int(i), ranked[i][k]) for k in range(most) for i in order if k < len(ranked[i])]
    return [row for row, _ in pairs[:count]], [caption for _, caption in pairs[:count]]


def run_settings(
    model: Bundle,
    judge: Bundle,
    settings: Settings,
    plan: Plan,
    prompts: Sequence[str],
    draws: int = 1,
) -> dict[str, object]:
    """Returns all that the features of a run depend on."""
    names = ("data", "concepts", "styles", "splits", "limit", "seed", "features")
    return {
        "model": model.identity,
        "clip": sorted(clip_digests(judge)),
        "plan": repr(plan),
        "prompts": list(prompts),
        "draws": draws,
        "fingerprint": sources.fingerprint(settings.data),
        "weights": weights_of(settings.features),
        **{name: getattr(settings, name) for name in names},
    }


def weights_of(features: str) -> list[int]:
    """Returns sizes and times of the files that features are computed with."""
    place = features.partition(":")[2]
    paths = [Path(place), *sorted(Path(place).glob("*"))] if place else []
    found = [path.stat() for path in paths if path.is_file()]
    return [number for info in found for number in (info.st_size, info.st_mtime_ns)]


def comparison(sets: Sets, extract: Extractor, made: str) -> Comparison:
    """Returns samples and real images with the real images of the baseline.

    Args:
        made: how the samples were.
    """
    if sets.other is None:
        *pair, label = halves(sets.real)
    else:
        pair = sets.other[0], sets.real
        label = f"{len(pair[0]):,} images of train"
    reference = f"{sets.info.label}; baseline: {label}"
    recipes = [f"{recipe}, {made}" for recipe in (extract.features.recipe, extract.clip_recipe)]
    score_run = extract.features.score_run
    return Comparison(sets.sampled, sets.real, *pair, recipes[0], reference, recipes[1], score_run)


def clip_scores(
    sets: Sets, clip: ClipEncoder, groups: Shaped[np.ndarray, " n"]
) -> dict[str, Metric]:
    """Returns the CLIP score of the samples, and that of the real images of their captions.

    The first has the second as its baseline, and the second that of another image's caption.
    """
    text_emb = clip.captions(sets.prompts)
    real_emb = sets.real.rows["clip"][np.asarray(sets.rows)]
    swap = metrics.derangement([str(group) for group in groups])
    ours = clip_score(sets.sampled.rows["clip"], text_emb)
    real, swapped = clip_score(real_emb, text_emb), clip_score(real_emb, text_emb[swap])
    recipe = f"100 max(cosine, 0) of image and caption, CLIP of {clip.bundle.name}"
    found = {"clip_score": (ours, real), "clip_score_real": (real, swapped)}
    return {
        name: dataclasses.replace(
            metrics.mean_metric(scores, groups=groups, baseline=float(baseline.mean())),
            recipe=recipe,
        )
        for name, (scores, baseline) in found.items()
    }


def clip_score(
    image_emb: Float[np.ndarray, "n d"], text_emb: Float[np.ndarray, "n d"]
) -> Float[np.ndarray, " n"]:
    """Returns 100 max(cosine, 0) of each image with its caption."""
    return 100.0 * np.maximum(metrics.cosine(image_emb, text_emb), 0.0)


def training_distance(sets: Sets, data: str, groups: Shaped[np.ndarray, " n"]) -> Metric:
    """Returns the distance in pixels to the nearest training image; baseline: of real images."""
    train = sets.other[1].rows["small"]
    ours = nearest_pixels(sets.sampled.rows["small"], train)
    real = nearest_pixels(sets.real.rows["small"][np.asarray(sets.rows)], train)
    return dataclasses.replace(
        metrics.mean_metric(ours, groups=groups, baseline=float(real.mean())),
        recipe=f"root mean square of gray levels, images of {train.shape[1]} pixels",
        reference=f"{data} train, {len(train):,} images; baseline: the captions' real images",
    )


def nearest_pixels(
    images: UInt8[np.ndarray, "n t t 3"], gallery: UInt8[np.ndarray, "g t t 3"]
) -> Float[np.ndarray, " n"]:
    """Returns `pixel_distance` by blocks, whatever the size of the gallery."""
    blocks = [gallery[j : j + 16 * BLOCK] for j in range(0, len(gallery), 16 * BLOCK)]
    found = [
        np.min([pixel_distance(images[i : i + BLOCK], block) for block in blocks], axis=0)
        for i in range(0, len(images), BLOCK)
    ]
    return np.concatenate(found)


def concept_groups(real: RealImages, rows: Sequence[int]) -> Shaped[np.ndarray, " n"]:
    """Returns what is resampled together: the rows of one concept, or image where none is named."""
    return metrics.each_named(np.array(real.concepts))[np.asarray(rows)]
