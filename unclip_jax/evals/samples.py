"""Are the samples what the prompt says? An independent CLIP is asked.

For each prompt a picture is sampled and compared, in the judge's embedding space, with the training
pictures. A concept's score is that of its best picture; a hit at k is the prompt's concept among
the k best of all concepts. Beside it stand how the judge does on real held-out pictures of known
concepts, which is the ceiling, and how near the samples lie to the nearest training picture.
"""

import numpy as np
from jaxtyping import Float, UInt8

from unclip_jax import api
from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.errors import UserError
from unclip_jax.core.prng import root_key
from unclip_jax.evals import metrics
from unclip_jax.evals.examples import Examples, load_examples, main_captions, resized
from unclip_jax.evals.metrics import Figure
from unclip_jax.evals.retrieval import clip_size, embed_images
from unclip_jax.evals.settings import Settings

RANKS = (1, 5)


def choose_prompts(examples: Examples, count: int, seed: int) -> tuple[Examples, list[str]]:
    """Draws training pictures of different concepts and takes their main captions as prompts."""
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
    """Returns for each rank k the hits of every example and the rate of chance."""
    scores, names = metrics.group_best(metrics.similarity(emb, gallery_emb), gallery_concepts)
    relevant = np.asarray(concepts)[:, None] == np.asarray(names)[None]
    return {
        k: (metrics.hits_at(scores, relevant, k), metrics.chance_at(relevant, k)) for k in RANKS
    }


def pixel_distance(
    images: UInt8[np.ndarray, "n h w c"], gallery: UInt8[np.ndarray, "g h w c"]
) -> Float[np.ndarray, " n"]:
    """Returns the root mean square difference to the nearest gallery picture, in grey levels.

    |a - b|^2 = |a|^2 - 2 a b + |b|^2
    """
    a = images.reshape(len(images), -1).astype(np.float64)
    b = gallery.reshape(len(gallery), -1).astype(np.float32)
    squares = np.einsum("gd,gd->g", b, b, dtype=np.float64)
    product = a.astype(np.float32) @ b.T
    square = np.min(squares[None] - 2.0 * product.astype(np.float64), axis=1) + (a**2).sum(axis=1)
    return np.sqrt(np.clip(square, 0.0, None) / a.shape[1])


def sample_figures(
    sampled: tuple[np.ndarray, np.ndarray],
    chosen: Examples,
    real: tuple[np.ndarray, Examples],
    training: tuple[np.ndarray, Examples],
) -> dict[str, Figure]:
    """Compares samples, and real held-out pictures beside them, with the training pictures.

    Args:
        sampled: the samples' embeddings and the samples at the size of the other pictures.
        chosen: the training pictures whose captions were the prompts.
        real: embeddings of real held-out pictures, and the pictures.
        training: embeddings of all training pictures, and the pictures.
    """
    train_emb, train = training
    real_emb, held_out = real
    figures = {}
    hits = concept_hits(sampled[0], chosen.concepts, train_emb, train.concepts)
    ceiling = concept_hits(real_emb, held_out.concepts, train_emb, train.concepts)
    groups = np.asarray(held_out.concepts)
    for k in RANKS:
        figures[f"top_{k}"] = metrics.mean_figure(hits[k][0], floor=hits[k][1])
    for k in RANKS:
        figures[f"real_top_{k}"] = metrics.mean_figure(
            ceiling[k][0], groups=groups, floor=ceiling[k][1]
        )
    _, own = metrics.nearest(sampled[0], train_emb)
    _, reference = metrics.nearest(real_emb, train_emb)
    figures["nearest_training_cosine"] = metrics.mean_figure(own)
    figures["real_nearest_training_cosine"] = metrics.mean_figure(reference, groups=groups)
    figures["nearest_training_rms"] = metrics.mean_figure(pixel_distance(sampled[1], train.images))
    figures["real_nearest_training_rms"] = metrics.mean_figure(
        pixel_distance(held_out.images, train.images), groups=groups
    )
    return figures


def samples(model: Bundle, settings: Settings) -> dict[str, Figure]:
    """Samples held-in prompts and has the judge name their concepts."""
    if settings.judge is None:
        raise UserError("suite 'samples' needs an independent CLIP: pass --judge BUNDLE")
    judge, size = settings.judge, clip_size(settings.judge)
    train = load_examples(settings, "train", model=judge, size=size)
    held_out = load_examples(
        settings, settings.splits[-1], model=judge, size=size, limit=settings.limit
    )
    chosen, prompts = choose_prompts(train, settings.prompts, settings.seed)
    images = api.sample(
        model,
        prompts,
        key=root_key(settings.seed),
        num=1,
        size=settings.sample_size,
        progress=settings.report,
    )
    small = resized(np.asarray(images), size)
    return sample_figures(
        (embed_images(judge, small, settings.report), small),
        chosen,
        (embed_images(judge, held_out.images, settings.report), held_out),
        (embed_images(judge, train.images, settings.report), train),
    )
