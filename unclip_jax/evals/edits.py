"""Do text diffs move the decoded picture toward the text? A CLIP is asked.

Held-out pictures are edited toward the caption of a picture of another concept, theta rising to a
half. The figure is the judge's cosine of the decoded picture to that caption at each theta, and its
rise from one theta to the next. A judge trained independently (`--judge`) is evidence; without one
the bundle's own CLIP stands in, whose space the edit was made in, and the names say "own_clip".
"""

import numpy as np

from unclip_jax import api
from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.prng import root_key
from unclip_jax.evals import metrics
from unclip_jax.evals.examples import load_splits, main_captions, resized
from unclip_jax.evals.metrics import Figure
from unclip_jax.evals.retrieval import clip_size, embed_images
from unclip_jax.evals.settings import Settings
from unclip_jax.sampling.manipulate import edit_thetas
from unclip_jax.sampling.settings import decoder_size

THETAS = 6
MAX_THETA = 0.5
DUMMY = "a picture"
LEVELS = 40  # of the inversion; what is asked is not how faithful it is
DEFAULT_LIMIT = 32


def edits(model: Bundle, settings: Settings) -> dict[str, Figure]:
    """Edits held-out pictures from their caption, from a dummy and from nothing."""
    judge = settings.judge or model
    who = "judge" if settings.judge else "own_clip"
    size = decoder_size(model)
    limit = settings.limit or DEFAULT_LIMIT
    examples = load_splits(
        settings, settings.splits, model=model, size=max(size, clip_size(model)), limit=limit
    )
    captions = main_captions(examples)
    swap = metrics.derangement(examples.concepts, seed=settings.seed)
    targets = [captions[i] for i in swap]
    target_emb = api.embed_text(judge, targets).text_emb
    sources = {"caption": captions, "dummy": DUMMY, "nothing": None}
    figures = {}
    for name, source in sources.items():
        made = api.edit(
            model,
            examples.images,
            targets,
            source=source,
            key=root_key(settings.seed),
            frames=THETAS,
            max_theta=MAX_THETA,
            invert_steps=LEVELS,
            size=size,
            progress=settings.report,
        )
        emb = embed_images(judge, resized(made, clip_size(judge)), settings.report)
        rows = np.repeat(target_emb, THETAS, axis=0)
        cosine = metrics.cosine(emb, rows).reshape(-1, THETAS)
        figures |= theta_figures(f"from_{name}/{who}", cosine)
    return figures


def theta_figures(prefix: str, cosine: np.ndarray) -> dict[str, Figure]:
    """Returns the mean cosine at each theta, and its rise; `cosine` is [n, thetas]."""
    thetas = edit_thetas(cosine.shape[1], MAX_THETA)
    figures = {}
    for column, theta in enumerate(thetas):
        figures[f"{prefix}_cosine_{theta:.1f}"] = metrics.mean_figure(cosine[:, column])
    for column, theta in enumerate(thetas[1:], 1):
        rise = cosine[:, column] - cosine[:, column - 1]
        figures[f"{prefix}_rise_to_{theta:.1f}"] = metrics.mean_figure(rise, floor=0.0)
    return figures
