"""Assembles a bundle from training runs and other bundles' stages, with what belongs to them."""

import dataclasses
import datetime
from collections.abc import Callable, Mapping, Sequence, Set
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
from unclip_jax.workflows.parts import Part, check_parts, is_bundle, license_of, read_part

Say = Callable[[str], None]
"""Takes a line for the user."""

LICENSE = "Apache-2.0"  # of parameters that a run trained, unless the user says otherwise


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """How runs become a bundle.

    Attributes:
        name: of the bundle; None for the name of its folder.
        dtype: of the stored parameters; None for float16, or for what a given bundle has.
        license: of the parameters; None for LICENSE, and for a given bundle's stages its own.
        changes: sampling settings to change, as STAGE.FIELD=VALUE.
        allow_unfinished: accept runs that have not reached their last step.
        overwrite: replace what an earlier export wrote.
        replace: of a stage that several sources give, take that of the last; else it is an error.
    """

    name: str | None = None
    dtype: str | None = None
    license: str | None = None
    changes: tuple[str, ...] = ()
    allow_unfinished: bool = False
    overwrite: bool = False
    replace: bool = False


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
        runs: those of the card, as `assemble` returned them.
        metrics: JSON files to include, such as the reports of `unclip eval`.
        pca: file of principal components; None for those of a run or bundle that has some.
        notes: Markdown for the top of the model card.
    """
    found = _pca(exported, runs, pca)
    exported = dataclasses.replace(exported, metrics=read_metrics(metrics), pca=found)
    card = lambda folder: write_card(folder, exported, runs, notes)  # noqa: E731
    bundle.save(exported, out, overwrite=overwrite, write_extra=card)


def export_diffusers(
    sources: Sequence[Path], out: Path, options: ExportOptions, *, say: Say
) -> list[str]:
    """Writes one bundle, or runs, as the folders of diffusers' pipelines; returns their names."""
    kinds = {"dtype": options.dtype, "overwrite": options.overwrite, "say": say}
    if (
        len(sources) == 1 and is_bundle(sources[0]) and not options.changes
    ):  # one stage in memory at a time
        return write_diffusers(bundle.resolve(str(sources[0])), out, **kinds)
    with scratch_for(out) as scratch:
        exported = load_or_assemble(sources, out, options, say)
        return write_diffusers(bundle.save(exported, scratch / "bundle"), out, **kinds)


def load_or_assemble(
    sources: Sequence[Path], out: Path, options: ExportOptions, say: Say
) -> Bundle:
    """Returns the one bundle that is given, its parameters as stored, else the bundle of runs."""
    if len(sources) > 1 or not is_bundle(sources[0]):
        return assemble(sources, out, options, say)[0]
    given = bundle.load(sources[0], params_dtype=None)
    dtypes = {} if options.dtype is None else {"dtype": options.dtype}
    stages = {key: dataclasses.replace(stage, **dtypes) for key, stage in given.stages.items()}
    return with_settings(dataclasses.replace(given, stages=stages), options.changes)


def assemble(
    sources: Sequence[Path], out: Path, options: ExportOptions, say: Say
) -> tuple[Bundle, list[RunResult]]:
    """Reads runs and bundles; returns the bundle of their stages, and the runs of its card."""
    given: list[RunResult | Part] = []
    for source in sources:
        if is_bundle(source):
            given.append(read_part(source))
        else:
            given.append(_checked(read_run(source), options.allow_unfinished, say))
    if options.replace:
        given = last_of_each_stage(given)
    runs = [one for one in given if isinstance(one, RunResult)]
    parts = [one for one in given if isinstance(one, Part)]
    return join(runs, parts, out, options, say)


def last_of_each_stage(given: Sequence[RunResult | Part]) -> list[RunResult | Part]:
    """Leaves each stage with the last source that gives it, and out what then gives none."""
    names = [
        tuple(one.bundle.stages) if isinstance(one, Part) else (one.spec.stage,) for one in given
    ]
    last = {name: number for number, own in enumerate(names) for name in own}
    kept = []
    for number, (one, own) in enumerate(zip(given, names, strict=True)):
        left = [name for name in own if last[name] == number]
        if left:
            kept.append(one.keeping(left) if isinstance(one, Part) else one)
    return kept


