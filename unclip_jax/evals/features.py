"""Features of images by which sets are compared: those of a named network in a named recipe."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.errors import UserError
from unclip_jax.evals.clip_encoder import ClipEncoder
from unclip_jax.evals.networks.dinov2 import RECIPE as DINOV2_RECIPE
from unclip_jax.evals.networks.dinov2 import Dinov2Features, load_dinov2
from unclip_jax.evals.networks.inception import (
    RECIPES,
    SCORE_RUNS,
    InceptionFeatures,
    Recipe,
    load_inception,
)
from unclip_jax.sampling.monitor import Progress

Extracted = dict[str, Float[np.ndarray, "n ..."]]

INCEPTION: dict[str, Recipe] = {
    "inception": "torch-fidelity",
    "inception-adm": "adm",
    "inception-clean": "clean-fid",
}
"""Inception's recipe by the kind that asks for it; see `networks.inception`."""

KINDS = ("clip", *(f"{kind}:FILE" for kind in INCEPTION), "dinov2:FOLDER")


@dataclasses.dataclass(frozen=True)
class Features:
    """A network that turns images into vectors.

    Attributes:
        name: of the network: "CLIP", "Inception" or "DINOv2".
        recipe: how images become features, in words for `Metric.recipe`.
        extract: of images of one shape, the vectors by their kind. "pool" [n, d] is always there:
            what a Fréchet distance takes. Inception also has "spatial" [n, d2], for sFID, and
            "logits" [n, k], whose softmax is the Inception score's.
        score_run: images of a run over which the Inception score is averaged; None: ten runs.
    """

    name: str
    recipe: str
    extract: Callable[[UInt8[np.ndarray, "n h w 3"]], Extracted]
    score_run: int | None = None


def load_features(spec: str, clip: Bundle, report: Progress | None = None) -> Features:
    """Returns the features that a text asks for.

    Args:
        spec: "clip" for the image embeddings of a bundle's CLIP; "inception:FILE",
            "inception-adm:FILE" or "inception-clean:FILE" for Inception in that recipe, with the
            weights of a local file; "dinov2:FOLDER" for a folder of transformers' Dinov2Model.
        clip: the bundle of "clip".
        report: see `ClipEncoder`.

    Raises:
        UserError: there are no such features, or the file does not have the network's weights.
    """
    kind, _, place = spec.partition(":")
    if spec == "clip":
        return clip_features(clip, report)
    if kind in INCEPTION and place:
        recipe = INCEPTION[kind]
        extract = InceptionFeatures(load_inception(Path(place)), recipe)
        return Features("Inception", RECIPES[recipe], extract, SCORE_RUNS.get(recipe))
    if kind == "dinov2" and place:
        return Features("DINOv2", DINOV2_RECIPE, Dinov2Features(*load_dinov2(Path(place))))
    raise UserError(f"unknown features {spec!r}; there are {', '.join(KINDS)}")


def clip_features(clip: Bundle, report: Progress | None = None) -> Features:
    """Returns the raw image embeddings of a bundle's CLIP, of images fitted to its tower."""
    encoder = ClipEncoder(clip, report)
    extract = lambda images: {"pool": encoder.images(images)}  # noqa: E731
    return Features("CLIP", clip_recipe(clip), extract)


def clip_recipe(clip: Bundle) -> str:
    """Returns what `Metric.recipe` says of the image embeddings of a bundle's CLIP."""
    return f"CLIP features of {clip.name}"
