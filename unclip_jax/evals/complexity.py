"""How many objects can a caption name? Scenes of one to six, read back without a network.

The form of the paper's figure 17: the more a scene holds, the less of it is drawn. Measured for
each number of objects: the share of the named objects that are there with their color and form, and
the share of images that show all of them and nothing else. The pairs of color and form are those of
the training set, the scenes are not.
"""

from collections import Counter

import numpy as np
from jaxtyping import Float
from PIL import Image

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.rendering import labeled_grid
from unclip_jax.data.sets.scenes import MOST
from unclip_jax.evals.binding import RECIPE
from unclip_jax.evals.metrics import Metric
from unclip_jax.evals.outputs import COMPLEXITY_GRID
from unclip_jax.evals.scene_prompts import (
    NOT_DRAWN,
    Images,
    Prompts,
    compared,
    draw_all,
    scene_prompts,
    training_costs,
)
from unclip_jax.evals.settings import Settings
from unclip_jax.evals.shape_reader import read_scene

SHOWN = 2  # captions of the grid for each number of objects


def complexity(model: Bundle, settings: Settings) -> dict[str, Metric]:
    """Draws captions of 1 to 6 seen objects, `settings.prompts` of each number."""
    results, rows, labels = {}, [], []
    for number in range(1, MOST + 1):
        prompts = scene_prompts(settings, "complexity", "seen", objects=number)
        drawn = draw_all(model, prompts.captions, prompts.images, settings)
        scores = {way: shares(images, prompts) for way, images in drawn.items()}
        reference = f"{settings.data}, {len(prompts.captions)} captions of each number"
        label = f"{{}}/{{}}_{number}".format
        results |= compared(scores, label, RECIPE, reference, prompts.groups)
        ways = [way for way in drawn if way not in NOT_DRAWN]
        for i, caption in enumerate(prompts.captions[:SHOWN]):
            rows.append([drawn[way][i] for way in ways])
            labels.append(f"{caption}: {', '.join(ways)}")
    if settings.image_folder is not None:
        grid: Image.Image = labeled_grid(rows, labels, columns=len(rows[0]))
        grid.save(settings.image_folder / COMPLEXITY_GRID)
    return results | training_costs(model, settings)


def shares(images: Images, prompts: Prompts) -> dict[str, Float[np.ndarray, " n"]]:
    """Returns for each caption the share of its objects that are there, and whether all are.

    An object that is named once counts once, however often it is drawn.
    """
    objects, whole = np.zeros(len(images)), np.zeros(len(images))
    for row, (image, wanted) in enumerate(zip(images, prompts.wanted, strict=True)):
        seen = Counter((one.color, one.form) for one in read_scene(image))
        objects[row] = (Counter(wanted) & seen).total() / len(wanted)
        whole[row] = Counter(wanted) == seen
    return {"objects": objects, "scenes": whole}
