"""Text-to-image retrieval by a CLIP.

A query is a caption together with its concept. The gallery is all images of the split. A hit is an
image of the same concept and, when the caption names a style, of the same style.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.evals import metrics
from unclip_jax.evals.examples import Examples, load_examples, names_style
from unclip_jax.evals.metrics import Metric
from unclip_jax.evals.settings import Settings

RANKS = (1, 5)


@dataclasses.dataclass(frozen=True)
class Query:
    """A caption, its concept, and the style it names (empty: any)."""

    caption: str
    concept: str
    style: str


def make_queries(examples: Examples) -> list[Query]:
    """Lists the distinct queries of a split, in the order of its images."""
    rows = zip(examples.captions, examples.concepts, examples.styles, strict=True)
    return list(
        dict.fromkeys(
            Query(caption, concept, style if names_style(caption, style) else "")
            for captions, concept, style in rows
            for caption in captions
        )
    )


def relevance(queries: list[Query], examples: Examples) -> Bool[np.ndarray, "q g"]:
    """Returns which images are hits of which queries."""
    concepts, styles = np.asarray(examples.concepts), np.asarray(examples.styles)
    rows = [(concepts == q.concept) & ((styles == q.style) | (q.style == "")) for q in queries]
    return np.stack(rows)


def retrieval_metrics(
    queries: list[Query],
    examples: Examples,
    text_emb: Float[np.ndarray, "q d"],
    image_emb: Float[np.ndarray, "g d"],
) -> dict[str, Metric]:
    """Returns recall at 1 and 5 over all queries, and over those that name a style or do not."""
    scores, relevant = metrics.similarity(text_emb, image_emb), relevance(queries, examples)
    concepts = np.asarray([q.concept for q in queries])
    styled = np.asarray([q.style != "" for q in queries])
    subsets = {"": np.ones(len(queries), bool), "_styled": styled, "_plain": ~styled}
    results = {}
    for suffix, rows in subsets.items():
        if not rows.any():
            continue
        for k in RANKS:
            results[f"recall_at_{k}{suffix}"] = metrics.mean_metric(
                metrics.hits_at(scores[rows], relevant[rows], k),
                groups=concepts[rows],
                baseline=metrics.chance_at(relevant[rows], k),
            )
    return results


def retrieval(model: Bundle, settings: Settings) -> dict[str, Metric]:
    """Measures the bundle's CLIP on the held-out splits."""
    clip, results = settings.clip(model), {}
    for split in settings.splits:
        examples = load_examples(
            settings, split, model=model, size=clip.image_size, limit=settings.limit
        )
        queries = make_queries(examples)
        text_emb = clip.captions([q.caption for q in queries])
        image_emb = clip.images(examples.images)
        found = retrieval_metrics(queries, examples, text_emb, image_emb)
        results |= {f"{split}/{name}": metric for name, metric in found.items()}
    return results
