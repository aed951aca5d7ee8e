"""`unclip data`: prepare, ingest and show captioned sets."""

import functools
import json
import shlex
from pathlib import Path
from typing import Any

import click

from unclip_jax.cli import common
from unclip_jax.cli.common import (
    CONCEPTS,
    FEW,
    echo_json,
    json_option,
    renamed_option,
    seed_option,
    split_list,
)
from unclip_jax.cli.progress import Progress
from unclip_jax.core.errors import UserError
from unclip_jax.core.files import cache_folder, scratch_for


@click.group(no_args_is_help=False)
def data() -> None:
    """Prepare, ingest and show data sets of captioned images.

    Example: unclip data prepare emoji
    """


@data.command()
@click.argument("name")
@click.option("--out", type=common.OUT, help="Folder to write [data folder/NAME].")
@click.option(
    "--size", default=256, show_default=True, type=click.IntRange(16, 2048), help="Pixels."
)
@click.option("--styles", help="Styles to draw, joined by commas [all eight].")
@click.option(
    "--pairs",
    default=0,
    show_default=True,
    type=click.IntRange(0, 100_000),
    help='Images of two things ("a cat and a dog") to add in each style.',
)
@click.option(
    "--packages",
    type=common.OUT,
    help="Folder of npm tarballs; missing ones are downloaded [cache folder].",
)
@click.option("--overwrite", is_flag=True, help="Replace the set in --out.")
@json_option
def prepare(
    name: str,
    out: Path | None,
    size: int,
    styles: str | None,
    pairs: int,
    packages: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Download and build a data set by NAME: emoji. Needs npm.

    Example: unclip data prepare emoji --out ./emoji
    """
    from unclip_jax.data.sets.emoji import STYLES
    from unclip_jax.data.sets.prepare import prepare_emoji
    from unclip_jax.data.sources import data_root, is_procedural

    if is_procedural(name):
        raise UserError(
            f"{name} is procedural and needs no preparation; use it with data.name={name}"
        )
    if name != "emoji":
        raise UserError(
            f"no recipe for {name!r}, only for emoji; for your own data: unclip data ingest"
        )
    with Progress("image") as progress:
        progress.phase("fetching and reading the packages")
        summary = prepare_emoji(
            out or data_root() / name,
            packages=packages or cache_folder() / "npm",
            size=size,
            styles=STYLES if styles is None else split_list(styles),
            pairs=pairs,
            overwrite=overwrite,
            report=functools.partial(progress.report, "drawing"),
        )
    if as_json:
        echo_json(summary)
        return
    for split, counts in summary["images"].items():
        parts = ", ".join(f"{n} {style}" for style, n in counts.items())
        total, concepts = sum(counts.values()), summary["concepts"][split]
        click.echo(f"{split}: {total} images ({parts}), {concepts} concepts")
    if summary["broken"]:
        click.echo(f"left out, not drawable: {len(summary['broken'])} ({summary['broken'][0]} ...)")
    click.echo(f"written to {summary['folder']}; attribution in README.md and LICENSES.json there")


@data.command()
@click.argument("source", metavar="SRC")
@click.option("--out", required=True, type=common.OUT, help="Folder to write.")
@click.option(
    "--test-share",
    default=0.02,
    show_default=True,
    type=click.FloatRange(0, 1, max_open=True),
    help="Share of the images to hold out, as split test.",
)
@renamed_option(
    "--license",
    "--licence",
    default="unknown",
    show_default=True,
    help="License of the images, for the metadata.",
)
@click.option("--overwrite", is_flag=True, help="Replace the set in --out.")
@json_option
def ingest(
    source: str, out: Path, test_share: float, license: str, overwrite: bool, as_json: bool
) -> None:
    """Convert SRC to a data set to train on; unusable items are left out and reported.

    SRC is webdataset tars, a folder of tars or of images with .txt captions, a list of image paths
    and captions (.csv, .tsv, .jsonl, .parquet), a quoted pattern of such files, or tfds:NAME.

    Example: unclip data ingest "./cc12m/{00000..01242}.tar" --out ./cc12m-set
    """
    from unclip_jax.data.ingest import ingest as run

    with Progress("item") as progress:
        progress.phase(f"opening {source}")
        summary = run(
            source,
            out,
            test_share=test_share,
            license=license,
            overwrite=overwrite,
            report=progress.report,
        )
    if as_json:
        echo_json(summary)
        return
    click.echo(", ".join(f"{split}: {n} images" for split, n in summary["images"].items()))
    for why, n in summary["left_out"].items():
        names = summary["left_out_names"][why]
        more = f", and {n - len(names)} more" if n > len(names) else ""
        click.echo(f"left out: {n} {why}: {', '.join(names)}{more}")
    if 0 < summary["images"].get("test", 0) < FEW:
        held_out = summary["images"]["test"]
        click.echo(
            f"note: split test has only {held_out} image{'s' if held_out > 1 else ''}, too few to "
            "measure anything on; a larger --test-share holds out more"
        )
    click.echo(f"written to {summary['folder']}")
    folder = shlex.quote(summary["folder"])
    click.echo(f"next: unclip data show {folder}")
    click.echo(
        f"then: unclip train --config configs/own/clip.py --config.data.name={folder} "
        "--workdir runs/clip"
    )


@data.command()
@click.argument("name", metavar="DIR|NAME")
@click.option("--split", help="Split to show [the first one].")
@click.option(
    "--num",
    default=64,
    show_default=True,
    type=click.IntRange(1, 4096),
    help="Number of images on the sheet.",
)
@click.option("--out", type=common.OUT, help="PNG to write [./NAME-SPLIT.png].")
@click.option("--concepts", default="all", show_default=True, help=CONCEPTS)
@click.option("--styles", default="", help="Styles to show, separated by commas [all].")
@seed_option
@click.option("--overwrite", is_flag=True, help="Replace the PNG.")
@json_option
def show(
    name: str,
    split: str | None,
    num: int,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
    **choices: Any,
) -> None:
    """Write a labeled contact sheet of a data set, and print its statistics.

    Example: unclip data show emoji --concepts common --styles 3d,flat
    """
    from unclip_jax.data import images, sheet
    from unclip_jax.data.sources import load_source, select, split_sizes

    with Progress() as progress:
        progress.phase(f"reading {name}")
        splits = split_sizes(name)
        split = split or next(iter(splits))
        out = out or Path(f"{Path(name.partition(':')[0]).name}-{split}.png")
        if out.exists() and not overwrite:
            raise UserError(f"{out} exists; choose another --out or pass --overwrite")
        styles = split_list(choices["styles"])
        source = select(load_source(name, split), concepts=choices["concepts"], styles=styles)
        if len(source) == 0:
            raise UserError(f"{name} split {split} is empty")
        examples = [source[i] for i in sheet.sample_indices(len(source), num, choices["seed"])]
        labels = [" ".join((e["captions"] or ("",))[0].split()) for e in examples]
        image = sheet.contact_sheet([e["image"] for e in examples], labels)
        with scratch_for(out) as scratch:
            (scratch / "sheet.png").write_bytes(images.encode_png(image))
            (scratch / "sheet.png").replace(out)
        progress.phase("counting")
        found = {"splits": splits, "split": split, **sheet.statistics(source), "sheet": str(out)}
    if as_json:
        echo_json(found)
        return
    if set(found["styles"]) <= {""}:  # an ingested set has neither
        found = {key: value for key, value in found.items() if key not in ("styles", "concepts")}
    for key, value in found.items():
        text = json.dumps(value) if isinstance(value, dict) else value
        click.echo(f"{key.replace('_', ' ')}: {text}")
