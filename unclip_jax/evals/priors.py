"""How near the prior's image embeddings come to the true ones, on captions it never saw.

Every number is a cosine with the true embedding z_i of the captioned picture. The baselines are
what a prior must beat to be worth its parameters: the mean embedding of the training pictures, the
embedding of the picture with the nearest training caption, and the caption's own z_t taken as z_i.
"""

import dataclasses

import jax
import numpy as np
from jaxtyping import Float

from unclip_jax import api
from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.prng import root_key
from unclip_jax.core.types import Cond
from unclip_jax.evals import metrics
from unclip_jax.evals.examples import Examples, load_examples, main_captions
from unclip_jax.evals.metrics import Figure
from unclip_jax.evals.retrieval import clip_size, embed_captions, embed_images
from unclip_jax.evals.settings import Settings


@dataclasses.dataclass(frozen=True)
class Embedded:
    """A split with one caption a picture, and the embeddings of both."""

    examples: Examples
    captions: list[str]
    image_emb: Float[np.ndarray, "n d"]
    text_emb: Float[np.ndarray, "n d"]


def embed_split(model: Bundle, split: str, settings: Settings, limit: int | None) -> Embedded:
    """Loads a split and embeds its pictures and main captions with the bundle's CLIP."""
    examples = load_examples(settings, split, size=clip_size(model), limit=limit)
    captions = main_captions(examples)
    return Embedded(
        examples=examples,
        captions=captions,
        image_emb=embed_images(model, examples.images),
        text_emb=embed_captions(model, captions),
    )


def sample_prior(
    model: Bundle, captions: list[str], settings: Settings
) -> Float[np.ndarray, "n d"]:
    """Draws an image embedding for each caption with the bundle's settings, as `sample` does."""
    parts = []
    for start in range(0, len(captions), settings.batch):
        rows = np.minimum(np.arange(start, start + settings.batch), len(captions) - 1)
        key = jax.random.fold_in(root_key(settings.seed), start)
        text = api.embed_text(model, [captions[i] for i in rows])
        drawn = api.run_stage(model, "prior", Cond(text=text), key=key)
        parts.append(drawn[: len(captions) - start])
    return np.concatenate(parts)


def prior_figures(
    predicted: Float[np.ndarray, "n d"], held_out: Embedded, training: Embedded, seed: int
) -> dict[str, Figure]:
    """Compares the prior's embeddings and the baselines with the true ones.

    Returns:
        `cosine` with the best baseline as its floor, each baseline's own cosine, and `over_X`: the
        paired difference to baseline X, whose floor is 0 (beaten when its interval is above it).
    """
    true = held_out.image_emb
    swap = metrics.derangement(held_out.examples.concepts, seed=seed)
    mean = metrics.normalise(training.image_emb).mean(axis=0, keepdims=True)
    nearest, _ = metrics.nearest(held_out.text_emb, training.text_emb)
    baselines = {
        "unrelated_caption": metrics.cosine(predicted[swap], true),
        "mean_embedding": metrics.cosine(np.repeat(mean, len(true), axis=0), true),
        "nearest_caption": metrics.cosine(training.image_emb[nearest], true),
        "text_embedding": metrics.cosine(held_out.text_emb, true),
    }
    groups = np.asarray(held_out.examples.concepts)
    own = metrics.cosine(predicted, true)
    best = max(float(values.mean()) for values in baselines.values())
    figures = {"cosine": metrics.mean_figure(own, groups=groups, floor=best)}
    for name, values in baselines.items():
        figures[f"cosine_{name}"] = metrics.mean_figure(values, groups=groups)
        figures[f"over_{name}"] = metrics.mean_figure(own - values, groups=groups, floor=0.0)
    return figures


def priors(model: Bundle, settings: Settings) -> dict[str, Figure]:
    """Measures the bundle's default prior on the held-out splits."""
    training = embed_split(model, "train", settings, limit=None)
    figures = {}
    for split in settings.splits:
        held_out = embed_split(model, split, settings, settings.limit)
        predicted = sample_prior(model, held_out.captions, settings)
        found = prior_figures(predicted, held_out, training, settings.seed)
        figures |= {f"{split}/{name}": figure for name, figure in found.items()}
    return figures
