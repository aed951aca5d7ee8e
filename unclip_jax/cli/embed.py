"""`unclip embed`: CLIP embeddings of a data set, and their principal components."""

import functools
from pathlib import Path
from typing import Any

import click

from unclip_jax.cli import common
from unclip_jax.cli.progress import Progress

PATIENCE = 7 * 24 * 3600  # seconds


@click.command(short_help="CLIP embeddings of a data set.")
@click.option("--bundle", "model", required=True, help="Bundle with the CLIP: folder or name.")
@click.option("--data", default="emoji", show_default=True, help="Data set name or folder.")
@click.option("--split", default="train", show_default=True)
@click.option("--concepts", default="all", show_default=True, help=common.CONCEPTS)
@click.option("--styles", default="", help="Styles that count, joined by commas; default: all.")
@click.option("--crop", type=click.Choice(["center", "pad"]), default="center", show_default=True)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the store.")
@click.option("--shard-size", default=4096, show_default=True, type=click.IntRange(1))
@click.option("--fit-pca", is_flag=True, help="Write pca.safetensors, once all shards are there.")
@click.option(
    "--prior-draws",
    type=click.IntRange(1),
    help="Write prior_samples.safetensors: so many samples of the bundle's prior a caption.",
)
@click.option("--prior", type=click.Choice(common.PRIORS), default="diffusion")
@common.seed_option
@common.hosts_options
@common.json_option
def embed(model: str, data: str, out: Path, as_json: bool, **options: Any) -> None:
    """Writes a store of (key, z_i, z_t, token ids); the same command goes on where it was stopped.

    On several hosts the same command runs on each of them, with an --out that all of them see: each
    writes its own shards, and when all are there the first one fits the PCA and draws.

    A prior trains on the store in place of pictures:
    unclip train … --config.data.embeddings=OUT --config.eval.embeddings=OUT_OF_THE_HELD_OUT_SPLIT

    --prior-draws is for a decoder that is to be trained on what the bundle's prior makes of the
    captions: unclip train … --config.train.prior_samples=OUT/prior_samples.safetensors

    Example: unclip embed --bundle runs/clip_bundle --data emoji --out runs/embeddings --fit-pca
    """
    hosts = {name: options.pop(name) for name in ("coordinator", "num_processes", "process_id")}
    common.use_compile_cache()
    from unclip_jax.core import distributed

    # A process that is done waits at the end for the first one, which may have much to do still.
    with distributed.joined(**hosts, farewell=PATIENCE), Progress() as progress:
        with distributed.locked_by_zero(out, "unclip embed"):
            result, line = _embed(model, data, out, options, progress)
        if not distributed.is_process_zero():
            return
    if as_json:
        common.echo_json(result)
    else:
        click.echo(line)


def _embed(
    model: str, data: str, out: Path, options: dict[str, Any], progress: Progress
) -> tuple[dict[str, Any], str]:
    """Fills the store and returns the JSON object and the line for people."""
    progress.phase(f"loading {model} and {data}")
    import jax

    from unclip_jax.checkpoint import bundle
    from unclip_jax.checkpoint.prior_samples import PRIOR_SAMPLES_FILE, save_prior_samples
    from unclip_jax.core import distributed
    from unclip_jax.data import embeddings
    from unclip_jax.data.sources import all_captions, fingerprint, load_source, select
    from unclip_jax.models.pca import components_for
    from unclip_jax.models.stages import CLIP, PRIORS
    from unclip_jax.workflows import embedding as store

    styles = tuple(s.strip() for s in options["styles"].split(",") if s.strip())
    source = select(
        load_source(data, options["split"]), concepts=options["concepts"], styles=styles
    )
    about = {key: options[key] for key in ("split", "concepts", "crop")}
    about |= {"name": data, "styles": list(styles), "fingerprint": fingerprint(data)}
    stages = [CLIP, PRIORS[options["prior"]]] if options["prior_draws"] else [CLIP]
    loaded = bundle.load(model, stages=stages)
    meta = store.store_meta(loaded, source, about, options["shard_size"])
    progress.phase("embedding")
    missing: list[int] = []
    distributed.run_on_process_zero(lambda: missing.extend(embeddings.begin_store(out, meta)))
    store.fill_store(
        loaded,
        source,
        out,
        meta,
        crop=options["crop"],
        process=(jax.process_index(), jax.process_count()),
        report=functools.partial(progress.report, "embedding pictures"),
    )
    made = len(missing)  # by all processes together
    result = {"store": str(out), "examples": meta.examples, "shards": meta.shards, "written": made}
    line = f"{out}  {meta.examples} pictures, {made} of {meta.shards} shards written"
    if not distributed.is_process_zero():
        return result, line
    embeddings.wait_for_shards(out, meta)
    if options["fit_pca"]:
        progress.phase("fitting the PCA")
        pca = store.fit_store_pca(out)
        result["components_99"] = components_for(pca, 0.99)
        line += f"; {result['components_99']} of {pca.width} components hold 99%"
    if options["prior_draws"]:
        samples = store.sample_captions(
            loaded,
            all_captions(source),
            options["prior_draws"],
            prior=options["prior"],
            seed=options["seed"],
            progress=progress.report,
        )
        save_prior_samples(out / PRIOR_SAMPLES_FILE, samples)
        result["captions"] = len(samples.tokens)
        line += f"; {options['prior_draws']} samples of {len(samples.tokens)} captions"
    return result, line
