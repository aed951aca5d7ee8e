"""Are plain prompts drawn right? A list of prompts, each judged by an independent CLIP.

One image is sampled per prompt. The evaluation CLIP compares it with texts: all prompts of the file
and the names of everyday things. A prompt's rank is the number of texts that fit its image at least
as well as it does, itself included; a hit at k means a rank of at most k. Chance is k over the
number of texts. The verdicts also go to a file, with room for those of a person's eye.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.errors import UserError
from unclip_jax.core.files import read_mapping
from unclip_jax.core.lines import read_lines
from unclip_jax.core.rendering import labeled_grid
from unclip_jax.data.sets import captions
from unclip_jax.evals import metrics
from unclip_jax.evals.examples import resized, sample_prompts
from unclip_jax.evals.metrics import Metric
from unclip_jax.evals.outputs import PROMPTS_SHEET, PROMPTS_VERDICTS
from unclip_jax.evals.settings import Settings

RANKS = (1, 5)
REMEDY = 'expected {"GROUP": ["a cat", {"prompt": "a blue car", "kind": "color and thing"}, ...]}'


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A prompt of the file.

    Attributes:
        text: the prompt.
        group: its list in the file; metrics are given by group.
        kind: what the prompt tries, within its group; "" for nothing special.
    """

    text: str
    group: str
    kind: str = ""


def read_prompts(path: Path) -> list[Prompt]:
    """Reads a JSON file of groups of prompts, or a text file with a prompt a line.

    Raises:
        UserError: the file is missing, of another form, or names no prompt.
    """
    if path.suffix == ".json":
        prompts = list(_prompts_of(path, read_mapping(path, remedy=REMEDY)))
    else:
        prompts = [Prompt(line, "prompts") for line in read_lines(path, entry="prompt")]
    if not prompts:
        raise UserError(f"{path} has no prompts: {REMEDY}")
    return prompts


def _prompts_of(path: Path, groups: Mapping[str, Any]) -> Iterator[Prompt]:
    for group, entries in groups.items():
        if isinstance(entries, str):  # a note such as "about"
            continue
        if not isinstance(entries, list):
            raise UserError(f"{path}: {group} is no list of prompts: {REMEDY}")
        for entry in entries:
            fields = entry if isinstance(entry, dict) else {"prompt": entry}
            text, kind = fields.get("prompt"), fields.get("kind", "")
            if not (isinstance(text, str) and text.strip() and isinstance(kind, str)):
                raise UserError(f"{path}: {group} has an entry that is no prompt: {REMEDY}")
            yield Prompt(text.strip(), group, kind)


def ranks_of(
    image_emb: Float[np.ndarray, "n d"], text_emb: Float[np.ndarray, "t d"], own: Sequence[int]
) -> Int[np.ndarray, " n"]:
    """Returns for image i the rank of text own[i] among all texts.

    Args:
        text_emb: of distinct texts: a text that is there twice would tie with itself.
    """
    relevant = np.asarray(own)[:, None] == np.arange(len(text_emb))[None]
    return metrics.ranks(metrics.similarity(image_emb, text_emb), relevant)


def prompt_metrics(
    prompts: list[Prompt], ranks: Int[np.ndarray, " n"], texts: int
) -> dict[str, Metric]:
    """Returns the hits at each rank, by group and by kind.

    Args:
        ranks: of each prompt.
        texts: the number of texts that were compared.
    """
    labels = [(p.group, *([f"{p.group}/{p.kind}"] if p.kind else [])) for p in prompts]
    results = {}
    for label in dict.fromkeys(name for names in labels for name in names):
        rows = np.array([label in names for names in labels])
        for k in RANKS:
            results[f"{label}/top_{k}"] = metrics.mean_metric(
                ranks[rows] <= k, baseline=min(1.0, k / texts)
            )
    return results


def prompts(model: Bundle, settings: Settings) -> dict[str, Metric]:
    """Samples the prompts of a file and ranks each by the evaluation CLIP."""
    clip = settings.judge("prompts")
    if settings.prompts_file is None:
        raise UserError("suite prompts needs a list; pass --prompts-file docs/prompts.json")
    listed = settings.swept(read_prompts(Path(settings.prompts_file)), settings.prompts)
    side = clip.image_size  # an error before the sampling if it has no image tower
    images = sample_prompts(model, [prompt.text for prompt in listed], settings)
    names = (captions.phrase(label) for label in captions.everyday_concepts())
    texts = list(dict.fromkeys((*(prompt.text for prompt in listed), *names)))
    own = [texts.index(prompt.text) for prompt in listed]
    ranks = ranks_of(clip.images(resized(images, side)), clip.captions(texts), own)
    if settings.image_folder is not None:
        _write(settings.image_folder, listed, ranks, images)
    return prompt_metrics(listed, ranks, len(texts))


def _write(
    folder: Path,
    listed: list[Prompt],
    ranks: Int[np.ndarray, " n"],
    images: UInt8[np.ndarray, "n s s 3"],
) -> None:
    """Writes the verdicts, and a sheet of all images with the rank beside each prompt."""
    verdicts = [
        {
            "prompt": prompt.text,
            "group": prompt.group,
            "kind": prompt.kind,
            "rank": int(rank),
            "eye": None,
        }
        for prompt, rank in zip(listed, ranks, strict=True)
    ]
    text = json.dumps(verdicts, indent=1, ensure_ascii=False) + "\n"
    (folder / PROMPTS_VERDICTS).write_text(text, encoding="utf-8")
    labels = [f"{p.text} ({rank})" for p, rank in zip(listed, ranks, strict=True)]
    small = resized(images, min(96, images.shape[1]))
    labeled_grid([[image] for image in small], labels, columns=10).save(folder / PROMPTS_SHEET)
