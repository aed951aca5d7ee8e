"""`unclip eval`: metrics of a bundle on a data set."""

import contextlib
import dataclasses
import functools
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unclip_jax.cli import common
from unclip_jax.cli.common import FEW
from unclip_jax.cli.completion import Model
from unclip_jax.cli.progress import Progress, note
from unclip_jax.core import files
from unclip_jax.core.errors import UserError
from unclip_jax.core.locks import locked_beside
from unclip_jax.evals.outputs import (
    FEW_PROMPTS,
    PROMPTS,
    READ_BY,
    RESUMED,
    SUITE_NAMES,
    WITHOUT_DATA,
    is_read,
    output_files,
)

if TYPE_CHECKING:
    from unclip_jax.evals.settings import Settings

Report = tuple[dict[str, Any], str]
"""A report's JSON object and its Markdown."""

PATIENCE = 7 * 24 * 3600  # seconds that a process which is done waits for process 0
MOST_GUIDANCE = 1000.0


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
@click.option(
    "--compare",
    "compared",
    multiple=True,
    type=Model(),
    help="Bundle to measure in the same way, beside --model; repeatable.",
)
@click.option(
    "--baseline", type=Model(), help="Bundle to compare the model with, on the same prompts."
)
@click.option(
    "--answers",
    multiple=True,
    type=click.Path(),
    help="Answers saved from the page of suite preference, a file a rater; repeatable.",
)
@click.option(
    "--lpips", help="LPIPS of suite reconstruction: alex:WEIGHTS,HEADS or vgg:WEIGHTS,HEADS."
)
@click.option(
    "--ratings",
    type=click.Path(),
    help="Table of image and rating (.csv, .tsv, .jsonl) of suite aesthetics.",
)
@click.option("--scales", default="1,2,3,4", show_default=True, help="Guidance scales of a sweep.")
@click.option("--pca", help="PCA file for the gallery [the bundle's].")
@click.option("--out", type=common.OUT, required=True, help="Folder to write.")
@click.option("--limit", type=click.IntRange(min=2), help="Maximum number of images per split.")
@click.option(
    "--prompts",
    type=click.IntRange(min=2),
    help="Number of prompts to sample [200; fidelity: 500; guidance: 60].",
)
@click.option(
    "--prompts-file",
    type=click.Path(),
    help="Prompts of suite prompts: JSON of groups, or a prompt a line.",
)
@click.option("--size", type=int, help="Pixels of the samples [the bundle's].")
@click.option("--guidance", type=float, help="Guidance of the samples of fidelity [the bundle's].")
@click.option(
    "--prior",
    type=click.Choice([*common.PRIORS, "text", "none"]),
    help="Source of the image embedding of the samples [the bundle's]; a --baseline has its own.",
)
@click.option(
    "--features",
    default="clip",
    show_default=True,
    help="Features of fidelity and guidance: clip (--eval-clip's, else the model's), "
    "inception:FILE, inception-adm:FILE, inception-clean:FILE (FID's), or dinov2:FOLDER.",
)
@click.option(
    "--batch", type=click.IntRange(min=1), default=32, show_default=True, help="Batch size."
)
@common.seed_option
@click.option("--smoke", is_flag=True, help="The least work: does the command run here?")
@common.hosts_options
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
    aesthetics    --ratings of images learned by a probe; rating and recall of samples by --scales
    preference    a page on which people compare the model with --baseline; their --answers
    fidelity      Fréchet and kernel distances, precision and recall, CLIP score of samples of
                  held-out captions; a run that was stopped continues
    guidance      fidelity, diversity and CLIP score by --scales; --baseline reads captions only
    binding       colors and forms of two objects, read from the pixels (--data scenes)
    complexity    objects drawn right, of one to six (--data scenes)
    spelling      letters and words drawn right, by length (--data words)
    gallery       images: the paper's figures 3, 4, 5, 6, 7 and 9
    paper         every suite that makes a table or figure of the paper, beside its numbers

    The suites conditioning, samples, inversion, edits, reconstruction, aesthetics, fidelity,
    guidance, binding, complexity and spelling also write SUITE_images.png. Several processes can
    share fidelity and guidance: the same command on each, with an --out that all see.

    Most metrics have a 95% interval and, where there is one, the baseline to beat.
    --compare puts other bundles' numbers beside them; their images are compare1_… and so on.

    Example: unclip eval --model emoji --data emoji --suite retrieval --out report
    """
    overwrite, as_json = options.pop("overwrite"), options.pop("as_json")
    found = _run(model, suite, out, options, overwrite)
    if found is None:
        return
    report, table = found
    if as_json:
        common.echo_json(report)
    else:
        click.echo(table)
    _note_few(report)
    note(f"wrote {out}")


def _run(
    model: str, suite: str, out: Path, options: dict[str, Any], overwrite: bool
) -> Report | None:
    """Refuses what cannot be, joins the other processes, and runs; None but in process 0."""
    hosts = {name: options.pop(name) for name in common.HOSTS}
    if suite not in RESUMED and any(value is not None for value in hosts.values()):
        raise UserError(f"suite {suite} runs in one process; leave --coordinator out")
    options["prompts"] = options["prompts"] or PROMPTS.get(suite, FEW_PROMPTS)
    compared, answers = options.pop("compared"), options["answers"]
    rated = suite == "preference" and bool(answers)
    names = output_files(suite, len(compared), rated=rated)
    _refuse_unread(suite, options)
    if compared and suite in ("gallery", "preference"):
        raise UserError(f"suite {suite} has no metrics to compare; run it once for each bundle")
    files.refuse_existing(out, names, overwrite=overwrite)
    if len({model, *compared}) <= len(compared) and not options["smoke"]:
        raise UserError("--compare names a bundle that is measured already; leave it out")
    with Progress("it") as progress:
        progress.phase(f"loading {model}")
        common.use_compile_cache()
        bundles = [model, *compared, options["eval_clip"], options["baseline"]]
        common.use_cores(bundles, options["size"])
        # Imported late, so that `--help` and a taken --out do not wait for jax.
        from unclip_jax.core import distributed

        measure = functools.partial(_measure, [model, *compared], suite, progress, options)
        if rated:
            measure = functools.partial(_rate, [Path(file) for file in answers], out)
        cache = out.absolute().parent / f".{out.name}.{suite}" if suite in RESUMED else None
        with distributed.joined(**hosts, shutdown_timeout=PATIENCE):
            return _published(measure, out, names, cache, overwrite)


def _refuse_unread(suite: str, options: dict[str, Any]) -> None:
    """Refuses an option that would change nothing."""
    defaults = {option.name: option.default for option in evaluate.params}
    for name, value in options.items():
        if value not in (None, (), defaults[name]) and not is_read(suite, name):
            flag = f"--{name.replace('_', '-')}"
            suites = ", ".join((*READ_BY[name], "paper"))
            raise UserError(f"suite {suite} does not read {flag}, which is of {suites}")


def _published(
    measure: Callable[[Path | None, Path | None], Report | None],
    out: Path,
    names: list[str],
    cache: Path | None,
    overwrite: bool,
) -> Report | None:
    """Runs a suite and publishes its files; processes other than 0 do their share, for None.

    Args:
        measure: writes the suite's files to a folder; takes that and `cache`.
        names: of the suite's files.
        cache: see `Settings`; removed once the files are there.
    """
    from unclip_jax.core import distributed

    with contextlib.ExitStack() as stack:
        folder: list[Path] = []

        def begin() -> None:
            stack.enter_context(locked_beside(out, "unclip eval"))
            files.refuse_existing(out, names, overwrite=overwrite)
            folder.append(stack.enter_context(files.scratch_for(out, inside=True)) / "ready")
            folder[0].mkdir()

        distributed.run_on_process_zero(begin)
        found = measure((folder or [None])[0], cache)
        if found is not None:
            files.publish(folder[0], out, overwrite=overwrite)
        if found is not None and cache is not None:
            shutil.rmtree(cache, ignore_errors=True)
        return found


def _rate(answers: list[Path], out: Path, folder: Path, cache: None) -> Report:
    """Writes the report on raters' answers; returns its JSON object and Markdown."""
    from unclip_jax.evals.runner import write_answers

    return write_answers(folder, out, answers, {"answers": [str(file) for file in answers]})


