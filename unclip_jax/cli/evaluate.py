"""`unclip eval`: figures of a bundle on a data set."""

import time
from pathlib import Path
from typing import Any

import click

from unclip_jax.cli import common
from unclip_jax.cli.progress import Progress
from unclip_jax.core import files
from unclip_jax.core.errors import UserError
from unclip_jax.core.locks import locked_beside
from unclip_jax.evals.outputs import written_by

SUITES = (
    "retrieval",
    "priors",
    "conditioning",
    "samples",
    "pca",
    "inversion",
    "edits",
    "gallery",
)


def held_out_splits(data: str) -> tuple[str, ...]:
    """Names the splits of a data set but "train", that of new combinations last."""
    from unclip_jax.data.sources import split_sizes

    found = sorted(name for name in split_sizes(data) if name != "train")
    if not found:
        raise UserError(f"data set {data!r} has no held-out split; name one: --split train")
    return tuple(sorted(found, key=lambda name: name == "test_combinations"))


@click.command(name="eval", short_help="Metrics of a bundle.")
@common.model_option
@click.option("--data", default="emoji", show_default=True, help="Data set name or folder.")
@click.option("--suite", type=click.Choice(SUITES), default="retrieval", show_default=True)
@click.option("--concepts", default="all", show_default=True, help=common.CONCEPTS)
@click.option("--styles", default="", help="Styles that count, joined by commas; default: all.")
@click.option("--split", "splits", multiple=True, help="Held-out splits; default: the set's own.")
@click.option("--judge", help="Bundle with another CLIP (samples, priors, pca, edits).")
@click.option("--pca", help="PCA file for the gallery; default: that of the bundle.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option("--limit", type=click.IntRange(min=2), help="At most this many pictures a split.")
@click.option("--prompts", type=click.IntRange(min=2), default=200, show_default=True)
@click.option("--size", type=int, help="Pixels of the samples; default: the bundle's.")
@click.option("--batch", type=click.IntRange(min=1), default=32, show_default=True)
@common.seed_option
@click.option("--overwrite", is_flag=True, help="Replace the suite's files in --out.")
@common.json_option
def evaluate(
    model: str, data: str, suite: str, judge: str | None, out: Path, **options: Any
) -> None:
    """Measures a bundle and writes SUITE.json, SUITE.md and SUITE.png.

    \b
    retrieval     text-to-image recall of the CLIP on held-out concepts and combinations
    priors        cosine of each prior's image embeddings to the true ones, beside baselines;
                  what the decoder makes of them, also as priors_pictures.png
    conditioning  rise of the held-out error when an input is exchanged; upsampler against bicubic
    samples       concepts of sampled pictures named by another CLIP; nearest training pictures
    pca           components that hold the variance of the CLIP's image embeddings; what the codes
                  of the bundle's prior_ar lose of them; both of --judge too
    inversion     PSNR of held-out pictures rebuilt from their latents, by number of levels
    edits         cosine of edited pictures to the text they were moved to, asked of another CLIP
    gallery       pictures instead: the form of the paper's figures 3, 4, 5, 6, 7 and 9

    Every figure has a 95% bootstrap interval and, where there is one, the floor it must beat.

    Example: unclip eval --model emoji --data emoji --suite retrieval --out report
    """
    files.refuse_existing(out, written_by(suite), overwrite=options["overwrite"])
    lock = locked_beside(out, "unclip eval")
    with lock, files.scratch_for(out, inside=True) as scratch, Progress("it") as progress:
        files.refuse_existing(out, written_by(suite), overwrite=options["overwrite"])
        progress.phase(f"loading {model}")
        folder = scratch / "ready"
        folder.mkdir()
        common.use_compile_cache()
        # Imported late, so that `--help` and a taken --out do not wait for jax.
        from unclip_jax import api

        settings = _settings(data, judge, options, folder, progress)
        start = time.perf_counter()
        stated = {"model": model, "data": data, "judge": judge}
        stated |= {"concepts": settings.concepts, "styles": settings.styles}
        stated |= {"splits": settings.splits}
        stated |= {key: options[key] for key in ("limit", "prompts", "size", "batch", "seed")}
        loaded = api.load(model)
        progress.phase(f"suite {suite}")
        result, table = _run(suite, loaded, settings, stated, folder, start)
        files.publish(folder, out, overwrite=options["overwrite"])
    if options["as_json"]:
        common.echo_json(result)
    else:
        click.echo(table)
    click.echo(f"wrote {out}", err=True)


def _settings(
    data: str, judge: str | None, options: dict[str, Any], folder: Path, progress: Progress
) -> Any:
    from unclip_jax import api
    from unclip_jax.evals.settings import Settings

    return Settings(
        data=data,
        concepts=options["concepts"],
        styles=tuple(s.strip() for s in options["styles"].split(",") if s.strip()),
        splits=options["splits"] or held_out_splits(data),
        judge=api.load(judge) if judge else None,
        limit=options["limit"],
        prompts=options["prompts"],
        batch=options["batch"],
        seed=options["seed"],
        sample_size=options["size"],
        pca=options["pca"],
        pictures=folder,
        report=progress.report,
    )


def _run(
    suite: str, model: Any, settings: Any, stated: dict[str, Any], folder: Path, start: float
) -> tuple[dict[str, Any], str]:
    """Fills the folder and returns the JSON object and the text for people."""
    from unclip_jax.evals import gallery, report
    from unclip_jax.evals.runner import PLOTS, run_suite

    if suite == "gallery":
        result = gallery.write(folder, model, settings, stated)
        return result, (folder / "README.md").read_text(encoding="utf-8")
    figures = run_suite(suite, model, settings)
    stated = {**stated, "seconds": round(time.perf_counter() - start, 1)}
    draw = PLOTS.get(suite, report.plot)
    result = report.write(folder, suite, figures, stated, draw)
    return result, report.to_markdown(suite, figures, stated)
