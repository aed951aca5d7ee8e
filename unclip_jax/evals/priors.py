"""How near the prior's image embeddings come to the true ones, on captions it never saw.

A cosine is one with the true embedding z_i of the captioned picture. The baselines are
what a prior must beat to be worth its parameters: the mean embedding of the training pictures, the
embedding of the picture with the nearest of all training captions, and the caption's own z_t taken
as z_i.

The bundle's default prior has the plain names; another one has its own in front ("ar/cosine").
Then the decoder makes pictures of every source of z_i, on the last split (prior_pictures.py).
"""

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from unclip_jax import api
from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.errors import UserError
from unclip_jax.core.prng import root_key
from unclip_jax.core.types import Cond
from unclip_jax.evals import metrics, prior_pictures
from unclip_jax.evals.examples import Examples, load_examples, main_captions
from unclip_jax.evals.gaussians import diversity, frechet_distance
from unclip_jax.evals.metrics import Figure
from unclip_jax.evals.retrieval import clip_size, embed_captions, embed_images
from unclip_jax.evals.settings import Settings
from unclip_jax.models.stages import spec_to_dict
from unclip_jax.plan.estimate import PlannedRun
from unclip_jax.sampling.runner import image_keys

DRAWS = 4  # embeddings a caption, for their diversity


@dataclasses.dataclass(frozen=True)
class Embedded:
    """A split with one caption a picture, and the embeddings of both."""

    examples: Examples
    captions: list[str]
    image_emb: Float[np.ndarray, "n d"]
    text_emb: Float[np.ndarray, "n d"]


@dataclasses.dataclass(frozen=True)
class Training:
    """The training pictures and every caption of theirs, embedded.

    Attributes:
        caption_emb: of all captions of all pictures.
        owner: the picture of each caption.
    """

    image_emb: Float[np.ndarray, "n d"]
    caption_emb: Float[np.ndarray, "c d"]
    owner: Int[np.ndarray, " c"]


def embed_split(model: Bundle, split: str, settings: Settings, limit: int | None) -> Embedded:
    """Loads a split and embeds its pictures and main captions with the bundle's CLIP."""
    examples = load_examples(settings, split, model=model, size=clip_size(model), limit=limit)
    captions = main_captions(examples)
    return Embedded(
        examples=examples,
        captions=captions,
        image_emb=embed_images(model, examples.images, settings.report),
        text_emb=embed_captions(model, captions, settings.report),
    )


def embed_training(model: Bundle, settings: Settings) -> Training:
    """Loads the training pictures and embeds them and all of their captions."""
    examples = load_examples(settings, "train", model=model, size=clip_size(model))
    owner = np.repeat(np.arange(len(examples)), [len(c) for c in examples.captions])
    captions = [caption for captions in examples.captions for caption in captions]
    return Training(
        image_emb=embed_images(model, examples.images, settings.report),
        caption_emb=embed_captions(model, captions, settings.report),
        owner=owner,
    )


def sample_prior(
    model: Bundle, captions: list[str], settings: Settings, stage: str = "prior", draw: int = 0
) -> Float[np.ndarray, "n d"]:
    """Draws an image embedding for each caption with the bundle's settings, as `sample` does.

    The key is that of draw `draw` of caption i, whatever the batch.
    """
    parts = []
    for start in settings.starts(len(captions), f"embeddings of the {stage}"):
        rows = np.minimum(np.arange(start, start + settings.batch), len(captions) - 1)
        keys = image_keys(root_key(settings.seed), rows, np.full(len(rows), draw))
        text = api.embed_text(model, [captions[i] for i in rows])
        drawn = api.run_stage(model, stage, Cond(text=text), key=keys)
        parts.append(drawn[: len(captions) - start])
    return np.concatenate(parts)


