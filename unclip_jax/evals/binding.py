"""Do colors stay with their forms? By a ground truth that is known, without a network.

Captions of two objects are drawn and read back (shape_reader.py). Measured are: both objects there
with their own colors (bound), with each other's (swapped), the right number of them, and where they
are. Pairs of color and form that were trained on ("seen") are apart from held-out ones: of those
every swap is a pair of the training set, so that a model that keeps to what it knows swaps too. The
same for real images that are encoded and decoded from z_i alone: what the embedding keeps
of the binding (the paper's figures 14 and 15). With `--baseline` another bundle draws the same
captions, and the differences are paired.
"""

import numpy as np
from jaxtyping import Float
from PIL import Image

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.rendering import labeled_grid
from unclip_jax.evals.metrics import Metric
from unclip_jax.evals.outputs import BINDING_GRID
from unclip_jax.evals.scene_prompts import (
    GROUPS,
    MODEL,
    Images,
    Prompts,
    compared,
    draw_all,
    reconstructed,
    scene_prompts,
    training_costs,
)
from unclip_jax.evals.settings import Settings
from unclip_jax.evals.shape_reader import judge_scene, read_scene

RECIPE = "objects by color and form, read from the pixels"
RECONSTRUCTION = "reconstruction"
SHOWN = 10  # captions of the grid


def binding(model: Bundle, settings: Settings) -> dict[str, Metric]:
    """Draws captions of two objects, of seen pairs and of unseen ones, and reads them back."""
    results, shown = {}, None
    for group in GROUPS:
        prompts = scene_prompts(settings, "binding", group, objects=2)
        drawn = draw_all(model, prompts.captions, prompts.images, settings)
        if model.sampling.prior != "none" and model.clip.spec.model.vision is not None:
            drawn[RECONSTRUCTION] = reconstructed(model, prompts.images, settings)
        scores = {way: verdicts(images, prompts) for way, images in drawn.items()}
        reference = f"{settings.data}, {len(prompts.captions)} captions of two {group} objects"
        label = f"{group}/{{}}/{{}}".format
        results |= compared(scores, label, RECIPE, reference, prompts.groups)
        shown = shown or binding_grid(prompts.captions, drawn)
    if settings.image_folder is not None:
        shown.save(settings.image_folder / BINDING_GRID)
    return results | training_costs(model, settings)


def verdicts(images: Images, prompts: Prompts) -> dict[str, Float[np.ndarray, " n"]]:
    """Returns 0 or 1 for each caption and question.

    "related" is NaN unless the pair is bound, "swapped" where both have one color or one form.
    """
    found = [
        judge_scene(wanted, read_scene(image), where)
        for image, wanted, where in zip(images, prompts.wanted, prompts.relations, strict=True)
    ]
    names = ("bound", "swapped", "count", "colors", "forms", "related")
    values = {name: [getattr(verdict, name) for verdict in found] for name in names}
    return {
        name: np.asarray([np.nan if v is None else float(v) for v in column])
        for name, column in values.items()
    }


def binding_grid(captions: list[str], drawn: dict[str, Images]) -> Image.Image:
    """Draws the first captions, a row each of every way to draw."""
    ways = sorted(drawn, key=lambda way: way != MODEL)
    rows = [[drawn[way][i] for way in ways] for i in range(min(SHOWN, len(captions)))]
    labels = [f"{caption}: {', '.join(ways)}" for caption in captions[: len(rows)]]
    return labeled_grid(rows, labels, columns=len(ways))
