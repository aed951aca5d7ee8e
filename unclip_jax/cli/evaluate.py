"""`unclip eval`: metrics of a bundle on a data set."""

from pathlib import Path
from typing import Any

import click

from unclip_jax.cli import common
from unclip_jax.cli.common import FEW
from unclip_jax.cli.progress import Progress, note
from unclip_jax.core import files
from unclip_jax.core.errors import UserError
from unclip_jax.core.locks import locked_beside
from unclip_jax.evals.outputs import SUITE_NAMES, output_files

OWN_CLIP = (
    "the evaluation CLIP is the model's own: metrics of a CLIP that judges its own model favor it; "
    "pass another as --eval-clip"
)


@click.command(name="eval")
@common.model_option
@click.option("--data", default="emoji", show_default=True, help="Data set name or folder.")
@click.option("--suite", type=click.Choice(SUITE_NAMES), default="retrieval", show_default=True)
@click.option("--concepts", default="all", show_default=True, help=common.CONCEPTS)
@click.option("--styles", default="", help="Styles to select, separated by commas [all].")
@click.option("--split", "splits", multiple=True, help="Held-out split; repeatable [all of them].")
@common.renamed_option(
    "--eval-clip",
    "--judge",
    help="Bundle with an independently trained CLIP (all suites that judge images).",
)
@click.option("--pca", help="PCA file for the gallery [the bundle's].")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option("--limit", type=click.IntRange(min=2), help="Maximum number of images per split.")
@click.option(
    "--prompts",
    type=click.IntRange(min=2),
    default=200,
    show_default=True,
    help="Number of prompts to sample.",
)
@click.option(
    "--prompts-file",
    type=click.Path(),
    help="Prompts of suite prompts: JSON of groups, or a prompt a line.",
)
@click.option("--size", type=int, help="Pixels of the samples [the bundle's].")
@click.option(
    "--batch", type=click.IntRange(min=1), default=32, show_default=True, help="Batch size."
)
@common.seed_option
@click.option("--overwrite", is_flag=True, help="Replace the suite's files in --out.")
@common.json_option
def evaluate(model: str, suite: str, out: Path, **options: Any) -> None:
    """Measure a bundle on a data set; write SUITE.json, SUITE.md and SUITE.png.

    \b
    retrieval     text-to-image recall of the CLIP on held-out concepts and combinations
    priors        cosine of each prior's image embeddings with the true ones, and baselines;
                  decoded images of each prior, also as priors_images.png
    conditioning  rise of the held-out error when an input is swapped; upsampler against bicubic
    samples       concepts of sampled images recognized by another CLIP; nearest training images
    combinations  new combinations drawn, against the nearest training image; by another CLIP
    prompts       ranks of a file's prompts by another CLIP: are plain prompts drawn right?
    pca           components needed for the variance of the CLIP's image embeddings; codec error of
                  the bundle's prior_ar; both for --eval-clip too
    inversion     PSNR of held-out images reconstructed from their latents, by number of levels
    edits         cosine of edited images with their target text, measured with another CLIP
    reconstruction  held-out images decoded from their latents, and varied: PSNR, cosine, identity
    gallery       images: the paper's figures 3, 4, 5, 6, 7 and 9

    The suites conditioning, samples, inversion, edits and reconstruction also write
    SUITE_images.png.

    Every metric has a 95% bootstrap interval and, where there is one, the baseline to beat.

    Example: unclip eval --model emoji --data emoji --suite retrieval --out report
    """
    overwrite, as_json = options.pop("overwrite"), options.pop("as_json")
    files.refuse_existing(out, output_files(suite), overwrite=overwrite)
    lock = locked_beside(out, "unclip eval")
    with lock, files.scratch_for(out, inside=True) as scratch, Progress("it") as progress:
        files.refuse_existing(out, output_files(suite), overwrite=overwrite)
        folder = scratch / "ready"
        folder.mkdir()
        report, table = _measure(model, suite, folder, progress, options)
        files.publish(folder, out, overwrite=overwrite)
    if as_json:
        common.echo_json(report)
    else:
        click.echo(table)
    _note_few(report)
    note(f"wrote {out}")


def _measure(
    model: str, suite: str, folder: Path, progress: Progress, options: dict[str, Any]
) -> tuple[dict[str, Any], str]:
    """Loads the bundles and writes the suite's files; returns its JSON object and Markdown."""
    progress.phase(f"loading {model}")
    common.use_compile_cache()
    # Imported late, so that `--help` and a taken --out do not wait for jax.
    from unclip_jax.checkpoint import bundle
    from unclip_jax.evals.runner import write_suite
    from unclip_jax.evals.settings import Settings

    options["styles"] = common.split_list(options["styles"])
    options["splits"] = options["splits"] or held_out_splits(options["data"])
    recorded = {"model": model, **options}
    other, size = options.pop("eval_clip"), options.pop("size")
    settings = Settings(
        **options,
        eval_clip=bundle.load(other) if other else None,
        sample_size=size,
        image_folder=folder,
        report=progress.report,
    )
    loaded = bundle.load(model)
    if settings.judged_by_itself(suite, loaded):
        progress.say(OWN_CLIP)
    progress.phase(f"suite {suite}")
    return write_suite(suite, loaded, settings, recorded, folder)


def _note_few(report: dict[str, Any]) -> None:
    fewest = min((metric["n"] for metric in report.get("metrics", {}).values()), default=FEW)
    if fewest < FEW:
        note(f"note: a metric of {fewest} examples means little")


def held_out_splits(data: str) -> tuple[str, ...]:
    """Names the splits of a data set except "train"; that of new combinations comes last."""
    from unclip_jax.data.sources import split_sizes

    found = sorted(name for name in split_sizes(data) if name != "train")
    if not found:
        raise UserError(f"data set {data!r} has no held-out split; pass --split train")
    return tuple(sorted(found, key=lambda name: name == "test_combinations"))