def prior_figures(
    predicted: Float[np.ndarray, "n d"], held_out: Embedded, training: Training, seed: int
) -> dict[str, Figure]:
    """Compares the prior's embeddings and the baselines with the true ones.

    Returns:
        `cosine` with the best baseline as its floor, each baseline's own cosine, and `over_X`: the
        paired difference to baseline X, whose floor is 0 (beaten when its interval is above it).
    """
    true = held_out.image_emb
    swap = metrics.derangement(held_out.examples.concepts, seed=seed)
    mean = metrics.normalize(training.image_emb).mean(axis=0, keepdims=True)
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
    figures = {"cosine": metrics.mean_figure(own, groups=groups, floor=best)}
    for name, values in baselines.items():
        figures[f"cosine_{name}"] = metrics.mean_figure(values, groups=groups)
        figures[f"over_{name}"] = metrics.mean_figure(own - values, groups=groups, floor=0.0)
    return figures


def drawn_figures(draws: Float[np.ndarray, "k n d"], held_out: Embedded) -> dict[str, Figure]:
    """Returns the cosine of the first draw to z_t, the draws' diversity, the Fréchet distance."""
    groups = np.asarray(held_out.examples.concepts)
    to_text = metrics.cosine(draws[0], held_out.text_emb)
    distance = frechet_distance(draws[0], held_out.image_emb)
    return {
        "cosine_to_text": metrics.mean_figure(to_text, groups=groups),
        "diversity": metrics.mean_figure(diversity(draws), groups=groups),
        "frechet": Figure(distance, None, None, len(groups)),
    }


def cost_figures(model: Bundle, stage: str, settings: Settings) -> dict[str, Figure]:
    """Returns seconds an embedding, compiled and in a full batch, and the training's petaFLOPs.

    Of three timings the median, the least and the most: too few for an interval. The petaFLOPs are
    model FLOPs of all steps, where the bundle says how it was trained.
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
    figures = {
        "seconds": Figure(seconds, None, None, len(times)),
        "seconds_min": Figure(min(times) / rows, None, None, len(times)),
        "seconds_max": Figure(max(times) / rows, None, None, len(times)),
    }
    held = model.provenance.get("stages", {}).get(stage)
    if held:
        flops = training_flops(model, stage, held)
        figures["training_petaflops"] = Figure(flops / 1e15, None, None, 1)
    return figures


def training_flops(model: Bundle, stage: str, held: Mapping[str, Any]) -> float:
    """Returns the model FLOPs of a stage's training, from its record in the provenance."""
    spec = {k: v for k, v in spec_to_dict(model.stage(stage).spec).items() if v is not None}
    data = {key: value for key, value in held["data"].items() if key != "fingerprint"}
    config = {**spec, "seed": 0, "data": data, "optim": held["optim"], "eval": {}}
    run = PlannedRun({**config, "train": {**held["train"], "accumulation": 1}})
    return run.work(1, "none").flops * run.settings.train.batch_size * held["steps"]


def priors(model: Bundle, settings: Settings) -> dict[str, Figure]:
    """Measures the bundle's priors on the held-out splits."""
    names = [name for name in ("diffusion", "ar") if f"prior_{name}" in model.stages]
    if not names:
        raise UserError(f"bundle {model.name!r} has no prior")
    prefixes = {name: "" if name == model.sampling.prior else f"{name}/" for name in names}
    training = embed_training(model, settings)
    figures, held_out = {}, None
    for split in settings.splits:
        held_out = embed_split(model, split, settings, settings.limit)
        for name, prefix in prefixes.items():
            stage = f"prior_{name}"
            draws = [
                sample_prior(model, held_out.captions, settings, stage, i) for i in range(DRAWS)
            ]
            found = prior_figures(draws[0], held_out, training, settings.seed)
            if prefix:  # the baselines' own figures are those of the default prior
                found = {k: f for k, f in found.items() if k == "cosine" or "over_" in k}
            found |= drawn_figures(np.stack(draws), held_out)
            figures |= {f"{split}/{prefix}{key}": figure for key, figure in found.items()}
    for name, prefix in prefixes.items():
        found = cost_figures(model, f"prior_{name}", settings)
        figures |= {f"{prefix}{key}": figure for key, figure in found.items()}
    if "decoder" in model.stages and held_out is not None:
        found = prior_pictures.decoded_figures(model, held_out.examples, settings)
        figures |= {f"decoded/{key}": figure for key, figure in found.items()}
    return figures
