"""Does guidance make images nicer, and at what cost in diversity? (unCLIP §5.5)

A linear probe on the evaluation CLIP's embeddings learns a user's ratings, as the paper's learns
those of AVA. Captions are then drawn at several guidance scales, by the model and by a baseline:
the mean predicted rating, and the recall against training images, in the form of figure 13.
From answers to the page of suite `preference` the paper's photorealism proxy is fitted as well.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image

from unclip_jax import api
from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.errors import UserError
from unclip_jax.core.prng import root_key
from unclip_jax.core.rendering import Strip, labeled_strips
from unclip_jax.evals import metrics, ratings
from unclip_jax.evals.clip_encoder import ClipEncoder
from unclip_jax.evals.comparison import JACKKNIFE
from unclip_jax.evals.distributions import PR_NEIGHBORS, Neighborhoods, neighborhoods
from unclip_jax.evals.examples import load_examples, resized
from unclip_jax.evals.metrics import Metric
from unclip_jax.evals.outputs import AESTHETICS_CURVE, AESTHETICS_GRID
from unclip_jax.evals.preference import choose_captions, judged_pairs
from unclip_jax.evals.ratings import Linear
from unclip_jax.evals.settings import Settings

TRAIN = 2000  # training images that recall is measured against, at most
SHOWN = 8  # of the highest rated samples, and of the lowest
MODEL, BASELINE = "model", "baseline"


@dataclasses.dataclass(frozen=True)
class Batch:
    """What a model drew at a guidance scale, and what the evaluation CLIP makes of it."""

    source: str
    scale: float
    images: UInt8[np.ndarray, "n s s 3"]
    emb: Float[np.ndarray, "n d"]


def aesthetics(model: Bundle, settings: Settings) -> dict[str, Metric]:
    """Fits the probes, then rates the samples of every guidance scale."""
    judge = settings.judge("aesthetics")
    if settings.ratings is None and not settings.answers:
        raise UserError(
            "suite aesthetics learns from people: pass --ratings FILE, a table of images and their "
            "ratings, or --answers of suite preference"
        )
    probes, results = fit_probes(judge, settings)
    captions, concepts = choose_captions(settings)
    if len(captions) <= PR_NEIGHBORS:
        raise UserError(f"recall takes {PR_NEIGHBORS + 1} prompts at least; raise --prompts")
    train = load_examples(
        settings, "train", size=judge.image_size, model=settings.eval_clip, limit=TRAIN
    )
    real = judge.images(train.images)
    sources = {MODEL: model} | ({BASELINE: settings.baseline} if settings.baseline else {})
    batches = [
        draw(name, bundle, scale, captions, judge, settings)
        for name, bundle in sources.items()
        for scale in settings.swept(settings.scales)
    ]
    known = f"{settings.data} train, {len(train)} images"
    results |= sweep_metrics(batches, probes, real, known, np.array(concepts))
    if settings.image_folder is not None:
        first = next(iter(probes))
        scores = [probes[first](batch.emb) for batch in batches]
        image = rated_grid(batches, scores, captions)
        image.save(settings.image_folder / AESTHETICS_GRID, optimize=True)
        plot_tradeoff(settings.image_folder / AESTHETICS_CURVE, results, first)
    return results


def fit_probes(
    judge: ClipEncoder, settings: Settings
) -> tuple[dict[str, Linear], dict[str, Metric]]:
    """Returns the functions that rate an embedding, by name, and how well they do."""
    probes, results = {}, {}
    if settings.ratings is not None:
        rated = ratings.read_ratings(Path(settings.ratings))
        images = ratings.load_rated(rated, judge.bundle, judge.image_size, settings.report)
        probes["rating"], found = rating_probe(judge.images(images), rated.ratings, settings.seed)
        results |= found
    if settings.answers:
        pairs = judged_pairs([Path(file) for file in settings.answers])
        if len(pairs) < ratings.LEAST:
            raise UserError(
                f"the answers hold {len(pairs)} judgements of photorealism; the proxy takes "
                f"{ratings.LEAST} at least"
            )
        preferred, other = (
            judge.images(resized(np.stack(images), judge.image_size))
            for images in ([pair.preferred for pair in pairs], [pair.other for pair in pairs])
        )
        questions = [pair.question for pair in pairs]
        probes["realism"], found = realism_probe(preferred, other, questions)
        results |= found
    return probes, results


def rating_probe(
    emb: Float[np.ndarray, "n d"], true: Float[np.ndarray, " n"], seed: int
) -> tuple[Linear, dict[str, Metric]]:
    """Fits ratings to most of a table's images, and measures the fit on the others."""
    fitted, held = ratings.split_held_out(len(true), seed)
    probe, penalty = ratings.fit_ridge(emb[fitted], true[fitted])
    predicted = probe(emb[held])
    recipe = f"ridge on unit embeddings, penalty {penalty:g}, {len(fitted)} images fitted"
    reference = f"{len(held)} held-out ratings"
    values = {
        "probe/r_squared": ratings.r_squared(true[held], predicted),
        "probe/correlation": ratings.correlation(true[held], predicted),
    }
    return probe, {
        name: Metric(value, None, None, len(held), 0.0, recipe, reference)
        for name, value in values.items()
    }


