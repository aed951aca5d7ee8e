"""What the decoder makes of each source of z_i: figures, and the paper's comparison as a picture.

The sources are those of unCLIP's figure 8, caption only and z_t as z_i, and every prior of the
bundle. The CLIP that judges the pictures is `--judge`'s, else the bundle's own, which has seen the
embeddings that it judges: an independent one is the better witness.
"""

import numpy as np
from jaxtyping import UInt8

from unclip_jax import api
from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.prng import root_key
from unclip_jax.core.rendering import labelled_grid
from unclip_jax.evals import metrics
from unclip_jax.evals.examples import Examples, main_captions, resized
from unclip_jax.evals.gaussians import frechet_distance
from unclip_jax.evals.metrics import Figure
from unclip_jax.evals.outputs import PRIORS_GRID
from unclip_jax.evals.retrieval import clip_size, embed_captions, embed_images
from unclip_jax.evals.settings import Settings
from unclip_jax.sampling.settings import decoder_size

LABELS = {
    "none": "caption only",
    "text": "z_t as z_i",
    "diffusion": "diffusion prior",
    "ar": "autoregressive prior",
}
COLUMNS = 8


def decoded_figures(model: Bundle, examples: Examples, settings: Settings) -> dict[str, Figure]:
    """Decodes held-out captions from every source; also writes PRIORS_GRID if a folder is given.

    Returns for each source `clip_score` (cosine of picture and caption, its floor that of another
    caption), `cosine_true` (with the true picture) and `frechet` (distance to the true pictures).
    """
    judge = settings.judge or model
    size = clip_size(judge)
    examples = random_subset(examples, settings.prompts, settings.seed)
    rows = len(examples)
    captions = main_captions(examples)
    text_emb = embed_captions(judge, captions, settings.report)
    true = embed_images(judge, resized(examples.images, size), settings.report)
    groups = np.asarray(examples.concepts)
    swap = metrics.derangement(examples.concepts, seed=settings.seed)
    figures, made = {}, {}
    for source in sources(model):
        made[source] = api.sample(
            model,
            captions,
            key=root_key(settings.seed),
            prior=source,
            size=settings.sample_size or decoder_size(model),
            progress=settings.report,
        )
        emb = embed_images(judge, resized(np.asarray(made[source]), size), settings.report)
        floor = float(metrics.cosine(emb, text_emb[swap]).mean())
        score = metrics.cosine(emb, text_emb)
        figures[f"{source}/clip_score"] = metrics.mean_figure(score, groups=groups, floor=floor)
        near = metrics.cosine(emb, true)
        figures[f"{source}/cosine_true"] = metrics.mean_figure(near, groups=groups)
        figures[f"{source}/frechet"] = Figure(frechet_distance(emb, true), None, None, rows)
    if settings.pictures is not None:
        side = next(iter(made.values())).shape[1]
        grid = compared(made, resized(examples.images, side))
        grid.save(settings.pictures / PRIORS_GRID)
    return figures


def random_subset(examples: Examples, count: int, seed: int) -> Examples:
    """Draws at most `count` examples, kept in order; the first of a sorted set are no sample."""
    if count >= len(examples):
        return examples
    return examples.take(np.sort(np.random.default_rng(seed).permutation(len(examples))[:count]))


def sources(model: Bundle) -> list[str]:
    """Lists where z_i may come from in a bundle, the baselines first."""
    return ["none", "text", *(p for p in ("diffusion", "ar") if f"prior_{p}" in model.stages)]


def compared(made: dict[str, UInt8[np.ndarray, "n s s 3"]], true: UInt8[np.ndarray, "n s s 3"]):
    """Returns a labelled grid: a row a source, a column a caption, the true pictures last."""
    rows = [list(images[:COLUMNS]) for images in made.values()] + [list(true[:COLUMNS])]
    return labelled_grid(rows, [*(LABELS[source] for source in made), "true picture"])
