"""Does the decoder keep what an image shows? What is asked of GAN inversion (unCLIP §3.1, §4).

Held-out images are encoded and decoded in two ways. The inversion keeps the whole bipartite latent
(z_i, x_T) and should rebuild the image. A variation keeps z_i alone and starts from fresh noise: it
shows what the embedding holds. The evaluation CLIP tells how similar each is to its source, and
whether its source is the nearest of the held-out images: its identity.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from unclip_jax.checkpoint.bundle import Bundle, require_pca
from unclip_jax.core.prng import image_keys, root_key
from unclip_jax.core.rendering import Strip, labeled_strips
from unclip_jax.evals import metrics
from unclip_jax.evals.examples import Examples, load_splits, main_captions, resized
from unclip_jax.evals.metrics import Metric
from unclip_jax.evals.networks.lpips import LpipsDistance, load_distance
from unclip_jax.evals.outputs import RECONSTRUCTION_GRID
from unclip_jax.evals.settings import Settings
from unclip_jax.sampling import latents, manipulate
from unclip_jax.sampling.latents import LatentPlan, LatentSettings
from unclip_jax.sampling.monitor import Monitor
from unclip_jax.sampling.settings import decoder_size, num_steps

DEFAULT_LIMIT = 64
GALLERY = 1000  # held-out images at most, among which the source is sought
DRAWS = 4  # variations of an image
RANKS = (1, 5)
SHOWN = 6  # images in the grid
COMPONENTS = (2, 4, 8, 16, 32, 64)  # of z_i, in the grid


@dataclasses.dataclass(frozen=True)
class Rebuilt:
    """Images at the decoder's size, and what becomes of them.

    Attributes:
        true: the images as the bundle sees them.
        inverted: decoded from their z_i and x_T.
        varied: decoded from their z_i and fresh noise, DRAWS times.
    """

    true: UInt8[np.ndarray, "n s s 3"]
    inverted: UInt8[np.ndarray, "n s s 3"]
    varied: UInt8[np.ndarray, "n k s s 3"]


def reconstruction(model: Bundle, settings: Settings) -> dict[str, Metric]:
    """Encodes and decodes held-out images, and finds them again by the evaluation CLIP."""
    judge = settings.judge("reconstruction")
    distance = load_distance(settings.lpips) if settings.lpips else None
    invert, fresh = (plan(model, settings, inverted=inverted) for inverted in (True, False))
    seen = max(invert.size, settings.clip(model).image_size)
    gallery = load_splits(settings, settings.splits, model=model, size=seen, limit=GALLERY)
    rows = choose_rows(len(gallery), settings.limit or DEFAULT_LIMIT, settings.seed)
    examples = gallery.take(rows)
    rebuilt = rebuild(model, examples.images, (invert, fresh), settings)
    squares = latents.squares(gallery.images, invert.size, latents.image_fit(model))
    side = judge.image_size
    emb = judge.images(resized(squares, side))
    inverted = judge.images(resized(rebuilt.inverted, side))
    flat = rebuilt.varied.reshape(-1, *rebuilt.true.shape[1:])
    varied = judge.images(resized(flat, side)).reshape(len(rows), DRAWS, -1)
    if settings.image_folder is not None:
        ranks = source_ranks(varied.reshape(-1, varied.shape[-1]), emb, np.repeat(rows, DRAWS))
        parts = components(model, examples.images[:SHOWN], fresh, settings)
        image = grid(rebuilt, main_captions(examples), ranks.reshape(len(rows), DRAWS), parts)
        image.save(settings.image_folder / RECONSTRUCTION_GRID, optimize=True)
    results = pixel_metrics(rebuilt, examples) | identity_metrics(inverted, varied, emb, rows)
    if distance is not None:
        results |= lpips_metrics(rebuilt, examples, distance)
    noise = f"x_T fresh, {num_steps(fresh.decode)} steps, guidance {fresh.decode.guidance}"
    ways = {
        "inversion": f"z_i and x_T of {num_steps(invert.invert)} levels of DDIM",
        "variation": f"z_i kept, {noise}, {DRAWS} draws an image",
    }
    known = f"{len(gallery)} held-out images of {settings.data}"
    return {
        name: dataclasses.replace(
            metric,
            recipe="; ".join(filter(None, (ways[name.split("_")[0]], metric.recipe))),
            reference=known,
        )
        for name, metric in results.items()
    }


def plan(model: Bundle, settings: Settings, *, inverted: bool) -> LatentPlan:
    """Returns how images are decoded: DDIM at the decoder's size, or the size of the settings."""
    size = settings.sample_size or decoder_size(model)
    return latents.resolve_latents(
        model, LatentSettings(size=size, **settings.inverting), inverted=inverted
    )


def choose_rows(total: int, count: int, seed: int) -> Int[np.ndarray, " n"]:
    """Draws at most `count` of the gallery's rows, in order."""
    return np.sort(np.random.default_rng(seed).permutation(total)[:count])


def rebuild(
    model: Bundle,
    images: UInt8[np.ndarray, "n h w 3"],
    plans: tuple[LatentPlan, LatentPlan],
    settings: Settings,
) -> Rebuilt:
    """Inverts and varies images.

    Args:
        plans: from the inverted latent, and from fresh noise.
    """
    invert, fresh = plans
    monitor = Monitor(settings.report)
    source = manipulate.encode(model, images, invert, monitor)
    rows = np.repeat(np.arange(len(images)), DRAWS)
    keys = image_keys(root_key(settings.seed), rows, np.tile(np.arange(DRAWS), len(images)))
    emb, first = source.image_emb, keys[::DRAWS]
    inverted = latents.decode(model, emb, first, invert, latent=source.latent, monitor=monitor)
    varied = latents.decode(model, emb[rows], keys, fresh, monitor=monitor)
    true = latents.squares(images, invert.size, latents.image_fit(model))
    return Rebuilt(true, inverted, varied.reshape(len(images), DRAWS, *varied.shape[1:]))


