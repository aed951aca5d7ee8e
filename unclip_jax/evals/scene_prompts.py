"""Captions of procedural scenes, whose drawings can be read back, and what bundles draw for them.

The suites binding, complexity and spelling have their ground truth from the source that made the
captions (data/sets/scenes.py, data/sets/words.py). Each compares up to four ways to draw one
caption: the bundle, its decoder given only the prior's embedding, the bundle of `--baseline`, and
the source itself, whose score is the ceiling of the reader.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, UInt8

from unclip_jax import api
from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.errors import UserError
from unclip_jax.core.prng import image_keys, root_key
from unclip_jax.data.sources import load_source
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
RELATIONS = re.compile(r" (above|below|left of|right of) ")

Images = UInt8[np.ndarray, "n s s 3"]
Scores = Mapping[str, Float[np.ndarray, " n"]]


@dataclasses.dataclass(frozen=True)
class Prompts:
    """Captions with their real images and what the images show.

    Attributes:
        wanted: pairs of color and form of each caption, the subject first.
        relations: of the first object to the second; None where the caption names none.
    """

    captions: list[str]
    images: Images
    wanted: list[list[tuple[str, str]]]
    relations: list[str | None]


def scene_prompts(settings: Settings, suite: str, split: str, objects: int) -> Prompts:
    """Draws the captions of `settings.prompts` scenes of so many objects, by the seed."""
    name, _, options = settings.data.partition(":")
    if name != "scenes":
        raise UserError(f"suite {suite} needs procedural scenes: pass --data scenes:size=32")
    source = load_source(f"{name}:{options + ',' if options else ''}objects={objects}", split)
    rows = np.random.default_rng(settings.seed).permutation(len(source))[: settings.prompts]
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
    return {**drawn, REAL: real}


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
    scores: Mapping[str, Scores], name: Callable[[str, str], str], recipe: str, reference: str
) -> dict[str, Metric]:
    """Returns the mean of every score of every way to draw, and paired differences of the two.

    Args:
        scores: values of each caption by way to draw and by what was scored; NaN: not defined, and
            left out.
        name: the metric's name, of a way to draw and a score.
    """
    results = {}
    for way, found in scores.items():
        for score, values in found.items():
            results |= _mean(name(way, score), values)
    if BASELINE in scores:
        for score, values in scores[MODEL].items():
            key = name("over_baseline", score)
            results |= _mean(key, values - scores[BASELINE][score], baseline=0.0)
    described = {"recipe": recipe, "reference": reference}
    return {key: dataclasses.replace(found, **described) for key, found in results.items()}


def _mean(
    key: str, values: Float[np.ndarray, " n"], baseline: float | None = None
) -> dict[str, Metric]:
    kept = values[~np.isnan(values)]
    return {key: metrics.mean_metric(kept, baseline=baseline)} if len(kept) else {}


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
