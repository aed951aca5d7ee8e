"""Samplers and numbers of steps of a stage, by quality against time.

    python benchmarks/steps.py --eval-clip BUNDLE --stage decoder --out steps_decoder
    python benchmarks/steps.py --eval-clip BUNDLE --student BUNDLE --out student_decoder

Each row samples the same held-out captions with the same keys, one stage changed. Quality: the
Fréchet distance to the real images of these splits in the features of an independent CLIP, and its
score of image and caption. Time: seconds an image after the first call, all stages together.
Writes OUT.json after every row, continues what is there, and draws OUT.png. --size 64 leaves the
upsampler out, whose work is most of a row; a first try is --prompts 32 --steps 10 --size 64. With
--student, whose few-step stage is sampled in the model's place as its own bundle says, it also
prints which rows of the model take no longer: the comparison at equal time.
"""

import dataclasses
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import jax
import numpy as np
from commands import COUNT, Benchmark

from unclip_jax import api
from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.cli import common
from unclip_jax.cli.evaluate import held_out_splits
from unclip_jax.core import files
from unclip_jax.core.errors import UserError
from unclip_jax.core.prng import root_key
from unclip_jax.evals.clip_encoder import ClipEncoder
from unclip_jax.evals.distributions import frechet_distance
from unclip_jax.evals.fidelity import choose_captions, clip_score
from unclip_jax.evals.image_sets import CHUNK, real_images
from unclip_jax.evals.settings import Settings
from unclip_jax.models.pca import Moments
from unclip_jax.sampling.pipeline import generate, requests_for
from unclip_jax.sampling.settings import SampleSettings, num_steps, override, resolve

SAMPLERS = ("dpm++", "ddim")
STEPS = "5,8,10,15,20,30,40,50"


def with_sampling(model: Bundle, stage: str, sampler: str, steps: int) -> Bundle:
    """Returns the bundle with a stage sampled in another way, over the levels that it visits."""
    own = model.stage(stage)
    limit = own.spec.diffusion.num_steps
    sampling = override(own.spec.sampling, "", limit=limit, steps=steps, sampler=sampler)
    spec = dataclasses.replace(own.spec, sampling=sampling)
    return dataclasses.replace(
        model, stages={**model.stages, stage: dataclasses.replace(own, spec=spec)}
    )


def as_they_are(model: Bundle, student: str, stage: str) -> dict[str, Bundle]:
    """Returns what is sampled in its own steps: the model, and with a student's stage in it."""
    found = {"bundle": model}
    if student:
        own = api.load(student, stages=[stage]).stage(stage)
        found["student"] = dataclasses.replace(model, stages={**model.stages, stage: own})
    return found


def at_equal_time(rows: list[dict[str, Any]]) -> list[str]:
    """Compares the student with each of the model's rows that take no longer, a line a row."""
    student = next((row for row in rows if row["sampler"] == "student"), None)
    if student is None:
        return []
    others = [row for row in rows if row["sampler"] != "student"]
    lines = []
    for row in sorted(others, key=lambda row: row["seconds"]):
        if row["seconds"] <= student["seconds"]:
            more = {name: student[name] - row[name] for name in ("frechet", "clip_score")}
            lines.append(
                f"student against {row['sampler']} in {row['steps']} steps: {more['frechet']:+.4f} "
                f"Fréchet distance, {more['clip_score']:+.4f} CLIP score, "
                f"{student['seconds'] / row['seconds']:.2f} times as long"
            )
    return lines or ["the student takes less time than any row of the model"]


