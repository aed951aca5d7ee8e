"""The paper's human evaluation (unCLIP §5.2, appendix A) as a page that works from a file.

Two models draw the same captions. A person says which of two images looks more real, which fits the
caption better, and which of two 4x4 grids of one caption is more diverse. Which model is on which
side, and the order of the questions, are random by the seed. The key goes to a file of its own.
"""

import base64
import dataclasses
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from unclip_jax import api
from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.errors import UserError
from unclip_jax.core.prng import root_key
from unclip_jax.evals.examples import load_examples, main_captions, resized
from unclip_jax.evals.outputs import PREFERENCE_KEY, PREFERENCE_PAGE
from unclip_jax.evals.preference_answers import (
    EVEN,
    KINDS,
    find_key,
    read_answers,
    read_key,
)
from unclip_jax.evals.preference_page import page_html, read_page
from unclip_jax.evals.prior_images import random_subset
from unclip_jax.evals.prompts import read_prompts
from unclip_jax.evals.settings import Settings

PHOTOREALISM, _, DIVERSITY = KINDS
MODELS = ("model", "baseline")
SIDE = 4  # images along a grid for diversity
GRIDS_SHARE = 4  # a caption in so many is also asked for diversity
TILE = 128  # pixels of an image in a grid at most
GAP = 4  # pixels between them
SHARP = 128  # pixels up to which an image is kept without loss
CAPTION_PIXELS = 32  # images that are read for their captions only


@dataclasses.dataclass(frozen=True)
class Drawn:
    """What a model drew.

    Attributes:
        single: an image a caption.
        grids: SIDE x SIDE images of each of the first captions.
    """

    single: UInt8[np.ndarray, "n s s 3"]
    grids: UInt8[np.ndarray, "m k s s 3"]


@dataclasses.dataclass(frozen=True)
class Study:
    """A page's questions, and the key that the page does not have.

    Attributes:
        shown: what the page holds: its id, its questions, its images as data URIs.
        first: of each question by its id, the model that is shown first.
    """

    shown: dict[str, Any]
    first: dict[str, str]

    def key(self, names: Mapping[str, str]) -> dict[str, Any]:
        """Returns the key as JSON.

        Args:
            names: of the bundles, by "model" and "baseline".
        """
        questions = {
            question["id"]: {
                "kind": question["kind"],
                "caption": question["caption"],
                "first": self.first[question["id"]],
            }
            for question in self.shown["questions"]
        }
        return {"study": self.shown["study"], **names, "questions": questions}


@dataclasses.dataclass(frozen=True)
class Judged:
    """A pair of images, and which of them a person preferred."""

    question: str
    preferred: UInt8[np.ndarray, "s s 3"]
    other: UInt8[np.ndarray, "s s 3"]


def write_preference(
    folder: Path, model: Bundle, settings: Settings, recorded: Mapping[str, Any]
) -> tuple[dict[str, Any], str]:
    """Draws the captions by both models and writes the page and its key.

    Returns:
        What was written, as a JSON object and as text.
    """
    if settings.baseline is None:
        raise UserError("suite preference compares two models; pass --baseline BUNDLE")
    captions = in_random_order(choose_captions(settings)[0], settings.seed)
    bundles = (model, settings.baseline)
    drawn = [draw(bundle, captions, place, settings) for place, bundle in enumerate(bundles)]
    size = min(made.single.shape[1] for made in drawn)
    shown = [alike(made, size) for made in drawn]
    study = make_study(captions, (shown[0], shown[1]), settings.seed)
    names = {"model": str(recorded["model"]), "baseline": str(recorded["baseline"])}
    (folder / PREFERENCE_PAGE).write_text(page_html(study.shown), encoding="utf-8")
    key = json.dumps(study.key(names), indent=1, ensure_ascii=False)
    (folder / PREFERENCE_KEY).write_text(key + "\n", encoding="utf-8")
    kinds = [question["kind"] for question in study.shown["questions"]]
    counts = {kind: kinds.count(kind) for kind in KINDS}
    asked = ", ".join(f"{count} for {kind}" for kind, count in counts.items())
    text = (
        f"{PREFERENCE_PAGE} asks {asked}. Give raters that file alone, as {PREFERENCE_KEY} tells "
        "which model is which. Then: unclip eval --suite preference --answers FILE, --out as now"
    )
    return {"suite": "preference", "questions": counts, "settings": dict(recorded)}, text


def choose_captions(settings: Settings) -> tuple[list[str], list[str]]:
    """Draws captions of the last held-out split, or of the list of prompts if one is given.

    Returns:
        The captions, and the concept of each; of a list each prompt is its own.
    """
    if settings.prompts_file is not None:
        texts = [prompt.text for prompt in read_prompts(Path(settings.prompts_file))]
        settings.say_fewer(len(texts), str(settings.prompts_file))
        order = np.random.default_rng(settings.seed).permutation(len(texts))[: settings.prompts]
        chosen = [texts[i] for i in sorted(order)]
        return chosen, chosen
    held_out = load_examples(settings, settings.splits[-1], size=CAPTION_PIXELS)
    settings.say_fewer(len(held_out), f"{settings.data} {settings.splits[-1]}")
    chosen = random_subset(held_out, settings.prompts, settings.seed)
    return main_captions(chosen), list(chosen.concepts)


