"""`unclip sample`: captions to PNG files, a labeled grid and a manifest."""

import contextlib
from pathlib import Path
from typing import Any

import click

from unclip_jax.cli import common
from unclip_jax.cli.completion import files
from unclip_jax.cli.images import echo_images, interval_options, prior_options
from unclip_jax.cli.progress import Progress
from unclip_jax.core.errors import UserError
from unclip_jax.core.lines import read_lines


@click.command()
@click.argument("prompts", nargs=-1, metavar="PROMPT...")
@click.option(
    "--prompts",
    "prompt_file",
    metavar="FILE",
    shell_complete=files,
    help="File with one prompt per line; resumable.",
)
@common.model_option
@click.option("--out", type=common.OUT, help="Folder [a new one].")
@click.option(
    "--num", default=4, show_default=True, type=click.IntRange(1), help="Images per prompt."
)
@common.seed_option
@click.option("--size", type=click.IntRange(1), help="Pixels: one of the bundle's sizes.")
@click.option("--guidance", type=float, help="Guidance scale of the decoder; 1 is off.")
@click.option("--steps", type=click.IntRange(1), help="Sampling steps of the decoder.")
@click.option(
    "--negative", default="", help="Negative prompt: replaces the empty caption in guidance."
)
@interval_options
@prior_options
@common.dtype_option
@common.hosts_options
@common.json_option
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
def sample(
    prompts: tuple[str, ...],
    prompt_file: str | None,
    model: str,
    out: Path | None,
    num: int,
    seed: int,
    as_json: bool,
    overwrite: bool,
    **settings: Any,
) -> None:
    """Generate images from captions.

    Settings that are not given are those of the bundle.

    With --prompts, the same command can run on several hosts, with an --out that all of them see.

    Example: unclip sample "a red heart" "a green apple" --num 2 --out hearts
    """
    captions = list(prompts) + (read_prompt_file(prompt_file) if prompt_file else [])
    if not captions:
        raise UserError("no prompt given; pass one or --prompts FILE")
    if not all(caption.strip() for caption in captions):
        raise UserError("a prompt is empty; describe the image")
    bulk = prompt_file is not None
    if bulk and out is None:
        raise UserError("--prompts needs --out, the folder to fill and to resume in")
    hosts = {name: settings.pop(name) for name in common.HOSTS}
    if not bulk and any(value is not None for value in hosts.values()):
        raise UserError("--coordinator needs --prompts FILE, which several hosts share")
    with Progress() as progress:
        progress.phase(f"loading {model}")
        common.use_compile_cache()
        common.use_cores([model], settings["size"], len(captions) * num)
        from unclip_jax.core import distributed
        from unclip_jax.workflows import text_to_image
        from unclip_jax.workflows.images import fresh_folder

        out = out or fresh_folder(Path("samples"), text_to_image.prompt_slug(captions[0]))
        job = text_to_image.SampleJob(
            *(captions, model, out, settings), num=num, seed=seed, overwrite=overwrite, bulk=bulk
        )
        with distributed.joined(**hosts) if bulk else contextlib.nullcontext():
            result = text_to_image.sample_to_files(job, progress)
    if result is not None:
        echo_images(result, as_json)


def read_prompt_file(path: str) -> list[str]:
    """Reads a file of prompts, one per line; empty lines are skipped."""
    return read_lines(path, what="--prompts", entry="prompt")