def join(
    runs: Sequence[RunResult], parts: Sequence[Part], out: Path, options: ExportOptions, say: Say
) -> tuple[Bundle, list[RunResult]]:
    """Returns the bundle of runs and of other bundles' stages, and the runs of its card.

    Raises:
        UserError: two have the same stage, or one was trained against another CLIP.
    """
    given = [(r.spec.stage, Stage(r.spec, r.ema_params, "float16"), r.folder) for r in runs]
    given += [(name, s, part.folder) for part in parts for name, s in part.bundle.stages.items()]
    stages: dict[str, Stage] = {}
    givers: dict[str, Path] = {}
    for name, stage, folder in sorted(given, key=lambda entry: STAGES[entry[0]].key_id):
        if name in stages:
            raise UserError(
                f"stage {name} is given twice, by {givers[name]} and by {folder}; pass only one, "
                "or --replace to take the later one"
            )
        givers[name] = folder
        stages[name] = dataclasses.replace(stage, dtype=options.dtype or stage.dtype)
    _check_clip(runs, parts, say)
    _check_frozen(runs, parts)
    arrays = {f"{r.spec.stage}.{key}": array for r in runs for key, array in r.arrays.items()}
    decoders = [part for part in parts if part.bundle.of_kind("decoder")]
    rounds = all(part.bundle.sampling.round_low_res for part in decoders)
    exported = Bundle(
        name=options.name or out.resolve().name,
        stages=stages,
        tokenizer=_tokenizer(runs, parts),
        license=license_of(options.license, LICENSE if runs else "", parts),
        provenance=provenance(runs, parts),
        sampling=SamplingDefaults(prior=default_prior(stages), round_low_res=rounds),
        cascade=cascade_of(stages),
        arrays=arrays | {key: x for part in parts for key, x in part.bundle.arrays.items()},
        pca=next((part.bundle.pca for part in parts if part.bundle.pca is not None), None),
    )
    recorded = [*runs, *(run for part in parts for run in part.runs)]
    recorded.sort(key=lambda run: run.spec.row.key_id)
    return with_settings(exported, options.changes), recorded


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


def provenance(runs: Sequence[RunResult], parts: Sequence[Part] = ()) -> dict[str, Any]:
    """Returns the origin of a bundle: commit, date, and data, steps and hardware of each stage.

    Stages of other bundles keep their record; "taken_from" has the origin of each.
    """
    stages: dict[str, Any] = {}
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
    for part in parts:
        stages |= part.records
    origins = {name: about for part in parts for name, about in part.origins.items()}
    taken = {"taken_from": origins} if parts else {}
    return taken | {
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


def _tokenizer(runs: Sequence[RunResult], parts: Sequence[Part]) -> Tokenizer | None:
    """Returns the CLIP's vocabulary, or that of the CLIP bundle a run was trained with."""
    for part in parts:
        if CLIP in part.bundle.stages:
            return part.bundle.tokenizer
    for run in runs:
        if (run.folder / "tokenizer.json").exists():
            return Tokenizer.load(run.folder / "tokenizer.json")
    for run in runs:
        clip = run.config.get("clip")
        if clip and clip != "random":
            return bundle.load(clip, stages=[CLIP]).tokenizer
    return next((p.bundle.tokenizer for p in parts if p.bundle.tokenizer is not None), None)


def _giver(
    runs: Sequence[RunResult], parts: Sequence[Part], stage: str
) -> tuple[Path, Set[str]] | None:
    """Returns the folder that gives a stage and the digests that identify it; None without one."""
    for run in runs:
        if run.spec.stage == stage:
            return run.folder, run.digests
    for part in parts:
        if stage in part.bundle.stages:
            return part.folder, part.digests(stage)
    return None


def _check_clip(runs: Sequence[RunResult], parts: Sequence[Part], say: Say) -> None:
    """Refuses a stage that was trained with another CLIP than the one exported with it."""
    found = _giver(runs, parts, CLIP)
    if found is None:
        return
    clip, known = found
    check_parts(parts, CLIP, known)
    for run in runs:
        name = run.config.get("clip")
        if not name or name == "random" or not run.spec.row.needs_clip:
            continue
        if "identity" in run.config:
            if run.config["identity"]["clip"] not in known:
                raise UserError(
                    f"{run.folder} was trained against another CLIP than that of {clip}"
                )
            continue
        try:
            recorded = bundle.read_manifest(bundle.resolve(name)).provenance
        except UserError as error:
            say(f"{run.folder}: its CLIP was not checked: {error}")
            continue
        if recorded.get("stages", {}).get("clip", {}).get("params_sha256") not in known:
            raise UserError(
                f"{run.folder} was trained against the CLIP in {name}, which is not that of {clip}"
            )


def _check_frozen(runs: Sequence[RunResult], parts: Sequence[Part]) -> None:
    """Refuses a stage that was trained on another one than that exported with it."""
    for name in {row.reads for row in STAGES.values() if row.reads is not None}:
        found = _giver(runs, parts, name)
        if found is not None:
            check_parts(parts, name, found[1])
    for run in runs:
        name = run.spec.row.reads
        digest = (run.config.get("identity") or {}).get(name)
        found = None if digest is None else _giver(runs, parts, name)
        if found is not None and digest not in found[1]:
            raise UserError(f"{run.folder} was trained on another {name} than that of {found[0]}")


def _pca(exported: Bundle, runs: Sequence[RunResult], file: Path | None) -> Pca | None:
    """Returns the PCA of a file, else that of a run or bundle; it must be of these runs' CLIP."""
    folders = [run.folder / PCA_FILE for run in runs]
    file = file or next((path for path in folders if path.exists()), None)
    pca = exported.pca if file is None else load_pca(file)
    if pca is None:
        return None
    known = {(run.config.get("identity") or {}).get("clip") for run in runs}
    known = known.union(*(run.digests for run in runs if run.spec.stage == CLIP))
    if CLIP in exported.stages:
        known |= bundle.clip_digests(exported)
    if pca.clip not in known:
        name = file or "the bundle's PCA"
        raise UserError(f"{name} is of another CLIP's embeddings than the CLIP of these runs")
    return pca
