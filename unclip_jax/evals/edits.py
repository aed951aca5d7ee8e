"""Do text diffs move the decoded image toward the text? Measured with a CLIP.

Held-out images are edited toward the caption of an image of another concept, with theta rising to
0.5. The metrics are the cosine of the decoded image with that caption at each theta, and its rise
from one theta to the next. Use an independently trained CLIP (`--eval-clip`); without one the
bundle's own CLIP is used, in whose space the edit was made, and the names say "own_clip".
"""

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image

from unclip_jax import api
from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.prng import root_key
from unclip_jax.core.rendering import Strip, labeled_strips
from unclip_jax.evals import metrics
from unclip_jax.evals.examples import load_splits, main_captions, resized
from unclip_jax.evals.metrics import Metric
from unclip_jax.evals.outputs import EDITS_GRID
from unclip_jax.evals.settings import Settings
from unclip_jax.sampling.manipulate import edit_thetas
from unclip_jax.sampling.settings import decoder_size

THETAS = 6
MAX_THETA = 0.5
DUMMY = "a picture"
LEVELS = 40  # of the inversion, whose fidelity is not measured here
DEFAULT_LIMIT = 32
SHOWN = 6  # edits in the grid


def edits(model: Bundle, settings: Settings) -> dict[str, Metric]:
    """Edits held-out images from their caption, from a dummy caption and from no source."""
    clip = settings.clip(settings.eval_clip or model)
    scorer = "eval_clip" if settings.eval_clip else "own_clip"
    size = decoder_size(model)
    limit = settings.limit or DEFAULT_LIMIT
    seen = max(size, settings.clip(model).image_size)
    examples = load_splits(settings, settings.splits, model=model, size=seen, limit=limit)
    captions = main_captions(examples)
    swap = metrics.derangement(examples.concepts, seed=settings.seed)
    targets = [captions[i] for i in swap]
    target_emb = clip.captions(targets)
    sources = {"caption": captions, "dummy": DUMMY, "nothing": None}
    results = {}
    for name, source in sources.items():
        edited = api.edit(
            model,
            examples.images,
            targets,
            source=source,
            key=root_key(settings.seed),
            frames=THETAS,
            max_theta=MAX_THETA,
            **{"invert_steps": LEVELS, **settings.inverting},
            size=size,
            progress=settings.report,
        )
        if settings.image_folder is not None and name == "caption":
            grid = edits_grid(np.asarray(edited), captions, targets)
            grid.save(settings.image_folder / EDITS_GRID)
        emb = clip.images(resized(edited, clip.image_size))
        rows = np.repeat(target_emb, THETAS, axis=0)
        cosine = metrics.cosine(emb, rows).reshape(-1, THETAS)
        groups = np.asarray(examples.concepts)
        results |= theta_metrics(f"from_{name}/{scorer}", cosine, groups)
    return results


def edits_grid(
    edited: UInt8[np.ndarray, "m s s 3"], captions: list[str], targets: list[str]
) -> Image.Image:
    """Returns a strip of an image's frames, with rising theta, for the first few edits."""
    frames = edited.reshape(len(captions), -1, *edited.shape[1:])[:SHOWN]
    labels = [f"theta {theta:.1f}" for theta in edit_thetas(frames.shape[1], MAX_THETA)]
    titles = [f"{a} -> {b}" for a, b in zip(captions, targets, strict=True)]
    return labeled_strips(
        [Strip(title, list(row), labels) for title, row in zip(titles, frames, strict=False)]
    )


def theta_metrics(
    prefix: str, cosine: Float[np.ndarray, "n thetas"], groups: Shaped[np.ndarray, " n"]
) -> dict[str, Metric]:
    """Returns the mean cosine at each theta, and its rise over the theta before it."""
    thetas = edit_thetas(cosine.shape[1], MAX_THETA)
    results = {}
    for column, theta in enumerate(thetas):
        results[f"{prefix}_cosine_{theta:.1f}"] = metrics.mean_metric(
            cosine[:, column], groups=groups
        )
    for column, theta in enumerate(thetas[1:], 1):
        rise = cosine[:, column] - cosine[:, column - 1]
        results[f"{prefix}_rise_to_{theta:.1f}"] = metrics.mean_metric(
            rise, groups=groups, baseline=0.0
        )
    return results
