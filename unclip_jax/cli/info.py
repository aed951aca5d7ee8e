"""`unclip info`: the contents of a bundle."""

import shutil
from pathlib import Path
from typing import Any

import click

from unclip_jax.checkpoint import bundle
from unclip_jax.checkpoint.manifest import Manifest
from unclip_jax.cli import common
from unclip_jax.cli.completion import Model
from unclip_jax.core.config import to_dict
from unclip_jax.core.errors import UserError
from unclip_jax.core.renamed import with_old_keys
from unclip_jax.workflows.info_card import make_card, terminal_lines, write_page


@click.command()
@click.argument("model", type=Model(), default="emoji")
@click.option("--verify", is_flag=True, help="Check every hash, key and shape.")
@click.option(
    "--html",
    "page",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the card as a self-contained page to this new file.",
)
@common.json_option
def info(model: str, verify: bool, page: Path | None, as_json: bool) -> None:
    """Show the card of a bundle: what it draws, stages, sampling, origin, metrics, files.

    MODEL is a bundle folder or the name of a shipped bundle.

    Example: unclip info emoji --verify
    """
    if page is not None and page.exists():
        raise UserError(f"{page} exists; choose another --html")
    folder = bundle.resolve(model)
    manifest = bundle.read_manifest(folder)
    if verify:
        bundle.load(folder, params_dtype=None, verify=True)
    card = make_card(folder, manifest)
    if page is not None:
        write_page(card, page)
    if as_json:
        common.echo_json(_summary(manifest, verify))
        return
    lines = terminal_lines(card, shutil.get_terminal_size().columns) if page is None else []
    click.echo("\n".join(lines or [f"wrote {page}"]))
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