def in_random_order(captions: Sequence[str], seed: int) -> list[str]:
    """Returns the captions mixed: sets are drawn of the first, and a list may be sorted."""
    return [captions[i] for i in np.random.default_rng([seed, 2]).permutation(len(captions))]


def draw(model: Bundle, captions: Sequence[str], place: int, settings: Settings) -> Drawn:
    """Draws an image of every caption, and grids of the first ones.

    Args:
        place: 0 of the model, 1 of the baseline; they have different noise, so that a model may be
            its own baseline.
    """
    key = jax.random.fold_in(root_key(settings.seed), place)
    few, count = captions[: -(-len(captions) // GRIDS_SHARE)], SIDE * SIDE
    single, grids = (
        np.asarray(
            api.sample(
                model,
                texts,
                num=num,
                key=key,
                prior=None if place else settings.prior,
                size=settings.sample_size,
                progress=settings.report,
            )
        )
        for texts, num in ((captions, 1), (few, count))
    )
    return Drawn(single, grids.reshape(len(few), count, *grids.shape[1:]))


def alike(drawn: Drawn, size: int) -> Drawn:
    """Brings images to one size, so that it does not tell the models apart."""
    flat = drawn.grids.reshape(-1, *drawn.grids.shape[2:])
    small = resized(flat, min(size, TILE))
    grids = small.reshape(*drawn.grids.shape[:2], *small.shape[1:])
    return Drawn(resized(drawn.single, size), grids)


def make_study(captions: Sequence[str], drawn: tuple[Drawn, Drawn], seed: int) -> Study:
    """Returns the questions, kind by kind, each kind in random order and with random sides.

    Args:
        drawn: by the model and by the baseline, for the same captions.
    """
    rng = np.random.default_rng([seed, 1])
    pairs = [[to_uri(made.single[i]) for made in drawn] for i in range(len(captions))]
    grids = [[to_uri(tiled(images)) for images in both] for both in
             zip(*(made.grids for made in drawn), strict=True)]  # fmt: skip
    whole = [uri for pair in (*pairs, *grids) for uri in pair]
    order = rng.permutation(len(whole))
    place = {int(image): number for number, image in enumerate(order)}
    questions, first = [], {}
    for kind in KINDS:
        start, count = (len(pairs), len(grids)) if kind == DIVERSITY else (0, len(pairs))
        for i in rng.permutation(count):
            flip = int(rng.integers(2))
            name = str(len(questions) + 1)
            shown = [place[2 * (start + int(i)) + (side ^ flip)] for side in (0, 1)]
            caption = "" if kind == PHOTOREALISM else captions[i]
            questions.append({"id": name, "kind": kind, "caption": caption, "images": shown})
            first[name] = MODELS[flip]
    content = {"questions": questions, "images": [whole[i] for i in order]}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return Study({"study": digest[:16], **content}, first)


def judged_pairs(files: Sequence[Path]) -> list[Judged]:
    """Returns the judgements of photorealism in files of answers, without "not sure".

    The page and its key lie beside the first file.
    """
    place = find_key(files[0].parent, files)
    key = read_key(place)
    images = read_page(place.parent / PREFERENCE_PAGE, key.study)
    judged = []
    for answer in read_answers(files, key):
        if answer.kind != PHOTOREALISM or answer.score == EVEN:
            continue
        if answer.question not in images:
            raise UserError(f"{place} has a question {answer.question!r} that the page lacks")
        first, second = images[answer.question]
        of_first = (answer.score == 1.0) == key.first[answer.question]
        preferred, other = (first, second) if of_first else (second, first)
        judged.append(Judged(answer.question, preferred, other))
    return judged


def tiled(images: UInt8[np.ndarray, "k s s 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Joins SIDE x SIDE images, white between them."""
    edge, count = images.shape[1], SIDE
    whole = np.full((count * (edge + GAP) - GAP,) * 2 + (3,), 255, np.uint8)
    for i, image in enumerate(images):
        top, left = (i // count) * (edge + GAP), (i % count) * (edge + GAP)
        whole[top : top + edge, left : left + edge] = image
    return whole


def to_uri(image: UInt8[np.ndarray, "h w 3"]) -> str:
    """Returns an image as a WebP data URI, small ones without loss."""
    data = io.BytesIO()
    Image.fromarray(image).save(data, "WEBP", quality=90, lossless=image.shape[0] <= SHARP)
    return f"data:image/webp;base64,{base64.b64encode(data.getvalue()).decode()}"
