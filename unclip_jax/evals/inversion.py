"""How faithfully is an image reconstructed from its bipartite latent (z_i, x_T)?

Held-out images are inverted and decoded again, with several numbers of levels. The metrics are the
PSNR at the decoder's size and the standard deviation of the latents: at 1 they look like the noise
that sampling starts from, which interpolation relies on.
"""

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.prng import image_keys, root_key
from unclip_jax.core.rendering import Strip, labeled_strips
from unclip_jax.evals import metrics
from unclip_jax.evals.examples import load_splits, main_captions
from unclip_jax.evals.metrics import Metric
from unclip_jax.evals.outputs import INVERSION_GRID
from unclip_jax.evals.settings import Settings
from unclip_jax.sampling import latents, manipulate
from unclip_jax.sampling.monitor import Monitor
from unclip_jax.sampling.settings import decoder_size

LEVELS = (10, 20, 40, 100, 250)
SMOKE_LEVELS = (3, 4)
DEFAULT_LIMIT = 32
SHOWN = 6  # images in the grid
TARGET_PSNR = 25.0  # dB; the project's target


def inversion(model: Bundle, settings: Settings) -> dict[str, Metric]:
    """Measures inversion followed by decoding on held-out images."""
    limit = settings.limit or DEFAULT_LIMIT
    size = decoder_size(model)
    seen = max(size, settings.clip(model).image_size)
    examples = load_splits(settings, settings.splits, model=model, size=seen, limit=limit)
    true = latents.squares(examples.images, size, latents.image_fit(model))
    keys = image_keys(root_key(settings.seed), range(len(examples)), [0] * len(examples))
    groups = np.asarray(examples.concepts)
    results, images = {}, {"held-out image": true[:SHOWN]}
    for count in SMOKE_LEVELS if settings.smoke else LEVELS:
        chosen = latents.LatentSettings(size=size, invert_steps=count)
        plan = latents.resolve_latents(model, chosen)
        monitor = Monitor(settings.report)
        latent = manipulate.encode(model, examples.images, plan, monitor)
        rebuilt = latents.decode(
            model, latent.image_emb, keys, plan, latent=latent.latent, monitor=monitor
        )
        psnr = metrics.psnr(rebuilt, true)
        images[f"{count} levels"] = rebuilt[:SHOWN]
        results[f"psnr_{count}"] = metrics.mean_metric(psnr, groups=groups, baseline=TARGET_PSNR)
        deviation = latent.latent.std(axis=(1, 2, 3))
        results[f"latent_std_{count}"] = metrics.mean_metric(deviation, groups=groups)
    if settings.image_folder is not None:
        grid = inversion_grid(images, main_captions(examples)[:SHOWN])
        grid.save(settings.image_folder / INVERSION_GRID)
    return results


def inversion_grid(
    images: dict[str, UInt8[np.ndarray, "n s s 3"]], captions: list[str]
) -> Image.Image:
    """Returns a strip per image: the image itself, then what each number of levels makes of it.

    Args:
        images: the true ones first, then the rebuilt ones, by label.
    """
    true, *rebuilt = images.values()
    labels = [[f"{label}, {v:.1f} dB" for v in metrics.psnr(found, true)]
              for label, found in list(images.items())[1:]]  # fmt: skip
    strips = []
    for row, caption in enumerate(captions):
        names = [next(iter(images)), *(values[row] for values in labels)]
        strips.append(Strip(caption, [true[row], *(found[row] for found in rebuilt)], names))
    return labeled_strips(strips)