def realism_probe(
    preferred: Float[np.ndarray, "n d"], other: Float[np.ndarray, "n d"], questions: Sequence[str]
) -> tuple[Linear, dict[str, Metric]]:
    """Fits the photorealism proxy; its accuracy is on questions that the fit has not seen."""
    penalty, margins = ratings.choose_penalty(preferred, other, questions)
    right = metrics.mean_metric(margins > 0, groups=np.asarray(questions), baseline=0.5)
    recipe = f"logistic on differences of unit embeddings, penalty {penalty:g}, cross-validated"
    right = dataclasses.replace(right, recipe=recipe, reference=f"{len(margins)} judgements")
    return ratings.fit_preference(preferred, other, penalty), {"proxy/accuracy": right}


def draw(
    source: str,
    bundle: Bundle,
    scale: float,
    captions: Sequence[str],
    judge: ClipEncoder,
    settings: Settings,
) -> Batch:
    """Draws an image a caption at one guidance scale of the decoder."""
    images = api.sample(
        bundle,
        captions,
        key=root_key(settings.seed),
        guidance=scale,
        prior=settings.prior if source == MODEL else None,
        size=settings.sample_size,
        progress=settings.report,
    )
    images = np.asarray(images)
    return Batch(source, scale, images, judge.images(resized(images, judge.image_size)))


