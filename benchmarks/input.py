"""Times the input pipeline alone, and the training step that it feeds.

    python benchmarks/input.py                                   # every stage of the emoji family
    python benchmarks/input.py --data shapes:size=64,count=2048  # procedural pictures
    python benchmarks/input.py --step                            # also times the steps

The pipeline is a run's own: order, captions, decoding, resizing, windows and degradations, tokens,
with the config's threads and prefetching; a first pass over the set fills its cache of pictures, as
in a run. A ratio above 1 means that the pipeline makes more than the step takes.
"""

import json
import os
import statistics
import time
from typing import Any

import click
from commands import COUNT, Benchmark
from train_step import CONFIGS, time_config
from turns import environment, limit_threads

from unclip_jax.core.errors import UserError


def time_pipeline(path: str, data: str | None, batches: int, repeats: int) -> dict[str, Any]:
    """Times a config's pipeline: examples/s of the first pass and the median of later stretches."""
    from unclip_jax.checkpoint import bundle
    from unclip_jax.cli.config_files import read_config
    from unclip_jax.data.pipeline import batch_iterator, make_batches, open_source
    from unclip_jax.train.inputs import FixedLengthTokenizer, NullTokenizer
    from unclip_jax.train.resolve import read_settings

    flags = [f"--config.data.name={data}", "--config.data.concepts=all"] if data else []
    flags += ["--config.data.styles=()"] if data else []
    settings = read_settings(read_config(path, flags), needs_clip=False)
    source = open_source(settings.data)
    text = NullTokenizer()
    if not path.endswith(("upsampler_256.py", "upsampler_1024.py")):
        clip = bundle.load("emoji", stages=["clip"])
        text = FixedLengthTokenizer(clip.tokenizer, clip.stage("clip").spec.model.text.context)
    size = settings.train.batch_size
    made = make_batches(source, settings.data, tokenizer=text, batch_size=size, seed=0)
    pipeline = batch_iterator(made, settings.data)
    first = -(-len(source) // size)

    def stretch(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            next(pipeline)
        return size * count / (time.perf_counter() - start)

    cold = stretch(first)
    return {
        "config": path,
        "data": settings.data.name,
        "examples": len(source),
        "size": settings.data.image_size,
        "batch": size,
        "first_pass": cold,
        "examples_per_second": statistics.median(stretch(batches) for _ in range(repeats)),
    }


def table(rows: list[dict[str, Any]], stated: dict[str, Any]) -> str:
    """Returns the rates as Markdown."""
    lines = [
        f"{stated}",
        "",
        "| config | data | pixels | batch | first pass, images/s | later | step | later / step |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        step, rate = row.get("step"), row["examples_per_second"]
        lines.append(
            f"| {row['config']} | {row['data']} ({row['examples']:,}) | {row['size']} "
            f"| {row['batch']} | {row['first_pass']:.0f} | {rate:.0f} "
            + (f"| {step:.0f} | {rate / step:.1f} |" if step else "| - | - |")
        )
    return "\n".join(lines)


@click.command(cls=Benchmark)
@click.option("--config", "configs", multiple=True, help="Default: all stages of emoji.")
@click.option("--data", help="Instead of the config's set.")
@click.option(
    "--batches", default=50, show_default=True, type=COUNT, help="Of a stretch that is timed."
)
@click.option(
    "--repeats", default=3, show_default=True, type=COUNT, help="Stretches; the median is given."
)
@click.option("--step", is_flag=True, help="Also time the training step, and give the ratio.")
@click.option("--threads", default=os.cpu_count(), show_default=True, type=COUNT)
@click.option("--json", "as_json", is_flag=True)
def main(
    configs: tuple[str, ...],
    data: str | None,
    batches: int,
    repeats: int,
    step: bool,
    threads: int,
    as_json: bool,
) -> None:
    """Prints the pipeline's rates as Markdown, or as JSON."""
    stated = environment(limit_threads(threads), ("jax", "grain", "numpy", "pillow"))
    rows = []
    found = configs or [path for path in CONFIGS if os.path.exists(path)]
    if not found:
        raise UserError("there are no configs/emoji here: run it in a checkout, or pass --config")
    for path in found:
        row = time_pipeline(path, data, batches, repeats)
        if step:
            row["step"] = time_config(path, None, "emoji", repeats)["images_per_second"]
        rows.append(row)
        click.echo(f"{path} done", err=True)
    stated["load after"] = round(os.getloadavg()[0], 2)
    report = {"environment": stated, "configs": rows}
    click.echo(json.dumps(report) if as_json else table(rows, stated))


if __name__ == "__main__":
    main()
