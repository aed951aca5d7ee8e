"""`unclip embed`: CLIP embeddings of a data set, and their principal components."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from unclip_jax.cli import common
from unclip_jax.cli.progress import Progress

PATIENCE = 7 * 24 * 3600  # seconds


@click.command()
@click.option("--bundle", "model", required=True, help="Bundle with the CLIP: folder or name.")
@click.option("--data", default="emoji", show_default=True, help="Data set name or folder.")
@click.option("--split", default="train", show_default=True, help="Split to embed.")
@click.option("--concepts", default="all", show_default=True, help=common.CONCEPTS)
@click.option("--styles", default="", help="Styles to select, separated by commas [all].")
@click.option(
    "--crop",
    type=click.Choice(["center", "pad"]),
    default="center",
    show_default=True,
    help="How an image is made square.",
)
@click.option("--out", required=True, type=common.OUT, help="Folder of the store.")
@click.option(
    "--shard-size",
    default=4096,
    show_default=True,
    type=click.IntRange(1),
    help="Images per file of the store.",
)
@click.option("--fit-pca", is_flag=True, help="Write pca.safetensors once the store is complete.")
@click.option(
    "--prior-draws",
    type=click.IntRange(1),
    help="Write prior_samples.safetensors: so many samples of the bundle's prior per caption.",
)
@click.option(
    "--prior",
    type=click.Choice(common.PRIORS),
    default="diffusion",
    show_default=True,
    help="Prior of --prior-draws.",
)
@common.seed_option
@common.hosts_options
@common.json_option
def embed(out: Path, as_json: bool, **options: Any) -> None:
    """Write a store of CLIP embeddings (key, z_i, z_t, token ids); run again to resume.

    On several hosts, run the same command on each of them, with an --out that all of them see. Each
    writes its own shards; process 0 fits the PCA and draws from the prior once all are there.

    A prior can train on the store instead of images:
    unclip train … --config.data.embeddings=OUT --config.eval.embeddings=OUT_OF_THE_HELD_OUT_SPLIT

    --prior-draws prepares the fine-tuning of a decoder on the prior's samples:
    unclip train … --config.train.prior_samples=OUT/prior_samples.safetensors

    Example: unclip embed --bundle runs/clip_bundle --data emoji --out runs/embeddings --fit-pca
    """
    hosts = {name: options.pop(name) for name in common.HOSTS}
    options["styles"] = common.split_list(options["styles"])
    with Progress() as progress:
        common.use_compile_cache()
        common.use_cores([options["model"]])
        from unclip_jax.core import distributed

        # A process that is done waits at the end for process 0, which may have much left to do.
        with distributed.joined(**hosts, shutdown_timeout=PATIENCE):
            progress.phase(f"loading {options['model']} and {options['data']}")
            from unclip_jax.workflows.embedding import EmbedJob, write_store

            result = write_store(EmbedJob(out=out, **options), progress)
            if not distributed.is_process_zero():
                return
    if as_json:
        common.echo_json(result)
    else:
        click.echo(_line(result))


def _line(result: Mapping[str, Any]) -> str:
    parts = [f"{result['examples']} images"]
    parts += [f"{result['written']} of {result['shards']} shards written"]
    line = f"{result['store']}  {', '.join(parts)}"
    if "components_99" in result:
        of = f"{result['components_99']} of {result['width']} components"
        line += f"; {of} explain 99% of the variance"
    if "captions" in result:
        line += f"; {result['prior_draws']} samples of {result['captions']} captions"
    return line