def _measure(
    models: list[str],
    suite: str,
    progress: Progress,
    options: dict[str, Any],
    folder: Path | None,
    cache: Path | None,
) -> Report | None:
    """Loads the bundles and writes the suite's files; returns its JSON object and Markdown.

    Args:
        models: the bundle to measure, then those to compare it with.
        folder: where to write; None in processes other than 0, which return None.
        cache: see `Settings`.
    """
    from unclip_jax.checkpoint import bundle
    from unclip_jax.evals.runner import run_suite, write_suite

    options["styles"] = common.split_list(options["styles"])
    if suite not in WITHOUT_DATA:
        chosen = (options[name] for name in ("data", "concepts", "styles"))
        options["splits"] = options["splits"] or held_out_splits(*chosen)
    settings, recorded = _settings(options, progress)
    note = None if folder is None else progress.say
    settings = dataclasses.replace(settings, image_folder=folder, cache=cache, note=note)
    bundles = []
    for name in models:
        progress.phase(f"loading {name}")
        bundles.append((name, bundle.load(name)))
    judged = settings.comparing(suite, [loaded for _, loaded in bundles])
    if folder is None:
        for _, loaded in bundles:
            run_suite(suite, loaded, judged)
        return None
    for line in judged.judging_notes(suite, bundles):
        progress.say(line)
    progress.phase(f"suite {suite}")
    (model, loaded), *others = bundles
    recorded = {"model": model, **recorded, "compare": models[1:]}
    return write_suite(suite, loaded, settings, recorded, folder, others)


