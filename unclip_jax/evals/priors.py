"""How close a prior's image embeddings come to the true ones, on held-out captions.

Cosines are taken with the true embedding z_i of the captioned image. The baselines are what a prior
must beat to be worth its parameters: the mean embedding of the training images, the embedding of
the image with the nearest of all training captions, and the caption's own z_t used as z_i.

Metrics of the bundle's default prior have plain names; those of another prior are prefixed with its
name ("ar/cosine"). On the last split, every source of z_i is also decoded (prior_images.py).
"""

import dataclasses
import time

import numpy as np
from jaxtyping import Float, Int

from unclip_jax import api
from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.errors import UserError
from unclip_jax.core.prng import image_keys, root_key
from unclip_jax.core.types import Cond
from unclip_jax.core.vectors import unit64
from unclip_jax.evals import metrics, prior_images
from unclip_jax.evals.comparison import LEAST_FRECHET, unit_frechet_metric
from unclip_jax.evals.distributions import diversity
from unclip_jax.evals.examples import Examples, load_examples, main_captions
from unclip_jax.evals.metrics import Metric
from unclip_jax.evals.settings import Settings
from unclip_jax.models.stages import PRIORS
from unclip_jax.plan.estimate import training_flops

DRAWS = 4  # embeddings per caption, for their diversity


@dataclasses.dataclass(frozen=True)
class EmbeddedSplit:
    """A split with one caption per image, and the embeddings of both."""

    examples: Examples
    captions: list[str]
    image_emb: Float[np.ndarray, "n d"]
    text_emb: Float[np.ndarray, "n d"]


@dataclasses.dataclass(frozen=True)
class EmbeddedTraining:
    """Embeddings of the training images and of all of their captions.

    Attributes:
        caption_emb: of all captions of all images.
        owner: the index of each caption's image.
    """

    image_emb: Float[np.ndarray, "n d"]
    caption_emb: Float[np.ndarray, "c d"]
    owner: Int[np.ndarray, " c"]


def embed_split(model: Bundle, split: str, settings: Settings) -> EmbeddedSplit:
    """Loads a split and embeds its images and main captions with the bundle's CLIP."""
    clip = settings.clip(model)
    examples = load_examples(
        settings, split, model=model, size=clip.image_size, limit=settings.limit
    )
    captions = main_captions(examples)
    return EmbeddedSplit(
        examples=examples,
        captions=captions,
        image_emb=clip.images(examples.images),
        text_emb=clip.captions(captions),
    )


def embed_training(model: Bundle, settings: Settings) -> EmbeddedTraining:
    """Loads the training images and embeds them and all of their captions."""
    clip = settings.clip(model)
    examples = load_examples(settings, "train", model=model, size=clip.image_size)
    owner = np.repeat(np.arange(len(examples)), [len(c) for c in examples.captions])
    captions = [caption for captions in examples.captions for caption in captions]
    return EmbeddedTraining(
        image_emb=clip.images(examples.images), caption_emb=clip.captions(captions), owner=owner
    )


def sample_prior(
    model: Bundle, captions: list[str], settings: Settings, stage: str = "prior", draw: int = 0
) -> Float[np.ndarray, "n d"]:
    """Draws an image embedding for each caption with the bundle's settings, as `sample` does.

    The key is that of draw `draw` of caption i, independent of the batch size.
    """

    def sample(rows: Int[np.ndarray, " b"]) -> Float[np.ndarray, "b d"]:
        keys = image_keys(root_key(settings.seed), rows, np.full(len(rows), draw))
        text = api.embed_text(model, [captions[i] for i in rows])
        return api.run_stage(model, stage, Cond(text=text), key=keys)

    return settings.map_batches(sample, len(captions), f"embeddings of the {stage}")