def pixel_metrics(rebuilt: Rebuilt, examples: Examples) -> dict[str, Metric]:
    """Returns the PSNR of both ways; its baseline is that of an image of another concept."""
    true = rebuilt.true
    other = true[metrics.derangement(examples.concepts)]
    baseline = float(metrics.psnr(other, true).mean())
    draws = [metrics.psnr(rebuilt.varied[:, draw], true) for draw in range(DRAWS)]
    return {
        "inversion_psnr": metrics.mean_metric(
            metrics.psnr(rebuilt.inverted, true), baseline=baseline
        ),
        "variation_psnr": by_source(np.stack(draws, axis=1), baseline),
    }


def lpips_metrics(
    rebuilt: Rebuilt, examples: Examples, distance: LpipsDistance
) -> dict[str, Metric]:
    """Returns the LPIPS of both ways to the source; see `pixel_metrics` for the baseline."""
    true = rebuilt.true
    other = true[metrics.derangement(examples.concepts)]
    baseline = float(distance(other, true).mean())
    draws = [distance(rebuilt.varied[:, draw], true) for draw in range(DRAWS)]
    results = {
        "inversion_lpips": metrics.mean_metric(distance(rebuilt.inverted, true), baseline=baseline),
        "variation_lpips": by_source(np.stack(draws, axis=1), baseline),
    }
    recipe = f"{distance.recipe}, {true.shape[1]} pixels"
    return {name: dataclasses.replace(metric, recipe=recipe) for name, metric in results.items()}


def identity_metrics(
    inverted: Float[np.ndarray, "n d"],
    varied: Float[np.ndarray, "n k d"],
    gallery: Float[np.ndarray, "g d"],
    rows: Int[np.ndarray, " n"],
) -> dict[str, Metric]:
    """Compares embeddings of what was decoded with those of the held-out images.

    Args:
        rows: of each source in the gallery.

    Returns:
        NAME_cosine to the source, whose baseline is the mean cosine of a source to the other
        held-out images, and NAME_top_k: is the source among the k nearest? Its baseline is chance.
    """
    scores = metrics.similarity(gallery[rows], gallery)
    scores[np.arange(len(rows)), rows] = np.nan
    unlike = float(np.nanmean(scores))
    results = {}
    for name, emb in (("inversion", inverted[:, None]), ("variation", varied)):
        draws = emb.shape[1]
        flat, source = emb.reshape(-1, emb.shape[-1]), np.repeat(rows, draws)
        near = metrics.cosine(flat, gallery[source]).reshape(-1, draws)
        results[f"{name}_cosine"] = by_source(near, unlike)
        ranks = source_ranks(flat, gallery, source).reshape(-1, draws)
        for k in RANKS:
            chance = min(1.0, k / len(gallery))
            results[f"{name}_top_{k}"] = by_source(ranks <= k, chance)
    return results


def source_ranks(
    emb: Float[np.ndarray, "m d"], gallery: Float[np.ndarray, "g d"], source: Int[np.ndarray, " m"]
) -> Int[np.ndarray, " m"]:
    """Returns the rank, from 1, of each one's source among the gallery's images."""
    own = source[:, None] == np.arange(len(gallery))[None]
    return metrics.ranks(metrics.similarity(emb, gallery), own)


def by_source(values: np.ndarray, baseline: float) -> Metric:
    """Returns the mean over sources and draws; an image's draws are resampled together."""
    groups = np.repeat(np.arange(len(values)), values.shape[1])
    return metrics.mean_metric(values.reshape(-1), groups=groups, baseline=baseline)


def components(
    model: Bundle, images: UInt8[np.ndarray, "n h w 3"], fresh: LatentPlan, settings: Settings
) -> dict[int, UInt8[np.ndarray, "n s s 3"]]:
    """Decodes images from the first components of z_i, by their number; none without a PCA."""
    if settings.pca is None and model.pca is None:
        return {}
    pca = require_pca(model, settings.pca)
    dims = manipulate.usable_dims(COMPONENTS, pca)
    key, monitor = root_key(settings.seed), Monitor(settings.report)
    made = manipulate.reconstruct(model, images, key, fresh, pca=pca, dims=dims, monitor=monitor)
    made = made.reshape(len(images), len(dims), *made.shape[1:])
    return {count: made[:, column] for column, count in enumerate(dims)}


def grid(
    rebuilt: Rebuilt,
    captions: list[str],
    ranks: Int[np.ndarray, "n k"],
    parts: dict[int, UInt8[np.ndarray, "m s s 3"]],
) -> Image.Image:
    """Returns a strip an image: source, inversion, variations with their rank, components.

    That is the form of the paper's figures 3 and 7.
    """
    quality = metrics.psnr(rebuilt.inverted, rebuilt.true)
    strips = []
    for row, caption in enumerate(captions[:SHOWN]):
        images = [rebuilt.true[row], rebuilt.inverted[row], *rebuilt.varied[row]]
        labels = ["source", f"inversion, {quality[row]:.1f} dB"]
        labels += [f"variation, rank {rank}" for rank in ranks[row]]
        images += [made[row] for made in parts.values()]
        labels += [f"{count} dims" for count in parts]
        strips.append(Strip(caption, images, labels))
    return labeled_strips(strips, columns=12)
