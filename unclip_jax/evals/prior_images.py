"""Decoded images of every source of z_i: their metrics, and a comparison grid.

The sources are those of unCLIP's figure 8, caption only and z_t as z_i, and every prior of the
bundle. The images are scored by the CLIP of `--eval-clip`, else by the bundle's own, which is
biased: it has seen the embeddings that it scores.
"""

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from unclip_jax import api
from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.prng import root_key
from unclip_jax.core.rendering import labeled_grid
from unclip_jax.evals import metrics
from unclip_jax.evals.clip_encoder import ClipEncoder
from unclip_jax.evals.comparison import LEAST_FRECHET, unit_frechet_metric
from unclip_jax.evals.examples import Examples, load_examples, main_captions, resized
from unclip_jax.evals.metrics import Metric
from unclip_jax.evals.outputs import PRIORS_GRID
from unclip_jax.evals.settings import Settings
from unclip_jax.models.stages import PRIORS
from unclip_jax.sampling.settings import decoder_size

LABELS = {
    "none": "caption only",
    "text": "z_t as z_i",
    "diffusion": "diffusion prior",
    "ar": "autoregressive prior",
}
COLUMNS = 8


def decoded_metrics(model: Bundle, examples: Examples, settings: Settings) -> dict[str, Metric]:
    """Decodes held-out captions from every source; also writes PRIORS_GRID if a folder is given.

    Returns:
        For each source `cosine_caption` (of image and caption; its baseline is that of another
        example's caption), `cosine_true` (with the true image) and, of enough images, `frechet`
        (distance to the true images; its baseline is that of as many training images).
    """
    clip = settings.clip(settings.eval_clip or model)
    examples = random_subset(examples, settings.prompts, settings.seed)
    captions = main_captions(examples)
    text_emb = clip.captions(captions)
    true = clip.images(resized(examples.images, clip.image_size))
    groups = np.asarray(examples.concepts)
    swap = metrics.derangement(examples.concepts, seed=settings.seed)
    train = training_embeddings(model, examples, clip, settings)
    results, decoded = {}, {}
    for source in sources(model):
        decoded[source] = api.sample(
            model,
            captions,
            key=root_key(settings.seed),
            prior=source,
            size=settings.sample_size or decoder_size(model),
            progress=settings.report,
        )
        emb = clip.images(resized(np.asarray(decoded[source]), clip.image_size))
        swapped = float(metrics.cosine(emb, text_emb[swap]).mean())
        score, near = metrics.cosine(emb, text_emb), metrics.cosine(emb, true)
        results |= {
            f"{source}/cosine_caption": metrics.mean_metric(score, groups=groups, baseline=swapped),
            f"{source}/cosine_true": metrics.mean_metric(near, groups=groups),
        }
        if train is not None:
            results[f"{source}/frechet"] = unit_frechet_metric(emb, true, train, groups)
    if settings.image_folder is not None:
        side = next(iter(decoded.values())).shape[1]
        grid = comparison_grid(decoded, resized(examples.images, side))
        grid.save(settings.image_folder / PRIORS_GRID)
    return results


def training_embeddings(
    model: Bundle, examples: Examples, clip: ClipEncoder, settings: Settings
) -> Float[np.ndarray, "n d"] | None:
    """Embeds as many training images as there are examples; None: too few for a distance."""
    if len(examples) < LEAST_FRECHET:
        return None
    size = examples.images.shape[1]
    train = load_examples(settings, "train", model=model, size=size, limit=len(examples))
    return clip.images(resized(train.images, clip.image_size))


def random_subset(examples: Examples, count: int, seed: int) -> Examples:
    """Draws at most `count` examples, in order; the first ones of a sorted set are not a sample."""
    if count >= len(examples):
        return examples
    return examples.take(np.sort(np.random.default_rng(seed).permutation(len(examples))[:count]))


def sources(model: Bundle) -> list[str]:
    """Lists the sources of z_i that a bundle has, the paper's baselines first."""
    return ["none", "text", *(name for name, stage in PRIORS.items() if stage in model.stages)]


def comparison_grid(
    decoded: dict[str, UInt8[np.ndarray, "n s s 3"]], true: UInt8[np.ndarray, "n s s 3"]
) -> Image.Image:
    """Returns a labeled grid: a row per source, a column per caption, the true images last."""
    rows = [list(images[:COLUMNS]) for images in decoded.values()] + [list(true[:COLUMNS])]
    return labeled_grid(rows, [*(LABELS[source] for source in decoded), "true image"])