def prior_metrics(
    predicted: Float[np.ndarray, "n d"],
    held_out: EmbeddedSplit,
    training: EmbeddedTraining,
    seed: int,
) -> dict[str, Metric]:
    """Compares the prior's embeddings and the baselines with the true embeddings.

    Returns:
        `cosine`, whose baseline is the best of the baselines; the cosine of each baseline; and
        `over_X`, the paired difference to baseline X, whose baseline is 0 (beaten when the interval
        lies above it).
    """
    true = held_out.image_emb
    swap = metrics.derangement(held_out.examples.concepts, seed=seed)
    mean = unit64(training.image_emb).mean(axis=0, keepdims=True)
    nearest, _ = metrics.nearest(held_out.text_emb, training.caption_emb)
    nearest = training.owner[nearest]
    baselines = {
        "unrelated_caption": metrics.cosine(predicted[swap], true),
        "mean_embedding": metrics.cosine(np.repeat(mean, len(true), axis=0), true),
        "nearest_caption": metrics.cosine(training.image_emb[nearest], true),
        "text_embedding": metrics.cosine(held_out.text_emb, true),
    }
    groups = np.asarray(held_out.examples.concepts)
    own = metrics.cosine(predicted, true)
    best = max(float(values.mean()) for values in baselines.values())
    results = {"cosine": metrics.mean_metric(own, groups=groups, baseline=best)}
    for name, values in baselines.items():
        results[f"cosine_{name}"] = metrics.mean_metric(values, groups=groups)
        results[f"over_{name}"] = metrics.mean_metric(own - values, groups=groups, baseline=0.0)
    return results


def drawn_metrics(
    draws: Float[np.ndarray, "k n d"],
    held_out: EmbeddedSplit,
    train_emb: Float[np.ndarray, "m d"],
    seed: int,
) -> dict[str, Metric]:
    """Returns the first draw's cosine to z_t and Fréchet distance, and the draws' diversity.

    The distance is there of LEAST_FRECHET embeddings or more; its baseline is that of as many
    training images.
    """
    groups = np.asarray(held_out.examples.concepts)
    to_text = metrics.cosine(draws[0], held_out.text_emb)
    results = {
        "cosine_to_text": metrics.mean_metric(to_text, groups=groups),
        "diversity": metrics.mean_metric(diversity(draws), groups=groups),
    }
    if len(groups) >= LEAST_FRECHET:
        rows = np.random.default_rng(seed).permutation(len(train_emb))[: len(groups)]
        other = train_emb[rows]
        results["frechet"] = unit_frechet_metric(draws[0], held_out.image_emb, other, groups)
    return results


def cost_metrics(model: Bundle, stage: str, settings: Settings) -> dict[str, Metric]:
    """Returns seconds per embedding, compiled and in a full batch, and the training's petaFLOPs.

    The seconds are the median, minimum and maximum of three timings: too few for an interval. The
    petaFLOPs are the model FLOPs of all steps, where the bundle records how it was trained.
    """
    captions = ["a"] * settings.batch
    sample_prior(model, captions, settings, stage)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        sample_prior(model, captions, settings, stage)
        times.append(time.perf_counter() - start)
    rows = settings.batch
    seconds = float(np.median(times)) / rows
    results = {
        "seconds": Metric(seconds, None, None, len(times)),
        "seconds_min": Metric(min(times) / rows, None, None, len(times)),
        "seconds_max": Metric(max(times) / rows, None, None, len(times)),
    }
    record = model.provenance.get("stages", {}).get(stage)
    if record:
        flops = training_flops(model.stage(stage).spec, record)
        results["training_petaflops"] = Metric(flops / 1e15, None, None, 1)
    return results


def priors(model: Bundle, settings: Settings) -> dict[str, Metric]:
    """Measures the bundle's priors on the held-out splits."""
    names = [name for name, stage in PRIORS.items() if stage in model.stages]
    if not names:
        raise UserError(f"bundle {model.name!r} has no prior")
    prefixes = {name: "" if name == model.sampling.prior else f"{name}/" for name in names}
    training = embed_training(model, settings)
    results, held_out = {}, None
    for split in settings.splits:
        held_out = embed_split(model, split, settings)
        for name, prefix in prefixes.items():
            stage = PRIORS[name]
            draws = [
                sample_prior(model, held_out.captions, settings, stage, i) for i in range(DRAWS)
            ]
            found = prior_metrics(draws[0], held_out, training, settings.seed)
            if prefix:  # the default prior has the baselines' own metrics
                found = {k: f for k, f in found.items() if k == "cosine" or "over_" in k}
            emb = training.image_emb
            found |= drawn_metrics(np.stack(draws), held_out, emb, settings.seed)
            results |= {f"{split}/{prefix}{key}": metric for key, metric in found.items()}
    for name, prefix in prefixes.items():
        found = cost_metrics(model, PRIORS[name], settings)
        results |= {f"{prefix}{key}": metric for key, metric in found.items()}
    if model.of_kind("decoder") and held_out is not None:
        found = prior_images.decoded_metrics(model, held_out.examples, settings)
        results |= {f"decoded/{key}": metric for key, metric in found.items()}
    return results
