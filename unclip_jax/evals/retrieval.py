"""Text-to-image retrieval by a CLIP.

A query is a caption with its concept. The gallery is all pictures of the split. A hit is a picture
of the same concept and, when the caption names it, of the same style.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, UInt8

from unclip_jax import api
from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.errors import UserError
from unclip_jax.evals import metrics
from unclip_jax.evals.examples import Examples, load_examples, names_style
from unclip_jax.evals.metrics import Figure
from unclip_jax.evals.settings import Settings, starts
from unclip_jax.sampling.runner import Progress

RANKS = (1, 5)
CAPTIONS, IMAGES = 512, 1024  # a call; more would only take memory


@dataclasses.dataclass(frozen=True)
class Query:
    """A caption, what it is of, and the style it names (empty: any)."""

    caption: str
    concept: str
    style: str


def make_queries(examples: Examples) -> list[Query]:
    """Lists the different queries of a split, in the order of its pictures."""
    rows = zip(examples.captions, examples.concepts, examples.styles, strict=True)
    return list(
        dict.fromkeys(
            Query(caption, concept, style if names_style(caption, style) else "")
            for captions, concept, style in rows
            for caption in captions
        )
    )


def relevance(queries: list[Query], examples: Examples) -> Bool[np.ndarray, "q g"]:
    """Tells which pictures are hits of which queries."""
    concepts, styles = np.asarray(examples.concepts), np.asarray(examples.styles)
    rows = [(concepts == q.concept) & ((styles == q.style) | (q.style == "")) for q in queries]
    return np.stack(rows)


def retrieval_figures(
    queries: list[Query],
    examples: Examples,
    text_emb: Float[np.ndarray, "q d"],
    image_emb: Float[np.ndarray, "g d"],
) -> dict[str, Figure]:
    """Returns recall at 1 and 5 over all queries, and over those that name a style."""
    scores, relevant = metrics.similarity(text_emb, image_emb), relevance(queries, examples)
    concepts = np.asarray([q.concept for q in queries])
    styled = np.asarray([q.style != "" for q in queries])
    subsets = {"": np.ones(len(queries), bool), "_styled": styled, "_plain": ~styled}
    figures = {}
    for suffix, rows in subsets.items():
        if not rows.any():
            continue
        for k in RANKS:
            figures[f"recall_at_{k}{suffix}"] = metrics.mean_figure(
                metrics.hits_at(scores[rows], relevant[rows], k),
                groups=concepts[rows],
                floor=metrics.chance_at(relevant[rows], k),
            )
    return figures


def clip_size(model: Bundle) -> int:
    """Returns the pixels of the pictures that the bundle's CLIP sees."""
    vision = model.stage("clip").spec.model.vision
    if vision is None:
        raise UserError(f"the CLIP of bundle {model.name!r} has no image tower")
    return vision.image_size


def embed_images(
    model: Bundle, images: UInt8[np.ndarray, "n h w 3"], report: Progress | None = None
) -> Float[np.ndarray, "n d"]:
    """Returns the raw CLIP embeddings of images of one shape."""
    parts = [
        api.embed_image(model, images[start : start + IMAGES])
        for start in starts(len(images), IMAGES, "embedding images", report)
    ]
    return np.concatenate(parts)


def embed_captions(
    model: Bundle, captions: list[str], report: Progress | None = None
) -> Float[np.ndarray, "n d"]:
    """Returns the raw CLIP embeddings of all captions, dropping their states on the way."""
    parts = [
        np.asarray(api.embed_text(model, captions[start : start + CAPTIONS]).text_emb)
        for start in starts(len(captions), CAPTIONS, "embedding captions", report)
    ]
    return np.concatenate(parts)


def retrieval(model: Bundle, settings: Settings) -> dict[str, Figure]:
    """Measures the bundle's CLIP on the held-out splits."""
    figures = {}
    for split in settings.splits:
        examples = load_examples(
            settings, split, model=model, size=clip_size(model), limit=settings.limit
        )
        queries = make_queries(examples)
        text_emb = embed_captions(model, [q.caption for q in queries], settings.report)
        image_emb = embed_images(model, examples.images, settings.report)
        found = retrieval_figures(queries, examples, text_emb, image_emb)
        figures |= {f"{split}/{name}": figure for name, figure in found.items()}
    return figures
