"""`unclip export`: runs to a bundle; runs or a bundle to diffusers' folders or a program."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from unclip_jax.cli import common, program
from unclip_jax.cli.progress import Progress, say
from unclip_jax.core.errors import UserError
from unclip_jax.core.files import parse_json, scratch_for

TEXTS = ("name", "license")  # options that are written into files


@click.command(short_help="Finished training runs to a bundle.")
@click.argument("runs", nargs=-1, metavar="RUN...|BUNDLE", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to make.")
@click.option(
    "--format",
    "target",
    type=click.Choice(["bundle", "diffusers", "stablehlo"]),
    default="bundle",
    show_default=True,
    help="What to make; but for bundle, RUN may also be one bundle.",
)
@program.options
@click.option("--name", help="The bundle's name; default: the folder's.")
@click.option(
    "--dtype",
    type=click.Choice(["float16", "bfloat16", "float32"]),
    help="How parameters are stored; default: float16, or what a bundle has.",
)
@click.option(
    "--license", "--licence", default="Apache-2.0", show_default=True, help="Of the parameters."
)
@click.option(
    "--metrics",
    multiple=True,
    type=click.Path(path_type=Path),
    help="JSON of held-out figures, e.g. what `unclip eval` wrote; may be given again.",
)
@click.option(
    "--notes", type=click.Path(path_type=Path), help="Markdown for the top of the model card."
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="STAGE.FIELD=VALUE",
    help="Change a stage's sampling settings, e.g. decoder.guidance=3.0.",
)
@click.option(
    "--pca",
    type=click.Path(path_type=Path),
    help="Principal components to put in (unclip embed --fit-pca); default: an AR prior's.",
)
@click.option("--unfinished", is_flag=True, help="Take runs that are not at their last step.")
@common.json_option
@click.option("--overwrite", is_flag=True, help="Replace an existing bundle.")
def export(runs: tuple[Path, ...], out: Path, **options: Any) -> None:
    """Collects the EMA parameters of training runs, one stage each, into one bundle.

    A CLIP run alone gives the bundle that later stages are trained against. Beside the parameters
    stand README.md, the model card, and curves.png. With another --format one bundle may be given
    in place of runs: diffusers makes the folders of unCLIP's pipelines of Karlo's architecture (a
    Hugging Face CLIPModel of a CLIP alone), stablehlo a program that needs neither flax nor this
    package.

    Example: unclip export runs/clip runs/prior runs/decoder runs/upsampler --out mine
    """
    program.check_options(options)
    for option, text in (("--out", str(out)), *((f"--{k}", options[k]) for k in TEXTS)):
        if text is not None and not text.isprintable():
            raise UserError(f"{option} {text!r} is not printable text in UTF-8; type another")
    if not runs:
        raise UserError("no run given: pass the workdirs of `unclip train`")
    with Progress() as progress:
        progress.phase(f"reading {', '.join(map(str, runs))}")
        if options["target"] != "bundle":
            result, line = _to_other_format(runs, out, options, progress)
        else:
            stages = _to_bundle(runs, out, options, progress)
    if options["target"] == "bundle":
        common.echo_bundle(out, stages, options["as_json"])
    elif options["as_json"]:
        common.echo_json(result)
    else:
        click.echo(line)


def _to_bundle(
    runs: Sequence[Path], out: Path, options: Mapping[str, Any], progress: Progress
) -> list[str]:
    """Writes the bundle of runs and returns the stages in it."""
    from unclip_jax.checkpoint import bundle
    from unclip_jax.workflows.model_card import read_metrics, write_card

    made, results = read_runs(runs, out, options)
    made = dataclasses.replace(
        _with_changes(made, options["changes"]),
        metrics=read_metrics(options["metrics"]),
        pca=_pca(results, options["pca"]),
    )
    notes = _read_text(options["notes"], "--notes") if options["notes"] else ""
    progress.phase(f"writing {out}")
    bundle.save(
        made,
        out,
        overwrite=options["overwrite"],
        write_beside=lambda folder: write_card(folder, made, results, notes),
    )
    return list(made.stages)


def _usable(result: Any, allow_unfinished: bool) -> Any:
    """Refuses an unfinished run unless asked for; without a variance table a fixed one is meant."""
    if not result.is_finished:
        where = f"{result.folder} is at step {result.step} of {result.config['train']['steps']}"
        if not allow_unfinished:
            raise UserError(f"{where}: train on, or pass --unfinished")
        say(where)
    diffusion = result.spec.diffusion
    if diffusion is None or diffusion.variance != "analytic" or result.arrays:
        return result
    say(
        f"{result.folder} has no table of the analytic variance; the bundle samples "
        f"{result.spec.stage} with variance fixed_small"
    )
    diffusion = dataclasses.replace(diffusion, variance="fixed_small")
    return dataclasses.replace(result, spec=dataclasses.replace(result.spec, diffusion=diffusion))


def read_bundle(paths: Sequence[Path], dtype: str | None) -> Any:
    """Loads the one bundle given in place of runs, its parameters as stored; None if it is none."""
    from unclip_jax.checkpoint import bundle

    name = str(paths[0])
    if len(paths) != 1 or not (
        name in bundle.shipped_names() or (paths[0] / "bundle.json").is_file()
    ):
        return None
    made = bundle.load(name, params_dtype=None)
    if dtype is None:
        return made
    stages = {name: dataclasses.replace(held, dtype=dtype) for name, held in made.stages.items()}
    return dataclasses.replace(made, stages=stages)


def read_runs(
    runs: Sequence[Path], out: Path, options: Mapping[str, Any]
) -> tuple[Any, Sequence[Any]]:
    """Reads runs and puts them together: the bundle and the runs."""
    from unclip_jax.checkpoint.runs import read_run

    results = [_usable(read_run(run), options["unfinished"]) for run in runs]
    name, dtype = options["name"] or out.resolve().name, options["dtype"] or "float16"
    made = make_bundle(results, name, dtype)
    return dataclasses.replace(made, license=options["license"]), results


def _to_other_format(
    runs: Sequence[Path], out: Path, options: Mapping[str, Any], progress: Progress
) -> tuple[dict[str, Any], str]:
    """Makes diffusers' folders or a program of one bundle, or of runs; returns what to print."""
    from unclip_jax.checkpoint import bundle

    is_given = len(runs) == 1 and not (runs[0] / "config.json").exists()
    if options["target"] == "diffusers" and is_given and not options["changes"]:
        return _to_diffusers(bundle.resolve(str(runs[0])), out, options, progress)
    made = read_bundle(runs, options["dtype"]) or read_runs(runs, out, options)[0]
    made = _with_changes(made, options["changes"])
    if options["target"] == "stablehlo":
        progress.phase(f"tracing and writing {out}")
        return program.save(made, out, options)
    with scratch_for(out) as scratch:
        return _to_diffusers(bundle.save(made, scratch / "bundle"), out, options, progress)


