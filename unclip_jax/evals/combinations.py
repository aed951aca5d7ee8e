"""Are new combinations drawn, or only the nearest training image? By an independent CLIP.

Captions of the last split (concept and style, thing and color, never seen together) are sampled,
one image each. An image is a hit at k if its own real image is among the k real images of the split
that are most similar to it. The baseline is the training image whose caption is nearest to the
prompt in the model's own text space, a rule by which a model could repeat its training images. A
better choice among them may do better.
"""

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8
from PIL import Image

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.rendering import labeled_grid
from unclip_jax.evals import metrics
from unclip_jax.evals.examples import (
    Examples,
    load_examples,
    main_captions,
    resized,
    sample_prompts,
)
from unclip_jax.evals.metrics import Metric
from unclip_jax.evals.outputs import COMBINATIONS_GRID
from unclip_jax.evals.prior_images import random_subset
from unclip_jax.evals.settings import Settings

RANKS = (1, 5)
SHOWN = 8  # combinations of the grid


def combinations(model: Bundle, settings: Settings) -> dict[str, Metric]:
    """Samples held-out combinations and finds each among the real images."""
    judge, own = settings.judge("combinations"), settings.clip(model)
    size = judge.image_size
    held_out = load_examples(settings, settings.splits[-1], model=settings.eval_clip, size=size)
    train = load_examples(settings, "train", model=settings.eval_clip, size=size)
    chosen = random_subset(held_out, settings.prompts, settings.seed)
    prompts = main_captions(chosen)
    owner = np.repeat(np.arange(len(train)), [len(c) for c in train.captions])
    lines = [caption for captions in train.captions for caption in captions]
    nearest, _ = metrics.nearest(own.captions(prompts), own.captions(lines))
    nearest = owner[nearest]
    small = resized(sample_prompts(model, prompts, settings), size)
    if settings.image_folder is not None:
        columns = (small, chosen.images, train.images[nearest])
        _grid(prompts, columns).save(settings.image_folder / COMBINATIONS_GRID)
    return hit_metrics(
        judge.images(small),
        judge.images(train.images[nearest]),
        judge.images(held_out.images),
        _cells(chosen)[:, None] == _cells(held_out)[None],
        np.asarray(chosen.concepts),
    )


def hit_metrics(
    sampled_emb: Float[np.ndarray, "n d"],
    nearest_emb: Float[np.ndarray, "n d"],
    gallery_emb: Float[np.ndarray, "g d"],
    relevant: Bool[np.ndarray, "n g"],
    groups: Shaped[np.ndarray, " n"],
) -> dict[str, Metric]:
    """Compares samples with the nearest training images, both by the real image they find.

    Returns:
        top_k with the nearest training image's rate as baseline, and over_nearest_k, the paired
        difference of the two, beaten when its interval lies above 0.
    """
    results = {}
    for k in RANKS:
        ours, theirs = (
            metrics.hits_at(metrics.similarity(emb, gallery_emb), relevant, k)
            for emb in (sampled_emb, nearest_emb)
        )
        results[f"top_{k}"] = metrics.mean_metric(
            ours, groups=groups, baseline=float(theirs.mean())
        )
        results[f"over_nearest_{k}"] = metrics.mean_metric(
            ours.astype(np.float64) - theirs, groups=groups, baseline=0.0, bounds=(-1.0, 1.0)
        )
        results[f"chance_{k}"] = Metric(metrics.chance_at(relevant, k), None, None, len(ours))
    return results


def _cells(examples: Examples) -> Shaped[np.ndarray, " n"]:
    """Returns concept and style of each example as one label."""
    return np.array([f"{c}\n{s}" for c, s in zip(examples.concepts, examples.styles, strict=True)])


def _grid(prompts: list[str], columns: tuple[UInt8[np.ndarray, "n s s 3"], ...]) -> Image.Image:
    """Draws the first combinations: a row of sample, real image and nearest training image each."""
    rows = [[column[i] for column in columns] for i in range(min(SHOWN, len(prompts)))]
    labels = [f"{prompt}: sample, real, nearest trained" for prompt in prompts]
    return labeled_grid(rows, labels[: len(rows)], columns=3)
