"""Do samples show what the prompt says? Measured with an independent CLIP.

One image per prompt is sampled and compared with the training images in the embedding space of the
evaluation CLIP. A concept's score is that of its best image; a hit at k means that the prompt's
concept is among the top k. The same on real held-out images of known concepts is the ceiling. Also
measured: the distance of the samples to the nearest training image.
"""

import functools

import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8
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
from unclip_jax.evals.outputs import SAMPLES_GRID
from unclip_jax.evals.settings import Settings

RANKS = (1, 5)
SHOWN = 16  # of the worst and of the best samples, in the grid


def choose_prompts(examples: Examples, count: int, seed: int) -> tuple[Examples, list[str]]:
    """Draws training images of distinct concepts, whose main captions become the prompts."""
    order = np.random.default_rng(seed).permutation(len(examples))
    first = {examples.concepts[i]: int(i) for i in reversed(order)}
    rows = sorted(first.values())
    if count < len(rows):
        rows = sorted(np.random.default_rng(seed).permutation(rows)[:count].tolist())
    chosen = examples.take(rows)
    return chosen, main_captions(chosen)


def concept_hits(
    emb: Float[np.ndarray, "n d"],
    concepts: tuple[str, ...],
    gallery_emb: Float[np.ndarray, "g d"],
    gallery_concepts: tuple[str, ...],
) -> dict[int, tuple[np.ndarray, float]]:
    """Returns for each rank k the hits of every example and the chance rate."""
    scores, relevant = _by_concept(emb, concepts, gallery_emb, gallery_concepts)
    return {
        k: (metrics.hits_at(scores, relevant, k), metrics.chance_at(relevant, k)) for k in RANKS
    }


def concept_ranks(
    emb: Float[np.ndarray, "n d"],
    concepts: tuple[str, ...],
    gallery_emb: Float[np.ndarray, "g d"],
    gallery_concepts: tuple[str, ...],
) -> Integer[np.ndarray, " n"]:
    """Returns the rank of every example's concept, from 1; a tie counts against the example."""
    return metrics.ranks(*_by_concept(emb, concepts, gallery_emb, gallery_concepts))


def _by_concept(
    emb: Float[np.ndarray, "n d"],
    concepts: tuple[str, ...],
    gallery_emb: Float[np.ndarray, "g d"],
    gallery_concepts: tuple[str, ...],
) -> tuple[Float[np.ndarray, "n c"], Bool[np.ndarray, "n c"]]:
    """Returns every example's score of each concept of the gallery, and which is its own."""
    scores, names = metrics.group_best(metrics.similarity(emb, gallery_emb), gallery_concepts)
    return scores, np.asarray(concepts)[:, None] == np.asarray(names)[None]


def ranked_grid(
    images: UInt8[np.ndarray, "n h w 3"], prompts: list[str], ranks: Integer[np.ndarray, " n"]
) -> Image.Image:
    """Returns the samples of the highest ranks, which are the worst, then those of the lowest."""
    order = np.argsort(-ranks, kind="stable")
    shown = order if len(order) <= 2 * SHOWN else [*order[:SHOWN], *order[-SHOWN:]]
    labels = [f"{prompts[i]} (rank {ranks[i]})" for i in shown]
    return labeled_grid([[images[i]] for i in shown], labels)


def pixel_distance(
    images: UInt8[np.ndarray, "n h w c"], gallery: UInt8[np.ndarray, "g h w c"]
) -> Float[np.ndarray, " n"]:
    """Returns the root mean square difference to the nearest gallery image, in gray levels.

    |a - b|^2 = |a|^2 - 2 a b + |b|^2
    """
    a = images.reshape(len(images), -1).astype(np.float64)
    b = gallery.reshape(len(gallery), -1).astype(np.float32)
    squares = np.einsum("gd,gd->g", b, b, dtype=np.float64)
    product = a.astype(np.float32) @ b.T
    square = np.min(squares[None] - 2.0 * product.astype(np.float64), axis=1) + (a**2).sum(axis=1)
    return np.sqrt(np.clip(square, 0.0, None) / a.shape[1])


def sample_metrics(
    sampled: tuple[np.ndarray, np.ndarray],
    chosen: Examples,
    real: tuple[np.ndarray, Examples],
    training: tuple[np.ndarray, Examples],
) -> dict[str, Metric]:
    """Compares samples, and real held-out images, with the training images.

    Args:
        sampled: the samples' embeddings, and the samples at the size of the other images.
        chosen: the training images whose captions were the prompts.
        real: embeddings of real held-out images, and the images.
        training: embeddings of all training images, and the images.
    """
    train_emb, train = training
    real_emb, held_out = real
    results = {}
    hits = concept_hits(sampled[0], chosen.concepts, train_emb, train.concepts)
    ceiling = concept_hits(real_emb, held_out.concepts, train_emb, train.concepts)
    groups = np.asarray(held_out.concepts)
    for k in RANKS:
        results[f"top_{k}"] = metrics.mean_metric(hits[k][0], baseline=hits[k][1])
    for k in RANKS:
        results[f"real_top_{k}"] = metrics.mean_metric(
            ceiling[k][0], groups=groups, baseline=ceiling[k][1]
        )
    _, own = metrics.nearest(sampled[0], train_emb)
    _, reference = metrics.nearest(real_emb, train_emb)
    results["nearest_training_cosine"] = metrics.mean_metric(own)
    results["real_nearest_training_cosine"] = metrics.mean_metric(reference, groups=groups)
    results["nearest_training_rms"] = metrics.mean_metric(pixel_distance(sampled[1], train.images))
    results["real_nearest_training_rms"] = metrics.mean_metric(
        pixel_distance(held_out.images, train.images), groups=groups
    )
    return results


def samples(model: Bundle, settings: Settings) -> dict[str, Metric]:
    """Samples captions of training images and classifies the samples with the evaluation CLIP."""
    clip = settings.judge("samples")
    load = functools.partial(
        load_examples, settings, model=settings.eval_clip, size=clip.image_size
    )
    train, held_out = load("train"), load(settings.splits[-1], limit=settings.limit)
    chosen, prompts = choose_prompts(train, settings.prompts, settings.seed)
    images = sample_prompts(model, prompts, settings)
    small = resized(images, clip.image_size)
    emb, train_emb = clip.images(small), clip.images(train.images)
    if settings.image_folder is not None:
        ranks = concept_ranks(emb, chosen.concepts, train_emb, train.concepts)
        grid = ranked_grid(images, prompts, ranks)
        grid.save(settings.image_folder / SAMPLES_GRID)
    return sample_metrics(
        (emb, small),
        chosen,
        (clip.images(held_out.images), held_out),
        (train_emb, train),
    )