def sweep_metrics(
    batches: Sequence[Batch],
    probes: Mapping[str, Linear],
    real: Float[np.ndarray, "m d"],
    known: str,
    concepts: Shaped[np.ndarray, " n"],
) -> dict[str, Metric]:
    """Returns for each source and scale the mean of every probe, recall and precision.

    Recall and precision are against as many training images as there are samples: the balls of few
    samples among many images are so wide that they hold nearly all. Where the training images are
    not twice more than the neighbors, there are neither.

    Args:
        real: embeddings of training images.
        known: what they are, for the report.
        concepts: of each caption; samples of one concept are resampled together.
    """
    order = np.random.default_rng(0).permutation(len(real))
    count = min(len(batches[0].emb), len(real) // 2)
    compared, apart = real[order[:count]], real[order[count : 2 * count]]
    ceiling = overlap(compared, apart) if count > PR_NEIGHBORS else None
    recipe = (
        f"{PR_NEIGHBORS} neighbors, raw embeddings of the evaluation CLIP, {count} training images"
        "; baseline: as many others"
    )
    results = {}
    for batch in batches:
        at = f"{batch.source}/%s_{batch.scale:g}"
        for name, probe in probes.items():
            metric = metrics.mean_metric(
                probe(batch.emb), groups=concepts, baseline=float(probe(real).mean())
            )
            results[at % name] = dataclasses.replace(
                metric, recipe="mean of the probe; baseline: training images", reference=known
            )
        if ceiling is None:
            continue
        found, left_out = overlap(compared, batch.emb), left_out_overlaps(compared, batch, concepts)
        for name in ("recall", "precision"):
            value, best, low, high = getattr(found, name), getattr(ceiling, name), None, None
            how = recipe
            if left_out:
                values = np.array([getattr(part, name) for part in left_out])
                low, high = metrics.jackknife_interval(value, values)
                how = f"{recipe}; {JACKKNIFE}"
            results[at % name] = Metric(value, low, high, len(batch.emb), best, how, known)
    return results


def left_out_overlaps(
    real: Float[np.ndarray, "m d"], batch: Batch, concepts: Shaped[np.ndarray, " n"]
) -> list[Neighborhoods]:
    """Returns recall and precision without each group of samples; none of too few samples."""
    member = metrics.jackknife_groups(concepts)
    if member is None:
        return []
    return [overlap(real, batch.emb[member != group]) for group in range(metrics.GROUPS)]


def overlap(real: Float[np.ndarray, "m d"], fake: Float[np.ndarray, "n d"]) -> Neighborhoods:
    """Returns precision and recall of raw embeddings."""
    return neighborhoods(real, fake, k_density=PR_NEIGHBORS)


def rated_grid(
    batches: Sequence[Batch], scores: Sequence[Float[np.ndarray, " n"]], captions: Sequence[str]
) -> Image.Image:
    """Returns the highest and the lowest rated samples of each source, with rating and scale.

    A caption is there once, with its highest or its lowest.
    """
    strips = []
    side = min(batch.images.shape[1] for batch in batches)
    for source in dict.fromkeys(batch.source for batch in batches):
        own = [
            (float(score), caption, batch.scale, resized(image[None], side)[0])
            for batch, values in zip(batches, scores, strict=True)
            if batch.source == source
            for score, caption, image in zip(values, captions, batch.images, strict=True)
        ]
        own.sort(key=lambda sample: sample[0])
        # Of one caption the last stays: the highest in rising order.
        best, worst = ({sample[1]: sample for sample in row} for row in (own, own[::-1]))
        highest = sorted(best.values(), key=lambda sample: -sample[0])
        lowest = sorted(worst.values(), key=lambda sample: sample[0])
        for title, part in (("highest", highest[:SHOWN]), ("lowest", lowest[:SHOWN])):
            labels = [f"{s:.2f}, scale {scale:g}: {caption}" for s, caption, scale, _ in part]
            strips.append(Strip(f"{source}, {title} rated", [image[3] for image in part], labels))
    return labeled_strips(strips)


def plot_tradeoff(path: Path, results: Mapping[str, Metric], probe: str) -> None:
    """Writes the mean rating against recall, a point a guidance scale: the form of figure 13."""
    import matplotlib.figure  # slow to import, and only needed here

    figure = matplotlib.figure.Figure(figsize=(5.0, 4.0), layout="constrained")
    ax = figure.subplots()
    curves: dict[str, list[tuple[float, float, str]]] = {}
    for name, metric in results.items():
        source, _, rest = name.partition("/")
        kind, _, scale = rest.rpartition("_")
        if kind == probe and f"{source}/recall_{scale}" in results:
            recall = results[f"{source}/recall_{scale}"].value
            curves.setdefault(source, []).append((recall, metric.value, scale))
    for source, points in curves.items():
        ax.plot([p[0] for p in points], [p[1] for p in points], "o-", markersize=4, label=source)
        for recall, value, scale in points:
            ax.annotate(scale, (recall, value), textcoords="offset points", xytext=(4, 4))
    ax.set_xlabel("recall against training images")
    ax.set_ylabel(f"mean predicted {probe}")
    ax.set_title("guidance scales", fontsize=9)
    ax.grid(alpha=0.3)
    if curves:
        ax.legend(fontsize=8)
    figure.savefig(path, dpi=120)