def _to_diffusers(
    source: Path, out: Path, options: Mapping[str, Any], progress: Progress
) -> tuple[dict[str, Any], str]:
    from unclip_jax.convert.export_diffusers import export_diffusers

    made = export_diffusers(
        source,
        out,
        dtype=options["dtype"],
        overwrite=options["overwrite"],
        say=progress.announce,
    )
    return {"folder": str(out), "parts": made}, f"{out}  {', '.join(made)}"


def make_bundle(results: Sequence[Any], name: str, dtype: str) -> Any:
    """Puts runs together, with the vocabulary they share and where they came from."""
    from unclip_jax.checkpoint.bundle import Bundle, Stage, cascade_of

    stages = {}
    for result in sorted(results, key=lambda r: r.spec.row.key_id):
        if result.spec.stage in stages:
            raise UserError(f"two runs of stage {result.spec.stage}: {result.folder} is one")
        stages[result.spec.stage] = Stage(result.spec, result.ema_params, dtype)
    arrays = {
        f"{result.spec.stage}.{key}": array
        for result in results
        for key, array in result.arrays.items()
    }
    _check_clip(results)
    return Bundle(
        name=name,
        stages=stages,
        tokenizer=_tokenizer(results),
        provenance=provenance(results),
        cascade=cascade_of(stages),
        arrays=arrays,
    )


def _tokenizer(results: Sequence[Any]) -> Any:
    """Returns the CLIP run's vocabulary, or that of the CLIP bundle a run was trained against."""
    from unclip_jax.checkpoint import bundle
    from unclip_jax.text.tokenizer import Tokenizer

    for result in results:
        if (result.folder / "tokenizer.json").exists():
            return Tokenizer.load(result.folder / "tokenizer.json")
    for result in results:
        clip = result.config.get("clip")
        if clip and clip != "random":
            return bundle.load(clip, stages=["clip"]).tokenizer
    return None


