"""Smoke runs: every suite with the least that still runs all of its code.

Few images, few prompts, two steps of every sampler, the decoder's size. Such a run shows that a
command works on a machine; its numbers mean nothing, and its report says so.
"""

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

from unclip_jax.checkpoint.bundle import Bundle, Stage
from unclip_jax.diffusion.config import SamplingConfig
from unclip_jax.evals.settings import SMOKE_IMAGES, Settings
from unclip_jax.sampling.settings import decoder_size, override

PROMPTS, BATCH, STEPS = 8, 4, 2
RATED = 25  # images of a table of ratings
WARNING = "This is a smoke run: it shows that the command works. Its numbers mean nothing."


def small_settings(settings: Settings) -> Settings:
    """Returns settings of a smoke run: at most SMOKE_IMAGES images of each split, and so on."""
    return dataclasses.replace(
        settings,
        smoke=True,
        limit=min(settings.limit or SMOKE_IMAGES, SMOKE_IMAGES),
        prompts=min(settings.prompts, PROMPTS),
        batch=min(settings.batch, BATCH),
        scales=settings.scales[:2],
        baseline=settings.baseline and small_bundle(settings.baseline),
    )


def small_size(model: Bundle, settings: Settings) -> Settings:
    """Returns settings whose samples have the decoder's size, unless another one is asked for."""
    if settings.sample_size is not None or not model.of_kind("decoder"):
        return settings
    return dataclasses.replace(settings, sample_size=decoder_size(model))


def small_bundle(model: Bundle) -> Bundle:
    """Returns the bundle with STEPS steps of every diffusion sampler."""
    stages = {name: _in_few_steps(stage) for name, stage in model.stages.items()}
    return dataclasses.replace(model, stages=stages)


def _in_few_steps(stage: Stage) -> Stage:
    sampling = stage.spec.sampling
    if not isinstance(sampling, SamplingConfig):
        return stage
    fewer = override(sampling, "", steps=STEPS, limit=stage.spec.diffusion.num_steps)
    return dataclasses.replace(stage, spec=dataclasses.replace(stage.spec, sampling=fewer))


def stand_in_ratings(folder: Path) -> Path:
    """Writes a table of rated images, as `--ratings` takes: gray squares, the brighter the better.

    Returns:
        The table's path, in `folder`.
    """
    lines = ["image,rating"]
    for i in range(RATED):
        name = f"rated{i}.png"
        Image.fromarray(np.full((32, 32, 3), 8 * i, np.uint8)).save(folder / name)
        lines.append(f"{name},{i / 4}")
    table = folder / "ratings.csv"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return table