def _settings(options: dict[str, Any], progress: Progress) -> tuple["Settings", dict[str, Any]]:
    """Returns the suite's settings, and the options as the report states them."""
    from unclip_jax.checkpoint import bundle
    from unclip_jax.evals.prompts import read_prompts
    from unclip_jax.evals.settings import Settings
    from unclip_jax.evals.smoke import small_settings

    if options["prompts_file"]:
        read_prompts(Path(options["prompts_file"]))  # an error before the models are loaded
    options["scales"] = _scales(options["scales"])
    recorded = dict(options)
    other, size = options.pop("eval_clip"), options.pop("size")
    against = options.pop("baseline")
    for name in filter(None, (other, against)):
        progress.phase(f"loading {name}")
    settings = Settings(
        **options,
        eval_clip=bundle.load(other) if other else None,
        baseline=bundle.load(against) if against else None,
        sample_size=size,
        report=progress.report,
        count=progress.count,
    )
    if settings.smoke:
        settings = small_settings(settings)
        recorded |= {name: getattr(settings, name) for name in ("limit", "prompts", "batch")}
    return settings, recorded


def _scales(text: str) -> tuple[float, ...]:
    """Reads a list of guidance scales."""
    try:
        scales = tuple(dict.fromkeys(float(part) for part in text.split(",")))
    except ValueError:
        scales = ()
    if not scales or not all(0.0 <= scale <= MOST_GUIDANCE for scale in scales):
        raise UserError(
            f"--scales takes guidance scales of 0 to {MOST_GUIDANCE:g}, as in 1,2,3,4, not {text!r}"
        )
    return scales


def _note_few(report: dict[str, Any]) -> None:
    if "note" in report:
        note(f"note: {report['note']}")
        return
    fewest = min((metric["n"] for metric in report.get("metrics", {}).values()), default=FEW)
    if fewest < FEW:
        note(f"note: a metric of {fewest} examples means little")


def held_out_splits(
    data: str, concepts: str = "all", styles: Sequence[str] = ()
) -> tuple[str, ...]:
    """Names the splits of a data set except "train"; that of new combinations comes last.

    A split without an example of these concepts and styles is left out; of none, all are named.
    """
    from unclip_jax.data.sources import any_matches, load_source, split_sizes

    found = sorted(name for name in split_sizes(data) if name != "train")
    if not found:
        raise UserError(f"data set {data!r} has no held-out split; pass --split train")
    ordered = sorted(found, key=lambda name: name == "test_combinations")
    if concepts == "all" and not styles:
        return tuple(ordered)
    chosen = {"concepts": concepts, "styles": styles}
    has_some = [name for name in ordered if any_matches(load_source(data, name), **chosen)]
    return tuple(has_some or ordered)
