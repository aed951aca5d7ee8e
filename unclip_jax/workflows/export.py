"""Assembles a bundle from training runs: parameters, vocabulary, PCA and provenance."""

import dataclasses
import datetime
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unclip_jax import __version__
from unclip_jax.checkpoint import bundle
from unclip_jax.checkpoint.bundle import Bundle, SamplingDefaults, Stage, cascade_of
from unclip_jax.checkpoint.pca_file import PCA_FILE, load_pca
from unclip_jax.checkpoint.runs import RunResult, params_digest, read_run
from unclip_jax.convert.export_diffusers import export_diffusers as write_diffusers
from unclip_jax.core.config import build, to_dict
from unclip_jax.core.errors import UserError
from unclip_jax.core.files import parse_json, scratch_for
from unclip_jax.core.renamed import with_new_names
from unclip_jax.data.sources import fingerprint
from unclip_jax.models.pca import Pca
from unclip_jax.models.stages import CLIP, PRIORS, STAGES
from unclip_jax.text.tokenizer import Tokenizer
from unclip_jax.train.environment import git_commit
from unclip_jax.workflows.model_card import read_metrics, write_card

Say = Callable[[str], None]
"""Takes a line for the user."""


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """How runs become a bundle.

    Attributes:
        name: of the bundle; None for the name of its folder.
        dtype: of the stored parameters; None for float16, or for what a given bundle has.
        license: of the parameters.
        changes: sampling settings to change, as STAGE.FIELD=VALUE.
        allow_unfinished: accept runs that have not reached their last step.
        overwrite: replace what an earlier export wrote.
    """

    name: str | None = None
    dtype: str | None = None
    license: str = ""
    changes: tuple[str, ...] = ()
    allow_unfinished: bool = False
    overwrite: bool = False


def write_bundle(
    exported: Bundle,
    runs: Sequence[RunResult],
    out: Path,
    *,
    metrics: Sequence[Path] = (),
    pca: Path | None = None,
    notes: str = "",
    overwrite: bool = False,
) -> None:
    """Writes the bundle of runs that `assemble` returned, with its model card.

    Args:
        metrics: JSON files to include, such as the reports of `unclip eval`.
        pca: file of principal components; None for those of a run that has some.
        notes: Markdown for the top of the model card.
    """
    exported = dataclasses.replace(exported, metrics=read_metrics(metrics), pca=_pca(runs, pca))
    card = lambda folder: write_card(folder, exported, runs, notes)  # noqa: E731
    bundle.save(exported, out, overwrite=overwrite, write_extra=card)


def export_diffusers(
    sources: Sequence[Path], out: Path, options: ExportOptions, *, say: Say
) -> list[str]:
    """Writes one bundle, or runs, as the folders of diffusers' pipelines; returns their names."""
    kinds = {"dtype": options.dtype, "overwrite": options.overwrite, "say": say}
    is_run = (sources[0] / "config.json").exists()
    if len(sources) == 1 and not is_run and not options.changes:  # one stage in memory at a time
        return write_diffusers(bundle.resolve(str(sources[0])), out, **kinds)
    with scratch_for(out) as scratch:
        exported = load_or_assemble(sources, out, options, say)
        return write_diffusers(bundle.save(exported, scratch / "bundle"), out, **kinds)


def load_or_assemble(
    sources: Sequence[Path], out: Path, options: ExportOptions, say: Say
) -> Bundle:
    """Returns the one bundle that is given, its parameters as stored, else the bundle of runs."""
    name = str(sources[0])
    is_bundle = name in bundle.shipped_names() or (sources[0] / "bundle.json").is_file()
    if len(sources) > 1 or not is_bundle:
        return assemble(sources, out, options, say)[0]
    given = bundle.load(name, params_dtype=None)
    dtypes = {} if options.dtype is None else {"dtype": options.dtype}
    stages = {key: dataclasses.replace(stage, **dtypes) for key, stage in given.stages.items()}
    return with_settings(dataclasses.replace(given, stages=stages), options.changes)


def assemble(
    folders: Sequence[Path], out: Path, options: ExportOptions, say: Say
) -> tuple[Bundle, list[RunResult]]:
    """Reads runs, one per stage, and returns them with their bundle."""
    runs = [_checked(read_run(folder), options.allow_unfinished, say) for folder in folders]
    stages = {}
    for run in sorted(runs, key=lambda run: run.spec.row.key_id):
        if run.spec.stage in stages:
            raise UserError(
                f"two runs of stage {run.spec.stage}, one of them {run.folder}; pass only one"
            )
        stages[run.spec.stage] = Stage(run.spec, run.ema_params, options.dtype or "float16")
    _check_clip(runs, say)
    _check_frozen(runs)
    exported = Bundle(
        name=options.name or out.resolve().name,
        stages=stages,
        tokenizer=_tokenizer(runs),
        license=options.license,
        provenance=provenance(runs),
        sampling=SamplingDefaults(prior=default_prior(stages)),
        cascade=cascade_of(stages),
        arrays={f"{r.spec.stage}.{key}": array for r in runs for key, array in r.arrays.items()},
    )
    return with_settings(exported, options.changes), runs


def default_prior(stages: Mapping[str, Stage]) -> str:
    """Returns where z_i comes from unless a call says: nowhere for a decoder alone, as GLIDE is."""
    decoders = [stage for stage in stages.values() if stage.spec.row.kind == "decoder"]
    reads = any(stage.spec.model.reads_text for stage in decoders)
    alone = reads and not any(stage in stages for stage in PRIORS.values())
    return "none" if alone else SamplingDefaults().prior


