"""Captions of procedural scenes, whose drawings can be read back, and what bundles draw for them.

The suites binding, complexity and spelling have their ground truth from the source that made the
captions (data/sets/scenes.py, data/sets/words.py). Each compares up to four ways to draw one
caption: the bundle, its decoder given only the prior's embedding, the bundle of `--baseline`, and
the source itself, whose score is the ceiling of the reader. Drawings are softer than the source;
`softened` real images tell what the reader loses by that alone.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from scipy import ndimage

from unclip_jax import api
from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.errors import UserError
from unclip_jax.core.prng import image_keys, root_key
from unclip_jax.data.sets import shapes
from unclip_jax.data.sets.scenes import SPLITS, ScenesSource
from unclip_jax.evals import metrics
from unclip_jax.evals.examples import sample_prompts
from unclip_jax.evals.metrics import Metric
from unclip_jax.evals.priors import sample_prior
from unclip_jax.evals.settings import Settings
from unclip_jax.models.stages import PRIORS
from unclip_jax.plan.estimate import training_flops
from unclip_jax.sampling import latents
from unclip_jax.sampling.monitor import Monitor

MODEL, ALONE, BASELINE, REAL = "model", "embedding_only", "baseline", "real"
SOFT = "real_soft"
NOT_DRAWN = (REAL, SOFT)
GROUPS = {"seen": "train", "unseen": "test"}
"""Splits of the sources: pairs of color and form that are trained on, and the others."""
BLUR, NOISE = 0.7, 8.0  # of `softened`: pixels, and gray levels of 255
RELATIONS = re.compile(r" (above|below|left of|right of) ")

Images = UInt8[np.ndarray, "n s s 3"]
Scores = Mapping[str, Float[np.ndarray, " n"]]


@dataclasses.dataclass(frozen=True)
class Prompts:
    """Captions with their real images and what the images show.

    Attributes:
        wanted: pairs of color and form of each caption, the subject first.
        relations: of the first object to the second; None where the caption names none.

    `groups` are the same for captions that name the same things: they are not independent.
    """

    captions: list[str]
    images: Images
    wanted: list[list[tuple[str, str]]]
    relations: list[str | None]

    @property
    def groups(self) -> np.ndarray:
        """What is named, in the order of the alphabet."""
        return np.asarray([" + ".join(sorted(map(" ".join, pairs))) for pairs in self.wanted])


def scene_prompts(settings: Settings, suite: str, group: str, objects: int) -> Prompts:
    """Draws the captions of `settings.prompts` new scenes of so many objects, by the seed.

    Args:
        group: "seen": scenes of the pairs of color and form that are trained on, none of them a
            scene of the training set; "unseen": of the pairs that are held out.
    """
    if settings.data.partition(":")[0] != "scenes":
        raise UserError(f"suite {suite} needs procedural scenes: pass --data scenes:size=32")
    chosen = shapes.options(settings.data, ("size", "count", "objects"))
    first = SPLITS["train"] if group == "seen" else 0
    count = first + SPLITS["test"]
    size = chosen.get("size", 32)
    source = ScenesSource(GROUPS[group], size=size, count=count, objects=objects)
    order = np.random.default_rng(settings.seed).permutation(count - first)
    rows = first + order[: settings.prompts]
    examples = [source[int(row)] for row in rows]
    captions = [example["captions"][0] for example in examples]
    found = [RELATIONS.search(caption) for caption in captions]
    return Prompts(
        captions=captions,
        images=np.stack([example["image"] for example in examples]),
        wanted=[pairs_of(example["concept"]) for example in examples],
        relations=[match[1] if match else None for match in found],
    )


def pairs_of(concept: str) -> list[tuple[str, str]]:
    """Reads "red circle + blue star" as pairs of color and form."""
    return [tuple(part.split(" ")) for part in concept.split(" + ")]


def draw_all(
    model: Bundle, captions: Sequence[str], real: Images, settings: Settings
) -> dict[str, Images]:
    """Returns an image a caption of each way to draw it, by name; all with the same keys."""
    drawn = {MODEL: sample_prompts(model, captions, settings)}
    prior = PRIORS.get(model.sampling.prior)
    if prior in model.stages:
        image_emb = sample_prior(model, list(captions), settings, prior)
        drawn[ALONE] = decode_embeddings(model, image_emb, settings)
    if settings.baseline is not None:
        drawn[BASELINE] = sample_prompts(settings.baseline, captions, settings)
    return {**drawn, REAL: real, SOFT: softened(real, settings.seed)}


def softened(images: Images, seed: int) -> Images:
    """Blurs images and adds noise, about as a small decoder draws them."""
    blurred = ndimage.gaussian_filter(images.astype(np.float64), (0, BLUR, BLUR, 0))
    noise = np.random.default_rng(seed).normal(0.0, NOISE, images.shape)
    return np.clip(np.round(blurred + noise), 0, 255).astype(np.uint8)


def decode_embeddings(
    model: Bundle, image_emb: Float[np.ndarray, "n d"], settings: Settings
) -> Images:
    """Draws an image of each z_i without a caption, from fresh noise."""
    chosen = latents.LatentSettings(size=settings.sample_size)
    plan = latents.resolve_latents(model, chosen, inverted=False)
    keys = image_keys(root_key(settings.seed), range(len(image_emb)), [0] * len(image_emb))
    return latents.decode(model, image_emb, keys, plan, monitor=Monitor(settings.report))


def reconstructed(model: Bundle, images: Images, settings: Settings) -> Images:
    """Encodes images by the CLIP and decodes z_i alone, from fresh noise (figure 15)."""
    return decode_embeddings(model, api.embed_image(model, images), settings)


def compared(
    scores: Mapping[str, Scores],
    name: Callable[[str, str], str],
    recipe: str,
    reference: str,
    groups: Shaped[np.ndarray, " n"],
) -> dict[str, Metric]:
    """Returns the mean of every score of every way to draw, and paired differences of the two.

    Args:
        scores: values of each caption by way to draw and by what was scored; NaN: not defined, and
            left out.
        name: the metric's name, of a way to draw and a score.
        groups: of the captions; the intervals draw whole groups.
    """
    results = {}
    for way, found in scores.items():
        for score, values in found.items():
            results |= _mean(name(way, score), values, groups, bounds=(0.0, 1.0))
    if BASELINE in scores:
        for score, values in scores[MODEL].items():
            key = name("over_baseline", score)
            more = values - scores[BASELINE][score]
            results |= _mean(key, more, groups, bounds=(-1.0, 1.0), baseline=0.0)
    described = {"recipe": recipe, "reference": reference}
    return {key: dataclasses.replace(found, **described) for key, found in results.items()}


def _mean(
    key: str,
    values: Float[np.ndarray, " n"],
    groups: Shaped[np.ndarray, " n"],
    **given: Any,
) -> dict[str, Metric]:
    kept = ~np.isnan(values)
    if not kept.any():
        return {}
    return {key: metrics.mean_metric(values[kept], groups=groups[kept], **given)}


def training_costs(model: Bundle, settings: Settings) -> dict[str, Metric]:
    """Returns the petaFLOPs of training of prior and decoder, of both bundles, where recorded."""
    results = {}
    for name, one in ((MODEL, model), (BASELINE, settings.baseline)):
        records = {} if one is None else one.provenance.get("stages", {})
        stages = [s for s in records if s in (*PRIORS.values(), "decoder") and s in one.stages]
        if stages:
            total = sum(training_flops(one.stage(s).spec, records[s]) for s in stages)
            recipe = f"model FLOPs of {' and '.join(stages)}, without the CLIP"
            found = Metric(total / 1e15, None, None, 1, recipe=recipe)
            results[f"{name}/training_petaflops"] = found
    return results
