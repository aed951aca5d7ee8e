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

from unclip_jax.checkpoint import bundle
from unclip_jax.core.errors import UserError
from unclip_jax.workflows import export
from unclip_jax.workflows.parts import Part, read_part

DTYPE = "float16"
RECORDS = ("metrics.jsonl", "timings.jsonl")  # of a run, for the model card


def write_stage(run: Path, out: Path, pca: Path | None) -> None:
    """Writes the bundle of one run, with the principal components of a file."""
    options = export.ExportOptions(dtype=DTYPE, allow_unfinished=True)
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
    parts = [read_part(source) for source in sources] + [_one_stage(other) for other in others]
    options = export.ExportOptions(license=export.LICENSE)
    made, runs = export.join([], parts, out, options, lambda line: None)
    if "clip" not in made.stages:
        raise UserError("none of the bundles has the stage clip, which a family needs")
    export.write_bundle(made, runs, out, metrics=metrics, notes=notes, overwrite=overwrite)
    return list(made.stages)


def _one_stage(other: str) -> Part:
    source, colon, stage = other.rpartition(":")
    if not colon:
        raise UserError(f"--add takes BUNDLE:STAGE, not {other!r}")
    part = read_part(source, stage)
    if stage not in part.records:
        raise UserError(f"{source} does not record how its stage {stage} was trained")
    return part


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