def _checked(run: RunResult, allow_unfinished: bool, say: Say) -> RunResult:
    """Refuses an unfinished run; without its variance table, it gets the variance fixed_small."""
    if not run.is_finished:
        where = f"{run.folder} is at step {run.step} of {run.config['train']['steps']}"
        if not allow_unfinished:
            raise UserError(f"{where}; train on, or pass --unfinished")
        say(where)
    diffusion = run.spec.diffusion
    if diffusion is None or diffusion.variance != "analytic" or run.arrays:
        return run
    say(
        f"{run.folder} has no table of the analytic variance; the bundle samples "
        f"{run.spec.stage} with variance fixed_small"
    )
    diffusion = dataclasses.replace(diffusion, variance="fixed_small")
    return dataclasses.replace(run, spec=dataclasses.replace(run.spec, diffusion=diffusion))


def with_settings(exported: Bundle, changes: Sequence[str]) -> Bundle:
    """Returns the bundle with other sampling settings, given as STAGE.FIELD=VALUE."""
    stages = dict(exported.stages)
    for change in changes:
        target, equals, text = change.partition("=")
        name, dot, field = target.partition(".")
        if not (equals and dot):
            raise UserError(f"--set takes STAGE.FIELD=VALUE, not {change!r}")
        stage, kind = exported.stage(name), STAGES[name].sampling
        try:
            value = parse_json(text, change)
        except UserError:  # a word, such as ddim
            value = text
        if kind is None:
            raise UserError(f"--set {change}: stage {name} is not sampled")
        changed = with_new_names(kind, {field: value}, f"{name}.sampling")
        settings = to_dict(stages[name].spec.sampling or kind()) | changed
        sampling = build(kind, settings, f"{name}.sampling")
        spec = dataclasses.replace(stages[name].spec, sampling=sampling)
        stages[name] = dataclasses.replace(stage, spec=spec)
    return dataclasses.replace(exported, stages=stages)


def provenance(runs: Sequence[RunResult]) -> dict[str, Any]:
    """Returns the origin of a bundle: commit, date, and data, steps and hardware of each stage."""
    stages = {}
    for run in runs:
        # The digest of prior_samples is in "identity"; its path means nothing elsewhere.
        train = {k: v for k, v in run.config["train"].items() if k != "prior_samples"}
        stages[run.spec.stage] = {
            "steps": run.step,
            "of_steps": run.config["train"]["steps"],
            "seed": run.config["seed"],
            "data": {**run.config["data"], "fingerprint": data_fingerprint(run.config)},
            "optim": run.config["optim"],
            "train": train,
            "identity": run.config.get("identity"),
            "environment": list(run.environment),
            "params_sha256": params_digest(run.ema_params),
        }
    return {
        "git_commit": git_commit(),
        "unclip_jax": __version__,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "stages": stages,
    }


def data_fingerprint(config: Mapping[str, Any]) -> str | None:
    """Returns the data fingerprint that a run recorded; for an older run, that of the set today."""
    if "identity" in config:
        return config["identity"]["data"]
    try:
        return fingerprint(config["data"]["name"])
    except UserError:
        return None


def _tokenizer(runs: Sequence[RunResult]) -> Tokenizer | None:
    """Returns the CLIP run's vocabulary, or that of the CLIP bundle a run was trained with."""
    for run in runs:
        if (run.folder / "tokenizer.json").exists():
            return Tokenizer.load(run.folder / "tokenizer.json")
    for run in runs:
        clip = run.config.get("clip")
        if clip and clip != "random":
            return bundle.load(clip, stages=[CLIP]).tokenizer
    return None


def _check_clip(runs: Sequence[RunResult], say: Say) -> None:
    """Refuses a run that was trained with another CLIP than the one exported with it."""
    clip = next((run for run in runs if run.spec.stage == CLIP), None)
    if clip is None:
        return
    for run in runs:
        name = run.config.get("clip")
        if not name or name == "random" or not run.spec.row.needs_clip:
            continue
        if "identity" in run.config:
            if run.config["identity"]["clip"] not in clip.digests:
                raise UserError(
                    f"{run.folder} was trained against another CLIP than that of {clip.folder}"
                )
            continue
        try:
            recorded = bundle.read_manifest(bundle.resolve(name)).provenance
        except UserError as error:
            say(f"{run.folder}: its CLIP was not checked: {error}")
            continue
        if recorded.get("stages", {}).get("clip", {}).get("params_sha256") not in clip.digests:
            raise UserError(
                f"{run.folder} was trained against the CLIP in {name}, "
                f"which is not that of {clip.folder}"
            )


def _check_frozen(runs: Sequence[RunResult]) -> None:
    """Refuses a run that was trained on another stage than the one exported with it."""
    by_stage = {run.spec.stage: run for run in runs}
    for run in runs:
        name = run.spec.row.reads
        digest = (run.config.get("identity") or {}).get(name)
        if name in by_stage and digest is not None and digest not in by_stage[name].digests:
            raise UserError(
                f"{run.folder} was trained on another {name} than that of {by_stage[name].folder}"
            )


def _pca(runs: Sequence[RunResult], file: Path | None) -> Pca | None:
    """Returns the PCA of a file, else that of a run; it must be of these runs' CLIP."""
    folders = [run.folder / PCA_FILE for run in runs]
    file = file or next((path for path in folders if path.exists()), None)
    if file is None:
        return None
    pca = load_pca(file)
    known = {run.config.get("identity", {}).get("clip") for run in runs}
    known = known.union(*(run.digests for run in runs if run.spec.stage == CLIP))
    if pca.clip not in known:
        raise UserError(f"{file} is of another CLIP's embeddings than the CLIP of these runs")
    return pca
