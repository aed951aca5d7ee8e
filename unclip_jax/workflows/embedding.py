"""Writes a store of CLIP embeddings (data/embeddings.py), its PCA, and samples of a prior."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from unclip_jax.checkpoint import bundle
from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.checkpoint.pca_file import PCA_FILE, save_pca
from unclip_jax.checkpoint.prior_samples import (
    PRIOR_SAMPLES_FILE,
    PriorSamples,
    save_prior_samples,
)
from unclip_jax.checkpoint.runs import params_digest
from unclip_jax.core import distributed, prng
from unclip_jax.core.batching import map_batches
from unclip_jax.core.errors import UserError
from unclip_jax.core.trees import take
from unclip_jax.core.types import Cond
from unclip_jax.data import embeddings
from unclip_jax.data.embeddings import Record, StoreMeta
from unclip_jax.data.images import to_square
from unclip_jax.data.sources import Source, all_captions, fingerprint, load_source, select
from unclip_jax.models.pca import Moments, Pca, components_for, fit_pca, unit_moments
from unclip_jax.models.stages import CLIP, PRIORS
from unclip_jax.sampling import parallel
from unclip_jax.sampling.encode import encode_images, encode_text
from unclip_jax.sampling.monitor import Monitor, Progress
from unclip_jax.sampling.stage_sampler import StageSampler
from unclip_jax.workflows.reporter import Reporter

BATCH = 256  # images encoded per call

CONTEXT = 256
"""Minimum number of tokens per caption in a store: as many as the paper's priors read (table 3).

CLIP reads only its own context (77), and so does z_t. A prior with its own text transformer reads
more: sampling cuts a prompt at the prior's context, and so must its training.
"""


@dataclasses.dataclass(frozen=True)
class EmbedJob:
    """What to embed, with which CLIP, and where to store it.

    Attributes:
        model: bundle with the CLIP, and with the prior if `prior_draws` is given.
        concepts, styles: the selected subset of the split.
        crop: how an image is made square, "center" or "pad".
        out: folder of the store.
        shard_size: images per file.
        fit_pca: whether to write the principal components.
        prior_draws: samples of the prior per caption to write; None for none.
        prior: "diffusion" or "ar".
    """

    model: str
    data: str
    split: str
    concepts: str
    styles: tuple[str, ...]
    crop: str
    out: Path
    shard_size: int
    fit_pca: bool
    prior_draws: int | None
    prior: str
    seed: int


def write_store(job: EmbedJob, reporter: Reporter) -> dict[str, Any]:
    """Writes the missing shards of a store; process 0 then fits the PCA and draws from the prior.

    Returns:
        The JSON result; on processes other than 0 without PCA and samples.
    """
    with distributed.locked_by_zero(job.out, "unclip embed"):
        source = select(load_source(job.data, job.split), concepts=job.concepts, styles=job.styles)
        about = {"split": job.split, "concepts": job.concepts, "crop": job.crop, "name": job.data}
        about |= {"styles": list(job.styles), "fingerprint": fingerprint(job.data)}
        stages = [CLIP, PRIORS[job.prior]] if job.prior_draws else [CLIP]
        model = bundle.load(job.model, stages=stages)
        meta = store_meta(model, source, about, job.shard_size)
        reporter.phase("embedding")
        missing: list[int] = []
        begin = lambda: missing.extend(embeddings.begin_store(job.out, meta))  # noqa: E731
        distributed.run_on_process_zero(begin)
        process = (jax.process_index(), jax.process_count())
        report = functools.partial(reporter.report, "embedding images")
        fill_store(model, source, job.out, meta, crop=job.crop, process=process, report=report)
        result = {"store": str(job.out), "examples": meta.examples, "shards": meta.shards}
        result["written"] = len(missing)  # by all processes together
        if distributed.is_process_zero():
            embeddings.wait_for_shards(job.out, meta)
            result |= _finish_store(job, model, source, reporter)
        return result


def _finish_store(
    job: EmbedJob, model: Bundle, source: Source, reporter: Reporter
) -> dict[str, Any]:
    """Writes what needs the complete store; returns its part of the JSON result."""
    result = {}
    if job.fit_pca:
        reporter.phase("fitting the PCA")
        pca = fit_store_pca(job.out)
        result |= {"components_99": components_for(pca, 0.99), "width": pca.width}
    if job.prior_draws:
        samples = sample_captions(
            model,
            all_captions(source),
            job.prior_draws,
            prior=job.prior,
            seed=job.seed,
            progress=reporter.report,
        )
        save_prior_samples(job.out / PRIOR_SAMPLES_FILE, samples)
        result |= {"captions": len(samples.tokens), "prior_draws": job.prior_draws}
    return result


def store_meta(
    model: Bundle, source: Source, data: Mapping[str, Any], shard_size: int
) -> StoreMeta:
    """Returns the metadata of the store of a source, embedded with a bundle's CLIP."""
    spec = model.clip.spec.model
    if spec.vision is None or model.tokenizer is None:
        raise UserError(f"bundle {model.name!r} lacks an image tower or a vocabulary")
    return StoreMeta(
        clip=params_digest(model.clip.params),
        data=dict(data),
        width=spec.embed_dim,
        context=max(spec.text.context, CONTEXT),
        examples=len(source),
        shard_size=shard_size,
    )


