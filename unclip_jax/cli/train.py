"""`unclip train`: trains one stage from a config file; the same command resumes."""

import functools
from collections import Counter
from pathlib import Path
from typing import Any

import click

from unclip_jax.cli import common
from unclip_jax.cli.config_files import PASS_THROUGH, PassThrough, config_option, read_config
from unclip_jax.cli.progress import Progress, TrainingProgress, note


@click.command("train", cls=PassThrough, context_settings=PASS_THROUGH)
@config_option
@click.option(
    "--workdir",
    required=True,
    type=common.OutPath(file_okay=False, path_type=Path),
    help="Folder of the run: checkpoints, metrics, samples.",
)
@click.option(
    "--profile",
    default=0,
    metavar="STEPS",
    type=click.IntRange(min=0),
    help="Write a profiler trace of so many steps, from the third step of this start on.",
)
@common.json_option
@common.hosts_options
@click.pass_context
def train(
    ctx: click.Context,
    config_file: str,
    workdir: Path,
    profile: int,
    as_json: bool,
    **hosts: Any,
) -> None:
    """Train one stage from a config file; run the same command again to resume.

    FILE is a config of this package (configs/emoji/clip.py) or your own. FILE:smoke is a tiny
    variant that runs in under a minute. Change any value with --config.SECTION.KEY=VALUE.

    WORKDIR/report.html shows curves, speed and samples; it is refreshed at every checkpoint.

    --profile writes WORKDIR/profile, for TensorBoard's profile plugin or Perfetto.

    Compiled programs are kept in $JAX_COMPILATION_CACHE_DIR or the user's cache, and found there by
    later runs; --json counts which were compiled and which fetched. `unclip plan --compile --save`
    fills such a folder beforehand.

    On several hosts, run the same command on each of them, with a workdir that all of them see.

    Example: unclip train --config configs/emoji/clip.py --workdir runs/clip
    """
    with Progress() as progress:
        progress.phase("reading the config")
        config = read_config(config_file, ctx.args)
        common.use_compile_cache()
        from unclip_jax.core import compilations, distributed  # jax only for a valid config
        from unclip_jax.train import experiment
        from unclip_jax.workflows.training_samples import make_hooks

        with (
            distributed.joined(**hosts, preemption=True),
            compilations.counted_compilations() as counts,
        ):
            is_first = distributed.is_process_zero()
            progress.phase("loading data and models" if is_first else "")
            finished = experiment.train(
                config,
                workdir,
                make_hooks=make_hooks,
                make_progress=functools.partial(TrainingProgress, progress),
                log=lambda text: note(f"unclip train: {text}"),
                profile=profile,
            )
    if not is_first:
        return
    if as_json:
        made = {"compiled": Counter(counts.compiled), "fetched": Counter(counts.fetched)}
        common.echo_json({"workdir": str(workdir), "finished": finished, "programs": made})
    else:
        click.echo(f"{workdir}: {'finished' if finished else 'stopped; run again to resume'}")
