"""Bundles of one stage, and of a family made of them.

    python -m tools.turns.bundles RUN OUT [PCA]

writes the EMA parameters of a run, finished or not, in float16, and

    python -m tools.turns.bundles --family OUT BUNDLE...

joins the bundles of stages. It is a process of its own: the one that watches the time must not wait
for JAX.
"""

import dataclasses
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unclip_jax.checkpoint import bundle
from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.checkpoint.runs import RunResult
from unclip_jax.core.errors import UserError
from unclip_jax.workflows import export
from unclip_jax.workflows.model_card import read_metrics, write_card

DTYPE = "float16"
RECORDS = ("metrics.jsonl", "timings.jsonl")  # of a run, for the model card


def write_stage(run: Path, out: Path, pca: Path | None) -> None:
    """Writes the bundle of one run, with the principal components of a file."""
    options = export.ExportOptions(dtype=DTYPE, allow_unfinished=True, license="Apache-2.0")
    made, _ = export.assemble([run], out, options, lambda line: None)
    if pca is not None:
        from unclip_jax.checkpoint.pca_file import load_pca

        made = dataclasses.replace(made, pca=load_pca(pca))
    bundle.save(made, out, overwrite=True, write_extra=lambda folder: _keep_records(run, folder))


def _keep_records(run: Path, folder: Path) -> None:
    for name in RECORDS:
        if (run / name).is_file():
            shutil.copyfile(run / name, folder / name)


def write_family(
    sources: Sequence[Path],
    out: Path,
    *,
    others: Sequence[str] = (),
    metrics: Sequence[Path] = (),
    notes: str = "",
    overwrite: bool = False,
) -> list[str]:
    """Writes one bundle of the bundles of its stages, with its model card; returns its stages.

    Args:
        sources: bundles whose stages are all taken; one of them, or of `others`, has the CLIP.
        others: BUNDLE:STAGE, single stages of other bundles.
        metrics, notes: as of `unclip export`.

    Raises:
        UserError: two have the same stage, or one was trained against another CLIP.
    """
    loaded = [(source, bundle.load(source, params_dtype=None)) for source in sources]
    loaded += [_one_stage(other) for other in others]
    parts = [part for _, part in loaded]
    names = [name for part in parts for name in part.stages]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"two bundles have the stage {twice[0]}; name only one of them")
    stages = _merged(part.stages for part in parts)
    clip = next((part for part in parts if "clip" in part.stages), None)
    if clip is None:
        raise UserError("none of the bundles has the stage clip, which a family needs")
    known = bundle.clip_digests(clip)
    for part in parts:
        for name, about in part.provenance.get("stages", {}).items():
            used = (about.get("identity") or {}).get("clip")
            if used is not None and used not in known:
                raise UserError(f"stage {name} was trained against another CLIP; train it anew")
    merged = dataclasses.replace(
        clip,
        name=out.resolve().name,
        stages=stages,
        cascade=bundle.cascade_of(stages),
        provenance={**clip.provenance, "stages": _merged(p.provenance["stages"] for p in parts)},
        arrays=_merged(part.arrays for part in parts),
        pca=next((part.pca for part in parts if part.pca is not None), None),
    )
    merged = dataclasses.replace(merged, metrics=read_metrics(metrics))
    runs = [run for source, part in loaded for run in recorded_runs(source, part)]
    runs.sort(key=lambda run: list(stages).index(run.spec.stage))
    card = lambda folder: write_card(folder, merged, runs, notes)  # noqa: E731
    bundle.save(merged, out, overwrite=overwrite, write_extra=card)
    return list(stages)


def _one_stage(other: str) -> tuple[Path, Bundle]:
    source, colon, stage = other.rpartition(":")
    if not colon:
        raise UserError(f"--add takes BUNDLE:STAGE, not {other!r}")
    found = bundle.load(source, stages=[stage], params_dtype=None)
    kept = {key: array for key, array in found.arrays.items() if key.startswith(f"{stage}.")}
    about = found.provenance.get("stages", {}).get(stage)
    if about is None:
        raise UserError(f"{source} does not record how its stage {stage} was trained")
    provenance = {**found.provenance, "stages": {stage: about}}
    pca = found.pca if stage == "prior_ar" else None
    only = {"stages": {stage: found.stages[stage]}, "arrays": kept, "pca": pca}
    return Path(source), dataclasses.replace(found, provenance=provenance, **only)


def recorded_runs(folder: Path, part: Bundle) -> list[RunResult]:
    """Returns what a bundle records of the runs of its stages; curves are those in its folder."""
    runs = []
    for name, about in part.provenance["stages"].items():
        stage, environment = part.stages[name], tuple(about.get("environment") or ())
        run = RunResult(folder, about, stage.spec, about["steps"], stage.params, environment, {})
        runs.append(run)
    return runs


def _merged(parts: Any) -> dict[str, Any]:
    return {key: value for part in parts for key, value in part.items()}


def main(words: Sequence[str]) -> None:
    """Writes the bundle of one run, or of a family."""
    paths = [Path(word) for word in words if word != "--family"]
    try:
        if words[0] == "--family":
            write_family(paths[1:], paths[0])
        else:
            write_stage(paths[0], paths[1], paths[2] if paths[2:] else None)
    except UserError as error:
        sys.exit(f"turns: error: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