def fill_store(
    model: Bundle,
    source: Source,
    folder: Path,
    meta: StoreMeta,
    *,
    crop: str = "center",
    process: tuple[int, int] = (0, 1),
    report: Callable[[int, int], None] | None = None,
) -> int:
    """Writes the missing shards of this process; returns how many it wrote.

    Args:
        process: index and count; process p writes the shards p, p + count, …
        report: called with (images done, images to do).
    """
    index, count = process
    if jax.process_index() > 0:
        embeddings.wait_for_store(folder)
    if (folder / embeddings.META).exists():  # a resumed store keeps its context
        meta = dataclasses.replace(meta, context=embeddings.read_meta(folder).context)
    missing = embeddings.begin_store(folder, meta)
    mine = [shard for shard in missing if shard % count == index]
    total, done = sum(len(meta.members(shard)) for shard in mine), 0
    for shard in mine:
        records = _records(model, source, meta.members(shard), crop, meta.context)
        embeddings.write_shard(folder, shard, meta, records)
        done += len(meta.members(shard))
        if report is not None:
            report(done, total)
    return len(mine)


def _records(
    model: Bundle, source: Source, members: range, crop: str, context: int
) -> Iterator[Record]:
    spec = model.clip.spec.model
    side = spec.vision.image_size
    for start in range(members.start, members.stop, BATCH):
        examples = [source[i] for i in range(start, min(start + BATCH, members.stop))]
        images = np.stack([to_square(e["image"], side, crop=crop) for e in examples])
        image_emb = encode_images(model, images)
        captions = sorted({caption for e in examples for caption in e["captions"]})
        if not captions:
            continue
        text = encode_text(model, captions)
        tokens = model.tokenizer.encode(captions, context).tokens
        row = {caption: i for i, caption in enumerate(captions)}
        for example, z in zip(examples, image_emb, strict=True):
            for number, caption in enumerate(example["captions"]):
                at = row[caption]
                yield Record(
                    key=f"{example['key']}#{number}",
                    image_emb=np.asarray(z, np.float32),
                    text_emb=np.asarray(text.text_emb[at], np.float32),
                    tokens=np.asarray(tokens[at], np.int32),
                )


def sample_captions(
    model: Bundle,
    captions: Sequence[str],
    draws: int,
    *,
    prior: str,
    seed: int = 0,
    progress: Progress | None = None,
) -> PriorSamples:
    """Draws image embeddings of each caption from a bundle's prior, with the bundle's settings.

    Args:
        draws: embeddings per caption.
        prior: "diffusion" or "ar".
    """
    name = PRIORS[prior]
    sampler = StageSampler(model, name, monitor=Monitor(progress))
    root, empty = prng.root_key(seed), encode_text(model, [""])
    share = max(1, BATCH * parallel.device_count() // draws)  # captions per call

    def draw(chosen: list[int]) -> dict[str, np.ndarray]:
        text = encode_text(model, [captions[i] for i in chosen])
        rows, numbers = np.divmod(np.arange(len(chosen) * draws), draws)
        keys = prng.image_keys(root, np.asarray(chosen)[rows], numbers)
        z = sampler(Cond(text=take(text, rows)), keys, uncond_text=empty)
        image_emb = z.astype(np.float32).reshape(len(chosen), draws, -1)
        return {"tokens": np.asarray(text.clip_tokens, np.int32), "image_emb": image_emb}

    found = map_batches(draw, range(len(captions)), min(share, len(captions)))
    return PriorSamples(clip=params_digest(model.clip.params), **found)


def fit_store_pca(folder: Path) -> Pca:
    """Fits the PCA of a complete store and writes it to the store's folder.

    Moments are summed shard by shard in float64; every image counts once.
    """
    meta = embeddings.read_meta(folder)
    moments = Moments.zero(meta.width)
    for shard in range(meta.shards):
        records = embeddings.read_shard(folder, shard, meta)
        rows = [record.image_emb for record in records if record.key.endswith("#0")]
        if rows:
            moments = moments + unit_moments(np.stack(rows))
    if moments.count < 2:
        raise UserError(f"{folder} has {moments.count} images, too few for a PCA")
    pca = fit_pca(moments, meta.clip)
    save_pca(folder / PCA_FILE, pca)
    return pca