def sampled(
    model: Bundle, prompts: list[str], batch: int, size: int | None = None
) -> tuple[np.ndarray, float]:
    """Returns an image of each caption, and the seconds an image of all calls but the first."""
    plan = resolve(model, SampleSettings(size=size))
    made, marks = [], [time.perf_counter()]
    for images in generate(model, requests_for(prompts, 1), root_key(0), plan, batch=batch):
        made.append(images)
        marks.append(time.perf_counter())
    return np.concatenate(made), (marks[-1] - marks[1]) / sum(map(len, made[1:]))


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draws both measures of quality against seconds an image."""
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(10, 4), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("frechet", "clip_score"), strict=True):
        for sampler in dict.fromkeys(row["sampler"] for row in rows):
            own = sorted(
                (row for row in rows if row["sampler"] == sampler), key=lambda row: row["steps"]
            )
            times = [row["seconds"] for row in own]
            marker = "*" if sampler in ("bundle", "student") else "o"
            axes.plot(times, [row[name] for row in own], marker=marker, label=sampler)
            for row in own:
                axes.annotate(row["steps"], (row["seconds"], row[name]), fontsize=7)
        axes.set_xlabel("seconds an image")
        axes.set_ylabel({"frechet": "Fréchet distance, lower is better"}.get(name, "CLIP score"))
        axes.legend()
    figure.savefig(path, dpi=120)


def environment() -> dict[str, Any]:
    """Returns the machine, its load and the versions."""
    device = jax.local_devices()[0]
    return {
        "device": f"{device.device_kind} x{jax.local_device_count()}",
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "jax": version("jax"),
    }


def numbers_of(_: click.Context, option: click.Parameter, value: str) -> list[int]:
    """Reads numbers of steps, joined by commas."""
    parts = value.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise click.BadParameter(f"{value!r} is not a list of numbers from 1, such as {STEPS}")
    return [int(part) for part in parts]


@click.command(cls=Benchmark)
@click.option("--model", default="emoji", show_default=True)
@click.option("--eval-clip", required=True, help="Bundle with an independently trained CLIP.")
@click.option("--data", default="emoji", show_default=True)
@click.option("--stage", default="decoder", show_default=True)
@click.option("--student", default="", help="Bundle with a few-step student of the stage.")
@click.option("--samplers", default=",".join(SAMPLERS), show_default=True)
@click.option("--steps", default=STEPS, show_default=True, callback=numbers_of)
@click.option(
    "--prompts", default=500, show_default=True, type=COUNT, help="Captions, an image each."
)
@click.option("--batch", default=16, show_default=True, type=COUNT, help="Images a call.")
@click.option("--size", type=int, help="Pixels; the decoder's own leave the upsampler out.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Without ending.")
def main(
    model: str,
    eval_clip: str,
    data: str,
    stage: str,
    student: str,
    out: Path,
    batch: int,
    size: int | None,
    **options: Any,
) -> None:
    """Measures every sampler at every number of steps, the bundle's own setting and a student's."""
    common.use_compile_cache()
    common.use_cores([model, eval_clip], images=batch)
    bundle, judge = api.load(model), api.load(eval_clip, stages=["clip"])
    if bundle.stage(stage).spec.diffusion is None:
        raise UserError(f"stage {stage} has no steps of diffusion")
    models = as_they_are(bundle, student, stage)
    wishes = [(name, num_steps(own.stage(stage).spec.sampling)) for name, own in models.items()]
    wishes += [(name, n) for name in options["samplers"].split(",") for n in options["steps"]]
    changed_of = {w: models.get(w[0]) or with_sampling(bundle, stage, *w) for w in wishes}
    clip, splits = ClipEncoder(judge), held_out_splits(data)
    real = real_images(Settings(data, splits=splits), splits, bundle, clip.image_size, "real")
    _, captions = choose_captions(real, options["prompts"], 0)
    if len(captions) <= batch:
        raise click.UsageError(
            f"{len(captions)} captions are one call, which compiles; lower --batch"
        )
    record = out.with_suffix(".json")
    told = {"model": model, "eval_clip": eval_clip, "data": data, "stage": stage}
    told |= {"prompts": len(captions), "batch": batch, "size": size}
    told |= {"student": student} if student else {}
    rows = []
    if record.exists():
        before = json.loads(record.read_text())
        if before["settings"] != told:
            raise click.UsageError(f"{record} has rows of other settings; choose another --out")
        rows = before["rows"]
    numbers = range(real.images.count)
    parts = [numbers[i : i + CHUNK] for i in range(0, len(numbers), CHUNK)]
    wanted = Moments.of(np.concatenate([clip.images(real.images.make(part)) for part in parts]))
    text_emb = clip.captions(captions)
    for (sampler, n), changed in changed_of.items():
        if any((row["sampler"], row["steps"]) == (sampler, n) for row in rows):
            continue
        images, seconds = sampled(changed, captions, batch, size)
        emb = clip.images(images)
        row = {"sampler": sampler, "steps": n, "seconds": seconds, **environment()}
        row |= {"frechet": frechet_distance(wanted, Moments.of(emb))}
        row |= {"clip_score": float(clip_score(emb, text_emb).mean())}
        rows.append(row)
        click.echo(json.dumps(row))
        with files.whole_file(record) as part:
            part.write_text(json.dumps({"settings": told, "rows": rows}, indent=1) + "\n")
    for line in at_equal_time(rows):
        click.echo(line)
    plot(rows, out.with_suffix(".png"))


if __name__ == "__main__":
    main()
