"""`unclip info`: the contents of a bundle."""

from typing import Any

import click

from unclip_jax.checkpoint import bundle
from unclip_jax.checkpoint.manifest import Manifest
from unclip_jax.cli import common
from unclip_jax.core.config import to_dict
from unclip_jax.core.renamed import with_old_keys


@click.command()
@click.argument("model", default="emoji")
@click.option("--verify", is_flag=True, help="Check every hash, key and shape.")
@common.json_option
def info(model: str, verify: bool, as_json: bool) -> None:
    """Show the stages, parameters, license and provenance of a bundle.

    MODEL is a bundle folder or the name of a shipped bundle.

    Example: unclip info emoji --verify
    """
    folder = bundle.resolve(model)
    manifest = bundle.read_manifest(folder)
    if verify:
        bundle.load(folder, params_dtype=None, verify=True)
    if as_json:
        common.echo_json(_summary(manifest, verify))
        return
    for line in _lines(manifest):
        click.echo(line)
    if verify:
        click.echo("verified: every hash, key and shape is as bundle.json states")


def _summary(manifest: Manifest, verify: bool) -> dict[str, Any]:
    stages = {
        name: {"params": stage.params, "dtype": stage.dtype}
        for name, stage in manifest.stages.items()
    }
    keys = ("name", "license", "provenance", "metrics", "sampling", "cascade")
    written = to_dict(manifest)
    found = with_old_keys({key: written[key] for key in keys})
    return {"stages": stages, **found, "verified": verify}


def _lines(manifest: Manifest) -> list[str]:
    size = sum(entry.bytes for entry in manifest.files.values())
    lines = [f"{manifest.name}  ({size / 2**20:.2f} MiB)"]
    trainings = manifest.provenance.get("stages", {})
    total = 0
    for name, stage in manifest.stages.items():
        total += stage.params
        steps = trainings.get(name, {}).get("steps")
        trained = f"  {steps:,} steps" if steps is not None else ""
        lines.append(f"  {name:16} {stage.params:>13,} parameters  {stage.dtype}{trained}")
    lines.append(f"  {'all':16} {total:>13,} parameters")
    for step in manifest.cascade:
        nets = " + ".join(net.stage for net in step.nets)
        lines.append(f"  {step.input_size} -> {step.output_size} pixels: {nets}")
    for key in ("imported_from", "git_commit", "date", "unclip_jax"):
        if manifest.provenance.get(key):
            lines.append(f"  {key}: {manifest.provenance[key]}")
    lines.append(f"  license: {manifest.license or 'not stated'}")
    return lines
