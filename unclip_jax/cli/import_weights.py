"""`unclip import`: public weights to a bundle."""

from pathlib import Path
from typing import Any

import click

from unclip_jax.cli import common
from unclip_jax.cli.progress import Progress
from unclip_jax.core.files import refuse_taken


@click.command("import")
@click.argument("src", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=common.OUT, help="Folder to write.")
@click.option(
    "--dtype",
    type=click.Choice(["float16", "bfloat16", "float32"]),
    help="Dtype of the stored parameters [as in SRC].",
)
@click.option("--name", help="Name of the bundle [that of --out].")
@common.renamed_option(
    "--license", "--licence", help="License of the weights [Karlo: CreativeML Open RAIL-M]."
)
@click.option(
    "--clamp",
    type=click.FloatRange(min=0.0, min_open=True),
    help="Bound of the prior's prediction [the scheduler's; 10 for Karlo's own files].",
)
@common.json_option
@click.option("--overwrite", is_flag=True, help="Replace an existing bundle.")
def import_weights(src: Path, out: Path, **options: Any) -> None:
    """Import published weights as a bundle; the kind of SRC is detected.

    SRC is a folder of diffusers' Karlo components or of Karlo's own checkpoint files, a Hugging
    Face CLIP folder, or CLIP weights in OpenAI's or OpenCLIP's layout. PyTorch is not needed, and
    no code in the files is executed.

    Example: unclip import karlo-v1-alpha --out karlo --dtype bfloat16
    """
    from unclip_jax.checkpoint import bundle
    from unclip_jax.convert.import_weights import import_weights

    refuse_taken(out, "bundle.json", overwrite=options["overwrite"])  # before minutes of hashing

    with Progress() as progress:
        imported = import_weights(
            src,
            name=options["name"] or out.resolve().name,
            license=options["license"],
            clamp=options["clamp"],
            say=progress.announce,
        )
        progress.announce(f"writing {', '.join(imported.stages)}")
        bundle.save(imported, out, dtype=options["dtype"], overwrite=options["overwrite"])
    common.echo_written("bundle", out, {"stages": list(imported.stages)}, options["as_json"])
