"""`unclip export`: training runs to a bundle; runs or a bundle to other formats."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from unclip_jax.cli import common, program
from unclip_jax.cli.progress import Progress
from unclip_jax.core.errors import UserError


@click.command()
@click.argument("runs", nargs=-1, metavar="RUN|BUNDLE...", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=common.OUT, help="Folder to write.")
@click.option(
    "--format",
    "target",
    type=click.Choice(["bundle", "diffusers", "stablehlo"]),
    default="bundle",
    show_default=True,
    help="Format to write.",
)
@program.options
@click.option("--name", help="Name of the bundle [that of --out].")
@click.option(
    "--dtype",
    type=click.Choice(["float16", "bfloat16", "float32"]),
    help="Dtype of the stored parameters [float16; of a bundle, its own].",
)
@common.renamed_option(
    "--license",
    "--licence",
    help="License of the parameters [Apache-2.0; of a bundle's stages, its own].",
)
@click.option(
    "--metrics",
    multiple=True,
    type=click.Path(path_type=Path),
    help="JSON of held-out metrics, e.g. a report of `unclip eval`; repeatable.",
)
@click.option(
    "--notes", type=click.Path(path_type=Path), help="Markdown for the top of the model card."
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="STAGE.FIELD=VALUE",
    help="Change a sampling setting of a stage, e.g. decoder.guidance=3.0; repeatable.",
)
@click.option(
    "--pca",
    type=click.Path(path_type=Path),
    help="Principal components to include, from unclip embed --fit-pca [an AR prior's].",
)
@click.option("--unfinished", is_flag=True, help="Accept runs that have not reached their end.")
@click.option("--replace", is_flag=True, help="Of a stage that is given twice, take the later one.")
@common.json_option
@click.option("--overwrite", is_flag=True, help="Replace an existing bundle.")
def export(runs: tuple[Path, ...], out: Path, target: str, as_json: bool, **options: Any) -> None:
    """Export the EMA parameters of training runs, one per stage, as one bundle.

    A CLIP run alone gives the bundle that later stages are trained with. The bundle's README.md is
    a model card, with the loss curves in curves.png. A BUNDLE among the runs gives all of its
    stages, such as an imported CLIP; with --replace, a later one's stage takes the place of an
    earlier one's.

    The other formats take runs or a bundle. diffusers writes the folders of its unCLIP pipelines
    (Karlo's architecture), or a Hugging Face CLIPModel of a CLIP alone. stablehlo writes a program
    that runs without flax and without this package.

    Example: unclip export runs/clip runs/prior runs/decoder runs/upsampler --out mine
    """
    texts = {"--out": str(out), "--name": options["name"], "--license": options["license"]}
    for option, text in texts.items():
        if text is not None and not text.isprintable():
            raise UserError(f"{option} {text!r} is not printable text in UTF-8; type another")
    lowering = program.take_options(target, options)
    extras = {key: options.pop(key) for key in ("metrics", "pca", "notes")}
    if not runs:
        raise UserError("no run given; pass the workdirs of `unclip train`, or bundles")
    options["allow_unfinished"] = options.pop("unfinished")
    with Progress() as progress:
        progress.phase(f"reading {', '.join(map(str, runs))}")
        if target == "bundle":
            kind, parts = "bundle", {"stages": _to_bundle(runs, out, options, extras, progress)}
        elif target == "diffusers":
            kind, parts = "folder", {"parts": _to_diffusers(runs, out, options, progress)}
        else:
            parts = {"platforms": _to_program(runs, out, options, lowering, progress)}
            kind = "program"
    common.echo_written(kind, out, parts, as_json)


def _to_bundle(
    runs: Sequence[Path],
    out: Path,
    options: dict[str, Any],
    extras: dict[str, Any],
    progress: Progress,
) -> list[str]:
    """Writes a bundle and returns its stages."""
    from unclip_jax.workflows import export as workflow

    how = workflow.ExportOptions(**options)
    exported, results = workflow.assemble(runs, out, how, progress.say)
    extras = {**extras, "notes": _read_notes(extras["notes"])}
    progress.phase(f"writing {out}")
    workflow.write_bundle(exported, results, out, **extras, overwrite=how.overwrite)
    return list(exported.stages)


def _to_diffusers(
    sources: Sequence[Path], out: Path, options: dict[str, Any], progress: Progress
) -> list[str]:
    """Writes the folders of diffusers' pipelines and returns their names."""
    from unclip_jax.workflows import export as workflow

    how = workflow.ExportOptions(**options)
    return workflow.export_diffusers(sources, out, how, say=progress.announce)


def _to_program(
    sources: Sequence[Path],
    out: Path,
    options: dict[str, Any],
    lowering: dict[str, Any],
    progress: Progress,
) -> Sequence[str]:
    """Writes a StableHLO program and returns its platforms."""
    from unclip_jax.sampling.settings import SampleSettings
    from unclip_jax.workflows import export as workflow
    from unclip_jax.workflows.stablehlo import PLATFORMS, save_program

    how = workflow.ExportOptions(**options)
    exported = workflow.load_or_assemble(sources, out, how, progress.say)
    progress.phase(f"tracing and writing {out}")
    platforms = common.split_list(lowering["platforms"] or ",".join(PLATFORMS))
    settings = SampleSettings(
        size=lowering["size"], prior=lowering["prior"], dtype=lowering["compute"] or "float32"
    )
    num, overwrite = lowering["num"], how.overwrite
    save_program(
        exported, out, settings=settings, num=num, platforms=platforms, overwrite=overwrite
    )
    return platforms


def _read_notes(path: Path | None) -> str:
    try:
        return "" if path is None else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read --notes {path}: {error}") from error