def _check_clip(results: Sequence[Any]) -> None:
    """Fails if a run was trained against another CLIP than the one exported with it."""
    from unclip_jax.checkpoint import bundle

    clips = [result for result in results if result.spec.row.kind == "clip"]
    if not clips:
        return
    for result in results:
        name = result.config.get("clip")
        if not name or name == "random":
            continue
        if "identity" in result.config:
            if result.config["identity"]["clip"] not in clips[0].digests:
                raise UserError(
                    f"{result.folder} was trained against another CLIP than that of "
                    f"{clips[0].folder}"
                )
            continue
        try:
            held = bundle.read_manifest(bundle.resolve(name)).provenance
        except UserError as error:
            say(f"{result.folder}: its CLIP was not checked: {error}")
            continue
        found = held.get("stages", {}).get("clip", {}).get("params_sha256")
        if found not in clips[0].digests:
            raise UserError(
                f"{result.folder} was trained against the CLIP in {name}, "
                f"which is not that of {clips[0].folder}"
            )


def _pca(results: Sequence[Any], file: Path | None) -> Any:
    """Returns the PCA of a file, else that of a run that has one; it must be of the CLIP here."""
    from unclip_jax.checkpoint.pca_file import PCA_FILE, load_pca

    folders = [result.folder / PCA_FILE for result in results]
    file = file or next((path for path in folders if path.exists()), None)
    if file is None:
        return None
    pca = load_pca(file)
    known = {result.config.get("identity", {}).get("clip") for result in results}
    known = known.union(*(result.digests for result in results if result.spec.row.kind == "clip"))
    if pca.clip not in known:
        raise UserError(f"{file} is of another CLIP's embeddings than the CLIP of these runs")
    return pca


def provenance(results: Sequence[Any]) -> dict[str, Any]:
    """Returns where a bundle came from: commit, date, and for each stage data, steps, hardware."""
    from unclip_jax import __version__
    from unclip_jax.checkpoint.runs import params_digest
    from unclip_jax.train.environment import git_commit

    stages = {}
    for result in results:
        # Which file it was says its digest, in "identity": its path is the trainer's own affair.
        train = {k: v for k, v in result.config["train"].items() if k != "prior_samples"}
        stages[result.spec.stage] = {
            "steps": result.step,
            "of_steps": result.config["train"]["steps"],
            "seed": result.config["seed"],
            "data": {**result.config["data"], "fingerprint": data_fingerprint(result.config)},
            "optim": result.config["optim"],
            "train": train,
            "identity": result.config.get("identity"),
            "environment": list(result.environment),
            "params_sha256": params_digest(result.ema_params),
        }
    return {
        "git_commit": git_commit(),
        "unclip_jax": __version__,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "stages": stages,
    }


def data_fingerprint(config: Mapping[str, Any]) -> str | None:
    """Returns the fingerprint that the run recorded; an older run's is taken from what is there."""
    from unclip_jax.data.sources import fingerprint

    if "identity" in config:
        return config["identity"]["data"]
    try:
        return fingerprint(config["data"]["name"])
    except UserError:
        return None


def _with_changes(made: Any, changes: Sequence[str]) -> Any:
    """Applies --set to the sampling settings of stages."""
    from unclip_jax.core.config import build, to_dict
    from unclip_jax.core.renamed import with_new_names
    from unclip_jax.models.stages import STAGES

    stages = dict(made.stages)
    for change in changes:
        target, equals, text = change.partition("=")
        stage, dot, field = target.partition(".")
        if not (equals and dot):
            raise UserError(f"--set takes STAGE.FIELD=VALUE, not {change!r}")
        held = made.stage(stage)
        try:
            value = parse_json(text, change)
        except UserError:  # a word, such as ddim
            value = text
        kind = STAGES[stage].sampling
        if kind is None:
            raise UserError(f"--set {change}: stage {stage} is not sampled")
        change = with_new_names(kind, {field: value}, f"{stage}.sampling")
        settings = to_dict(stages[stage].spec.sampling or kind()) | change
        sampling = build(kind, settings, f"{stage}.sampling")
        spec = dataclasses.replace(stages[stage].spec, sampling=sampling)
        stages[stage] = dataclasses.replace(held, spec=spec)
    return dataclasses.replace(made, stages=stages)


def _read_text(path: Path, option: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {option} {path}: {error}") from error
